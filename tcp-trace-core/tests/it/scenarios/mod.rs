//! What the kernel does, and what must be made of it.

mod aggregate;
mod births;
mod bounds;
mod close_wait;
mod connects;
mod endings;
mod filters;
mod half_open;
mod lifecycle;
mod loss;
mod obituaries;
mod owners;
mod requests;
mod stacks;
mod surveys;
mod time_wait;
mod tracepoint;
mod windows;
