//! One file per hook.

mod accepted;
mod aggregate_state;
mod cookies;
mod count_state;
mod first_read;
mod half_open;
mod holders;
mod last_close;
mod request_dropped;
mod request_queued;
mod request_timer;
mod set_state;
mod set_state_nested;
mod set_state_tracepoint;
mod stack_accepted;
mod stack_read;
mod stack_state;
mod syn_ack_retransmit;
mod time_wait;
