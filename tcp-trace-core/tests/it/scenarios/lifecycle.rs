//! Whole lives of connections, in the order in which loopback shows them.

use tcp_trace_core::{report::DurationSummary, state::TcpState};

use crate::check::{check, check_report, last_report};

/// One connection from `listen()` to the listener's end; the client closes first.
const CLIENT_CLOSES_FIRST: &str = "
    +0ms     CLOSE>LISTEN         ck=1 sk=a0 127.0.0.1:80>0.0.0.0:0        ns=1 task=200:server
    +10ms    CLOSE>SYN_SENT       ck=2 sk=b0 127.0.0.1:0>127.0.0.1:80      ns=1 task=100/101:client
    +10.05ms SYN_SENT>EST         ck=2 sk=b0 127.0.0.1:4000>127.0.0.1:80   ns=1
    +10.06ms LISTEN>SYN_RECV      ck=3 sk=c0 127.0.0.1:80>127.0.0.1:4000   ns=1
    +10.08ms SYN_RECV>EST         ck=3 sk=c0 127.0.0.1:80>127.0.0.1:4000   ns=1 srtt=0.045
    +20ms    EST>FIN_WAIT1        ck=2 sk=b0 127.0.0.1:4000>127.0.0.1:80   ns=1 task=100/101:client
    +20.01ms EST>CLOSE_WAIT       ck=3 sk=c0 127.0.0.1:80>127.0.0.1:4000   ns=1 done
    +20.02ms FIN_WAIT1>FIN_WAIT2  ck=2 sk=b0 127.0.0.1:4000>127.0.0.1:80   ns=1
    +20.03ms FIN_WAIT2>CLOSE      ck=2 sk=b0 127.0.0.1:4000>127.0.0.1:80   ns=1
    +30.01ms CLOSE_WAIT>LAST_ACK  ck=3 sk=c0 127.0.0.1:80>127.0.0.1:4000   ns=1 done task=200:server
    +30.02ms LAST_ACK>CLOSE       ck=3 sk=c0 127.0.0.1:80>127.0.0.1:4000   ns=1 done
    +40ms    LISTEN>CLOSE         ck=1 sk=a0 127.0.0.1:80>0.0.0.0:0        ns=1 task=200:server
    end +41ms";

#[test]
fn every_transition_of_a_connection_has_its_time_and_its_owner() {
    check(
        CLIENT_CLOSES_FIRST,
        "
        +0.000  CLOSE>LISTEN        -       127.0.0.1:80>0.0.0.0:0       200/server/listen
        +10.000 CLOSE>SYN_SENT      -       127.0.0.1:0>127.0.0.1:80     100/client/connect
        +10.050 SYN_SENT>EST        0.050   127.0.0.1:4000>127.0.0.1:80  100/client/connect
        +10.060 LISTEN>SYN_RECV     -       127.0.0.1:80>127.0.0.1:4000  200/server/listen
        +10.080 SYN_RECV>EST        0.045   127.0.0.1:80>127.0.0.1:4000  200/server/listen
        +20.000 EST>FIN_WAIT1       9.950   127.0.0.1:4000>127.0.0.1:80  100/client/task
        +20.010 EST>CLOSE_WAIT      9.930   127.0.0.1:80>127.0.0.1:4000  200/server/listen
        +20.020 FIN_WAIT1>FIN_WAIT2 0.020   127.0.0.1:4000>127.0.0.1:80  100/client/task
        +20.030 FIN_WAIT2>CLOSE     0.010   127.0.0.1:4000>127.0.0.1:80  100/client/task
        +30.010 CLOSE_WAIT>LAST_ACK 10.000  127.0.0.1:80>127.0.0.1:4000  200/server/task
        +30.020 LAST_ACK>CLOSE      0.010   127.0.0.1:80>127.0.0.1:4000  200/server/task
        +40.000 LISTEN>CLOSE        40.000  127.0.0.1:80>0.0.0.0:0       200/server/task",
    );
}

#[test]
fn the_report_of_one_connection_counts_it_on_both_sides() {
    let input = format!(
        "{CLIENT_CLOSES_FIRST}\nreport loss transitions processes half_open listeners connect live window time_wait"
    );
    check_report(
        &input,
        "
        loss: 12 = 12 + 0 + 0 balanced
        transitions: EST>FIN_WAIT1=1 EST>CLOSE_WAIT=1 SYN_SENT>EST=1 SYN_RECV>EST=1 FIN_WAIT1>FIN_WAIT2=1 FIN_WAIT2>CLOSE=1 CLOSE>SYN_SENT=1 CLOSE>LISTEN=1 CLOSE_WAIT>LAST_ACK=1 LAST_ACK>CLOSE=1 LISTEN>SYN_RECV=1 LISTEN>CLOSE=1
        process 200/server: 7 live 0 EST>CLOSE_WAIT=1 SYN_RECV>EST=1 CLOSE>LISTEN=1 CLOSE_WAIT>LAST_ACK=1 LAST_ACK>CLOSE=1 LISTEN>SYN_RECV=1 LISTEN>CLOSE=1
        process 100/client: 5 live 0 EST>FIN_WAIT1=1 SYN_SENT>EST=1 FIN_WAIT1>FIN_WAIT2=1 FIN_WAIT2>CLOSE=1 CLOSE>SYN_SENT=1
        half_open: 1 [0.045] srtt=1 unknown=0 cookies=0
        listener 127.0.0.1:80 200/server: 1 [0.045] unknown=0 cookies=0
        connect 127.0.0.1:80: 1 [0.050]
        live:
        window: 0.041 s from 0
        # The client had its FIN acknowledged but not answered when the kernel put it away.
        time_wait: 0 orphaned 1",
    );
}

#[test]
fn the_server_may_close_first() {
    check(
        "
        +0ms SYN_RECV>EST        ck=3 sk=c0 10.0.0.1:80>10.0.0.2:4000 req=30
        +5ms EST>FIN_WAIT1       ck=3 sk=c0 10.0.0.1:80>10.0.0.2:4000 task=200:server
        +6ms FIN_WAIT1>FIN_WAIT2 ck=3 sk=c0 10.0.0.1:80>10.0.0.2:4000
        +7ms FIN_WAIT2>CLOSE     ck=3 sk=c0 10.0.0.1:80>10.0.0.2:4000 done
        report half_open time_wait",
        "
        +0.000 SYN_RECV>EST        30.000 10.0.0.1:80>10.0.0.2:4000 -
        +5.000 EST>FIN_WAIT1       5.000  10.0.0.1:80>10.0.0.2:4000 200/server/task
        +6.000 FIN_WAIT1>FIN_WAIT2 1.000  10.0.0.1:80>10.0.0.2:4000 200/server/task
        +7.000 FIN_WAIT2>CLOSE     1.000  10.0.0.1:80>10.0.0.2:4000 200/server/task
        half_open: 1 [30.000] sock_ops=1 unknown=0 cookies=0
        time_wait: 1 orphaned 0
        time_wait 200/server: 1",
    );
}

#[test]
fn both_may_open_at_once_and_then_syn_recv_is_real_time() {
    check(
        "
        session half_open
        +0ms   CLOSE>SYN_SENT    ck=2 sk=b0 10.0.0.1:5000>10.0.0.2:5000 task=100:peer
        +50ms  SYN_SENT>SYN_RECV ck=2 sk=b0 10.0.0.1:5000>10.0.0.2:5000
        +250ms SYN_RECV>EST      ck=2 sk=b0 10.0.0.1:5000>10.0.0.2:5000 srtt=200
        report half_open connect",
        "
        +0.000   CLOSE>SYN_SENT    -       10.0.0.1:5000>10.0.0.2:5000 100/peer/connect
        +50.000  SYN_SENT>SYN_RECV 50.000  10.0.0.1:5000>10.0.0.2:5000 100/peer/connect
        +250.000 SYN_RECV>EST      200.000 10.0.0.1:5000>10.0.0.2:5000 100/peer/connect
        # No listener was involved: this is an active open, and no half-open request.
        half_open: 0 unknown=0 cookies=0
        connect 10.0.0.2:5000: 1 [250.000]",
    );
}

#[test]
fn both_may_close_at_once() {
    check(
        "
        +0ms CLOSE>SYN_SENT    ck=2 sk=b0 10.0.0.1:5000>10.0.0.2:80 task=100:peer
        +1ms SYN_SENT>EST      ck=2 sk=b0 10.0.0.1:5000>10.0.0.2:80
        +3ms EST>FIN_WAIT1     ck=2 sk=b0 10.0.0.1:5000>10.0.0.2:80 task=100:peer
        +4ms FIN_WAIT1>CLOSING ck=2 sk=b0 10.0.0.1:5000>10.0.0.2:80 done
        +6ms CLOSING>CLOSE     ck=2 sk=b0 10.0.0.1:5000>10.0.0.2:80 done
        report time_wait",
        "
        +0.000 CLOSE>SYN_SENT    -     10.0.0.1:5000>10.0.0.2:80 100/peer/connect
        +1.000 SYN_SENT>EST      1.000 10.0.0.1:5000>10.0.0.2:80 100/peer/connect
        +3.000 EST>FIN_WAIT1     2.000 10.0.0.1:5000>10.0.0.2:80 100/peer/task
        +4.000 FIN_WAIT1>CLOSING 1.000 10.0.0.1:5000>10.0.0.2:80 100/peer/task
        +6.000 CLOSING>CLOSE     2.000 10.0.0.1:5000>10.0.0.2:80 100/peer/task
        time_wait: 1 orphaned 0
        time_wait 100/peer: 1",
    );
}

#[test]
fn closing_a_shut_down_socket_does_not_restart_its_time_in_fin_wait2() {
    check_report(
        "
        +0ms  CLOSE>SYN_SENT      ck=2 sk=b0 10.0.0.1:0>10.0.0.2:80    task=100:client
        +1ms  SYN_SENT>EST        ck=2 sk=b0 10.0.0.1:4000>10.0.0.2:80
        +2ms  EST>FIN_WAIT1       ck=2 sk=b0 10.0.0.1:4000>10.0.0.2:80 task=100:client
        +3ms  FIN_WAIT1>FIN_WAIT2 ck=2 sk=b0 10.0.0.1:4000>10.0.0.2:80
        +43ms FIN_WAIT2>FIN_WAIT2 ck=2 sk=b0 10.0.0.1:4000>10.0.0.2:80 task=100:client
        +53ms FIN_WAIT2>CLOSE     ck=2 sk=b0 10.0.0.1:4000>10.0.0.2:80 done
        end +53ms
        report states transitions loss",
        "
        state EST: entered 1 live 0 time 1 [1.000]
        state SYN_SENT: entered 1 live 0 time 1 [1.000]
        state FIN_WAIT1: entered 1 live 0 time 1 [1.000]
        state FIN_WAIT2: entered 1 live 0 time 1 [50.000]
        state CLOSE: entered 1 live - time 0
        transitions: EST>FIN_WAIT1=1 SYN_SENT>EST=1 FIN_WAIT1>FIN_WAIT2=1 FIN_WAIT2>FIN_WAIT2=1 FIN_WAIT2>CLOSE=1 CLOSE>SYN_SENT=1
        loss: 6 = 6 + 0 + 0 balanced",
    );
}

#[test]
fn a_self_transition_has_no_duration_of_its_own() {
    check(
        "
        +3ms  FIN_WAIT1>FIN_WAIT2 ck=2 sk=b0 10.0.0.1:4000>10.0.0.2:80
        +43ms FIN_WAIT2>FIN_WAIT2 ck=2 sk=b0 10.0.0.1:4000>10.0.0.2:80 task=100:client",
        "
        +3.000  FIN_WAIT1>FIN_WAIT2 - 10.0.0.1:4000>10.0.0.2:80 -
        +43.000 FIN_WAIT2>FIN_WAIT2 - 10.0.0.1:4000>10.0.0.2:80 100/client/task",
    );
}

#[test]
fn time_in_state_has_percentiles_by_nearest_rank() {
    // A hundred connections, of which the n-th is established for n ms.
    let mut input = String::new();
    for n in 1..=100 {
        let tuple = format!("ck={n} 10.0.0.1:80>10.0.0.2:{n}");
        input += &format!("+0ms SYN_RECV>EST {tuple} srtt=1\n+{n}ms EST>FIN_WAIT1 {tuple} task=9:x\n");
    }
    let report = last_report(&(input + "report"));
    let established = report.states[&TcpState::Established].duration;
    let DurationSummary { count, min_ns, p50_ns, p90_ns, p99_ns, max_ns, coarse } = established;
    assert_eq!(coarse, 0);
    assert_eq!((count, min_ns, max_ns), (100, Some(1_000_000), Some(100_000_000)));
    for (percentile, ms) in [(p50_ns, 50_u64), (p90_ns, 90), (p99_ns, 99)] {
        let error = percentile.unwrap().abs_diff(ms * 1_000_000);
        assert!(error <= ms * 1_000, "{percentile:?} is not within a thousandth of {ms} ms");
    }
}
