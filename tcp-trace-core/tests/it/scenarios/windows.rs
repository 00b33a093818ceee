//! Reports at intervals: counts belong to their window, lives go on.

use crate::check::check_report;

#[test]
fn counts_start_anew_and_connections_go_on() {
    check_report(
        "
        +0ms    CLOSE>SYN_SENT ck=5 10.0.0.1:0>10.0.0.2:80    task=100:client
        +1ms    SYN_SENT>EST   ck=5 10.0.0.1:4000>10.0.0.2:80
        counters +1000ms
        report window loss transitions live processes connect
        counters +2000ms
        report window loss transitions live processes connect
        +2500ms EST>CLOSE      ck=5 10.0.0.1:4000>10.0.0.2:80 err=104
        end +3000ms
        report window loss states processes",
        "
        window: 1 s from 0
        loss: 2 = 2 + 0 + 0 balanced
        transitions: SYN_SENT>EST=1 CLOSE>SYN_SENT=1
        live: EST=1
        process 100/client: 2 live 1 SYN_SENT>EST=1 CLOSE>SYN_SENT=1
        connect 10.0.0.2:80: 1 [1.000]
        window: 1 s from 1000000000
        loss: 0 = 0 + 0 + 0 balanced
        transitions:
        live: EST=1
        process 100/client: 0 live 1
        window: 1 s from 2000000000
        loss: 1 = 1 + 0 + 0 balanced
        state EST: entered 0 live 0 time 1 [2499.000]
        state CLOSE: entered 1 live - time 0
        process 100/client: 1 live 0 EST>CLOSE=1",
    );
}

#[test]
fn an_event_held_back_over_a_report_belongs_to_the_window_that_accepts_it() {
    // The first window could not know; the second takes it over, so both balance.
    check_report(
        "
        session filter=pid:9
        +1ms  EST>CLOSE_WAIT      ck=5 10.0.0.1:80>10.0.0.2:4000 done
        counters +10ms
        report loss transitions
        +11ms CLOSE_WAIT>LAST_ACK ck=5 10.0.0.1:80>10.0.0.2:4000 done task=9:server
        end +20ms
        report loss transitions processes",
        "
        loss: 1 = 0 + 1 + 0 balanced
        transitions:
        loss: 2 = 2 + 0 + 0 balanced
        transitions: EST>CLOSE_WAIT=1 CLOSE_WAIT>LAST_ACK=1
        process 9/server: 2 live 1 EST>CLOSE_WAIT=1 CLOSE_WAIT>LAST_ACK=1",
    );
}

#[test]
fn loss_belongs_to_the_window_in_which_it_was_counted() {
    check_report(
        "
        lost +1ms     EST>CLOSE ck=5 10.0.0.1:80>10.0.0.2:4000
        missed 2
        counters +10ms
        report loss
        +11ms         EST>CLOSE ck=6 10.0.0.1:80>10.0.0.2:4001
        end +20ms
        report loss transitions",
        "
        loss: 3 = 0 + 0 + 3 balanced missed=2
        loss: 1 = 1 + 0 + 0 balanced
        transitions: EST>CLOSE=1",
    );
}

#[test]
fn percentiles_and_handshakes_are_those_of_the_window() {
    check_report(
        "
        +1ms  SYN_RECV>EST ck=1 10.0.0.1:80>10.0.0.2:4000 req=5
        counters +10ms
        report half_open
        +11ms SYN_RECV>EST ck=2 10.0.0.1:80>10.0.0.2:4001 req=7
        end +20ms
        report half_open live",
        "
        half_open: 1 [5.000] sock_ops=1 unknown=0 cookies=0
        half_open: 1 [7.000] sock_ops=1 unknown=0 cookies=0
        live: EST=2",
    );
}
