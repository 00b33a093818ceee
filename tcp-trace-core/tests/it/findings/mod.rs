//! What each rule finds, and what it leaves alone: events in, findings out.

mod close_wait_leak;
mod connect_failures;
mod framework;
mod port_exhaustion;
mod requests;
