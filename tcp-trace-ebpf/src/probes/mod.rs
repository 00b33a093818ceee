//! One file per hook.

mod half_open;
mod set_state;
mod set_state_nested;
mod set_state_tracepoint;
