//! Events that did not arrive, and the balance that accounts for them.

use crate::check::{check, check_report};

#[test]
fn a_gap_in_a_connection_makes_the_next_duration_unknown_and_no_other() {
    check(
        "
        +0ms      CLOSE>SYN_SENT      ck=5 10.0.0.1:0>10.0.0.2:80    task=100:client
        +1ms      SYN_SENT>EST        ck=5 10.0.0.1:4000>10.0.0.2:80
        lost +5ms EST>FIN_WAIT1       ck=5 10.0.0.1:4000>10.0.0.2:80 task=100:client
        +6ms      FIN_WAIT1>FIN_WAIT2 ck=5 10.0.0.1:4000>10.0.0.2:80
        +8ms      FIN_WAIT2>CLOSE     ck=5 10.0.0.1:4000>10.0.0.2:80 done
        end +9ms
        report loss transitions processes",
        "
        +0.000 CLOSE>SYN_SENT      -     10.0.0.1:0>10.0.0.2:80    100/client/connect
        +1.000 SYN_SENT>EST        1.000 10.0.0.1:4000>10.0.0.2:80 100/client/connect
        +6.000 FIN_WAIT1>FIN_WAIT2 -     10.0.0.1:4000>10.0.0.2:80 100/client/connect
        +8.000 FIN_WAIT2>CLOSE     2.000 10.0.0.1:4000>10.0.0.2:80 100/client/connect
        loss: 5 = 4 + 0 + 1 balanced
        # The matrix is exact; a process has what arrived.
        transitions: EST>FIN_WAIT1=1 SYN_SENT>EST=1 FIN_WAIT1>FIN_WAIT2=1 FIN_WAIT2>CLOSE=1 CLOSE>SYN_SENT=1
        process 100/client: 4 live 0 SYN_SENT>EST=1 FIN_WAIT1>FIN_WAIT2=1 FIN_WAIT2>CLOSE=1 CLOSE>SYN_SENT=1",
    );
}

#[test]
fn a_self_transition_after_a_gap_does_not_pass_for_the_entry() {
    check(
        "
        +0ms      EST>FIN_WAIT1       ck=5 10.0.0.1:4000>10.0.0.2:80 task=100:client
        lost +1ms FIN_WAIT1>FIN_WAIT2 ck=5 10.0.0.1:4000>10.0.0.2:80
        +5ms      FIN_WAIT2>FIN_WAIT2 ck=5 10.0.0.1:4000>10.0.0.2:80 task=100:client
        +8ms      FIN_WAIT2>CLOSE     ck=5 10.0.0.1:4000>10.0.0.2:80 done",
        "
        +0.000 EST>FIN_WAIT1       - 10.0.0.1:4000>10.0.0.2:80 100/client/task
        +5.000 FIN_WAIT2>FIN_WAIT2 - 10.0.0.1:4000>10.0.0.2:80 100/client/task
        +8.000 FIN_WAIT2>CLOSE     - 10.0.0.1:4000>10.0.0.2:80 100/client/task",
    );
}

#[test]
fn a_connection_from_before_the_session_has_no_entry_time_and_no_owner() {
    check(
        "
        +1ms EST>CLOSE_WAIT      ck=5 10.0.0.1:80>10.0.0.2:4000 done
        +3ms CLOSE_WAIT>LAST_ACK ck=5 10.0.0.1:80>10.0.0.2:4000 done task=9:server",
        "
        +1.000 EST>CLOSE_WAIT      -     10.0.0.1:80>10.0.0.2:4000 -
        +3.000 CLOSE_WAIT>LAST_ACK 2.000 10.0.0.1:80>10.0.0.2:4000 9/server/task",
    );
}

#[test]
fn what_the_kernel_filtered_lost_and_missed_is_in_the_balance() {
    check_report(
        "
        session filter=netns:1
        +0ms          EST>CLOSE ck=1 10.0.0.1:80>10.0.0.2:4000 ns=1
        filtered +1ms EST>CLOSE ck=2 10.0.0.1:81>10.0.0.2:4000
        filtered +1ms EST>CLOSE ck=3 10.0.0.1:82>10.0.0.2:4000
        lost +2ms     EST>CLOSE ck=4 10.0.0.1:80>10.0.0.2:4001
        missed 3
        end +5ms
        report loss transitions",
        "
        loss: 7 = 1 + 2 + 4 balanced missed=3
        transitions: EST>CLOSE=2",
    );
}

#[test]
fn a_lost_event_is_no_transition_of_a_filter_that_user_space_applies() {
    check_report(
        "
        session filter=local:80
        +0ms          EST>CLOSE ck=1 10.0.0.1:80>10.0.0.2:4000
        filtered +1ms EST>CLOSE ck=2 10.0.0.1:81>10.0.0.2:4000
        filtered +1ms EST>CLOSE ck=3 10.0.0.1:82>10.0.0.2:4000
        lost +2ms     EST>CLOSE ck=4 10.0.0.1:80>10.0.0.2:4001
        missed 3
        end +5ms
        report loss transitions",
        "
        loss: 7 = 1 + 2 + 4 balanced missed=3
        transitions: EST>CLOSE=1",
    );
}

#[test]
fn an_event_that_was_emitted_and_never_arrived_upsets_the_balance_at_the_end() {
    // The kernel counts an event of which the stream says nothing.
    let mut run = String::from("+0ms EST>CLOSE ck=1 10.0.0.1:80>10.0.0.2:4000\n");
    run += "vanished +0ms EST>CLOSE ck=2 10.0.0.1:80>10.0.0.2:4001\nend +5ms\nreport loss";
    check_report(&run, "loss: 2 = 1 + 0 + 0 NOT BALANCED");
}

#[test]
fn kinds_do_not_balance_each_other_out() {
    check_report(
        "
        +0ms          EST>CLOSE      ck=1 10.0.0.1:80>10.0.0.2:4000
        uncounted +0ms EST>CLOSE      ck=2 10.0.0.1:80>10.0.0.2:4001
        vanished +0ms EST>CLOSE_WAIT ck=3 10.0.0.1:80>10.0.0.2:4002
        end +5ms
        report loss",
        "loss: 2 = 2 + 0 + 0 NOT BALANCED",
    );
}

#[test]
fn while_the_stream_runs_events_may_arrive_after_the_counters_were_read() {
    check_report(
        "
        +0ms     EST>CLOSE ck=1 10.0.0.1:80>10.0.0.2:4000
        counters +1ms
        +2ms     EST>CLOSE ck=2 10.0.0.1:80>10.0.0.2:4001
        report loss
        +3ms     EST>CLOSE ck=3 10.0.0.1:80>10.0.0.2:4002
        counters +4ms
        report loss
        end +5ms
        report loss",
        "
        loss: 2 = 2 + 0 + 0 balanced
        loss: 1 = 1 + 0 + 0 balanced
        loss: 0 = 0 + 0 + 0 balanced",
    );
}

#[test]
fn times_that_run_backwards_make_no_negative_duration() {
    check(
        "
        +2ms CLOSE>SYN_SENT ck=5 10.0.0.1:0>10.0.0.2:80    task=100:client
        +1ms SYN_SENT>EST   ck=5 10.0.0.1:4000>10.0.0.2:80
        +4ms EST>CLOSE      ck=5 10.0.0.1:4000>10.0.0.2:80
        report window",
        "
        +2.000 CLOSE>SYN_SENT -     10.0.0.1:0>10.0.0.2:80    100/client/connect
        +1.000 SYN_SENT>EST   0.000 10.0.0.1:4000>10.0.0.2:80 100/client/connect
        +4.000 EST>CLOSE      3.000 10.0.0.1:4000>10.0.0.2:80 100/client/connect
        window: 0.004 s from 0",
    );
}

#[test]
fn the_counters_of_a_hostile_recording_overflow_nothing() {
    use tcp_trace_common::counters::Counters;
    use tcp_trace_core::{input::Input, record::CounterReading, time::Timestamp, tracker::Tracker};

    let mut counters = Box::new(Counters::ZERO);
    (counters.seen, counters.filtered, counters.lost) = ([u64::MAX; 256], [u64::MAX; 256], [u64::MAX; 256]);
    let reading = CounterReading { time: Timestamp(u64::MAX), missed: u64::MAX, counters };
    let mut tracker = Tracker::new(crate::check::session(), &Default::default(), Default::default()).unwrap();
    tracker.apply(&Input::Counters(reading), &mut tcp_trace_core::tracker::Output::default());
    let loss = tracker.report().loss;
    assert_eq!((loss.seen, loss.lost, loss.balanced), (u64::MAX, u64::MAX, false));
}
