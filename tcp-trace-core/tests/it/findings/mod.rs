//! What each rule finds, and what it leaves alone: events in, findings out.

pub(crate) mod close_wait_leak;
mod connect_failures;
mod cut;
mod fork_leak;
mod framework;
mod listeners;
mod port_exhaustion;
mod requests;
mod stuck_closing;
