//! How connections lived and died. The sequences are those of the kernels 5.10 to 7.2, which agree on them.

use crate::check::check;

/// The obituaries that these events make.
#[track_caller]
fn closed(events: &str, expect: &str) {
    let expect: Vec<_> = expect.lines().map(|line| format!("closed {}", line.trim())).collect();
    let expect: Vec<_> = expect.iter().filter(|line| *line != "closed ").map(String::as_str).collect();
    crate::check::check_closed(&format!("session closed half_open\n{events}"), &expect.join("\n"));
}

const LISTENER: &str = "+0ms CLOSE>LISTEN ck=1 0.0.0.0:80>0.0.0.0:0 ns=1 task=100:server";
const SERVED: &str = "
    +0ms  CLOSE>LISTEN    ck=1 0.0.0.0:80>0.0.0.0:0      ns=1 task=100:server
    +10ms LISTEN>SYN_RECV ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1
    +10ms SYN_RECV>EST    ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1 req=5 srtt=5";
const CONNECTED: &str = "
    +10ms CLOSE>SYN_SENT  ck=3 10.0.0.1:0>10.0.0.9:80    ns=1 task=200:client
    +12ms SYN_SENT>EST    ck=3 10.0.0.1:4000>10.0.0.9:80 ns=1 srtt=2";

#[test]
fn client_closes_first() {
    closed(
        &format!(
            "{CONNECTED}
            {LISTENER}
            +11ms LISTEN>SYN_RECV ck=2 10.0.0.9:80>10.0.0.1:4000 ns=1
            +11ms SYN_RECV>EST    ck=2 10.0.0.9:80>10.0.0.1:4000 ns=1 req=1 srtt=1
            +20ms EST>FIN_WAIT1   ck=3 10.0.0.1:4000>10.0.0.9:80 ns=1 task=200:client
            +20ms EST>CLOSE_WAIT  ck=2 10.0.0.9:80>10.0.0.1:4000 ns=1 done
            +21ms FIN_WAIT1>FIN_WAIT2 ck=3 10.0.0.1:4000>10.0.0.9:80 ns=1
            +25ms CLOSE_WAIT>LAST_ACK ck=2 10.0.0.9:80>10.0.0.1:4000 ns=1 done task=100:server
            +25ms FIN_WAIT2>CLOSE ck=3 10.0.0.1:4000>10.0.0.9:80 ns=1 done bytes=501/102/0 retrans=1
            +26ms LAST_ACK>CLOSE  ck=2 10.0.0.9:80>10.0.0.1:4000 ns=1 done bytes=101/501/0"
        ),
        "
        +25.000 10.0.0.1:4000>10.0.0.9:80 200/client/task client active time_wait 15.000 EST=8.000 SYN_SENT=2.000 FIN_WAIT1=1.000 FIN_WAIT2=4.000 connect=2.000 bytes=100/500
        +26.000 10.0.0.9:80>10.0.0.1:4000 100/server/task server passive closed 16.000 EST=9.000 SYN_RECV=1.000 CLOSE_WAIT=5.000 LAST_ACK=1.000 half_open=1.000/sock_ops bytes=500/100",
    );
}

#[test]
fn simultaneous_close() {
    closed(
        &format!(
            "{CONNECTED}
            +20ms EST>FIN_WAIT1     ck=3 10.0.0.1:4000>10.0.0.9:80 ns=1 task=200:client
            +21ms FIN_WAIT1>CLOSING ck=3 10.0.0.1:4000>10.0.0.9:80 ns=1 done
            +22ms CLOSING>CLOSE     ck=3 10.0.0.1:4000>10.0.0.9:80 ns=1 done bytes=1/2/0"
        ),
        "+22.000 10.0.0.1:4000>10.0.0.9:80 200/client/task client simultaneous time_wait 12.000 EST=8.000 SYN_SENT=2.000 FIN_WAIT1=1.000 CLOSING=1.000 connect=2.000 bytes=0/0",
    );
}

#[test]
fn resets_by_the_peer() {
    closed(
        &format!("{SERVED}\n+30ms EST>CLOSE ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1 err=104 bytes=0/0/0"),
        "+30.000 10.0.0.1:80>10.0.0.2:4000 - server - reset_by_peer 25.000 EST=20.000 SYN_RECV=5.000 half_open=5.000/sock_ops bytes=0/0",
    );
    closed(
        &format!(
            "{SERVED}
            +20ms EST>CLOSE_WAIT   ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1 done
            +30ms CLOSE_WAIT>CLOSE ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1 done err=32"
        ),
        "+30.000 10.0.0.1:80>10.0.0.2:4000 - server passive reset_by_peer 25.000 EST=10.000 SYN_RECV=5.000 CLOSE_WAIT=10.000 half_open=5.000/sock_ops",
    );
}

#[test]
fn failed_attempts() {
    for (error, ending) in [(111, "refused"), (110, "timed_out"), (113, "unreachable"), (0, "given_up")] {
        closed(
            &format!(
                "+10ms CLOSE>SYN_SENT  ck=3 10.0.0.1:0>10.0.0.9:80    ns=1 task=200:client
                 +12ms SYN_SENT>CLOSE  ck=3 10.0.0.1:4000>10.0.0.9:80 ns=1 err={error} bytes=0/0/0"
            ),
            &format!(
                "+12.000 10.0.0.1:4000>10.0.0.9:80 200/client/connect client - {ending} 2.000 SYN_SENT=2.000 bytes=0/0"
            ),
        );
    }
}

#[test]
fn resets_by_the_program_itself() {
    let own = [
        ("done bytes=101/0/51", "CLOSE_WAIT", "aborted_unread", " bytes=0/100 unread=50"),
        ("done linger0 bytes=101/0/0", "CLOSE_WAIT", "linger_zero", " bytes=0/100"),
        ("done bytes=101/0/1", "CLOSE_WAIT", "disconnected", " bytes=0/100"),
    ];
    for (words, _, ending, rest) in own {
        closed(
            &format!(
                "{SERVED}
                +20ms EST>CLOSE_WAIT   ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1 done
                +30ms CLOSE_WAIT>CLOSE ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1 task=100:server {words}"
            ),
            &format!(
                "+30.000 10.0.0.1:80>10.0.0.2:4000 100/server/task server passive {ending} 25.000 EST=10.000 SYN_RECV=5.000 CLOSE_WAIT=10.000 half_open=5.000/sock_ops{rest}"
            ),
        );
    }
}

#[test]
fn never_accepted() {
    closed(
        &format!(
            "{SERVED}
            +20ms LISTEN>CLOSE ck=1 0.0.0.0:80>0.0.0.0:0 ns=1 task=100:server
            +20ms EST>CLOSE    ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1 nofile bytes=0/0/0"
        ),
        "+20.000 10.0.0.1:80>10.0.0.2:4000 100/server/listen server - never_accepted 15.000 EST=10.000 SYN_RECV=5.000 half_open=5.000/sock_ops bytes=0/0",
    );
}

#[test]
fn an_orphan_in_fin_wait2_whatever_its_self_transition() {
    closed(
        &format!(
            "{CONNECTED}
            +20ms EST>FIN_WAIT1       ck=3 10.0.0.1:4000>10.0.0.9:80 ns=1 task=200:client
            +21ms FIN_WAIT1>FIN_WAIT2 ck=3 10.0.0.1:4000>10.0.0.9:80 ns=1
            +30ms FIN_WAIT2>FIN_WAIT2 ck=3 10.0.0.1:4000>10.0.0.9:80 ns=1 task=200:client
            +31ms FIN_WAIT2>CLOSE     ck=3 10.0.0.1:4000>10.0.0.9:80 ns=1 nofile bytes=0/2/0"
        ),
        "+31.000 10.0.0.1:4000>10.0.0.9:80 200/client/task client active orphaned 21.000 EST=8.000 SYN_SENT=2.000 FIN_WAIT1=1.000 FIN_WAIT2=10.000 connect=2.000 bytes=0/0",
    );
}

#[test]
fn a_reconnected_socket_has_two_lives() {
    closed(
        &format!(
            "{CONNECTED}
            +20ms EST>CLOSE      ck=3 10.0.0.1:4000>10.0.0.9:80 ns=1 task=200:client bytes=0/1/0
            +30ms CLOSE>SYN_SENT ck=3 10.0.0.1:0>10.0.0.9:81    ns=1 task=200:client
            +31ms SYN_SENT>CLOSE ck=3 10.0.0.1:4001>10.0.0.9:81 ns=1 err=111"
        ),
        "
        +20.000 10.0.0.1:4000>10.0.0.9:80 200/client/task client - disconnected 10.000 EST=8.000 SYN_SENT=2.000 connect=2.000 bytes=0/0
        +31.000 10.0.0.1:4001>10.0.0.9:81 200/client/connect client - refused 1.000 SYN_SENT=1.000",
    );
}

#[test]
fn what_was_not_seen_from_the_beginning_is_incomplete() {
    closed(
        "+20ms EST>CLOSE_WAIT      ck=3 10.0.0.1:4000>10.0.0.9:80 ns=1 done
         +30ms CLOSE_WAIT>LAST_ACK ck=3 10.0.0.1:4000>10.0.0.9:80 ns=1 done task=200:client
         +31ms LAST_ACK>CLOSE      ck=3 10.0.0.1:4000>10.0.0.9:80 ns=1 done",
        "+31.000 10.0.0.1:4000>10.0.0.9:80 200/client/task - passive closed - CLOSE_WAIT=10.000 LAST_ACK=1.000 incomplete",
    );
}

#[test]
fn a_lost_transition_makes_it_incomplete() {
    closed(
        &format!(
            "{CONNECTED}
            lost +20ms EST>CLOSE_WAIT ck=3 10.0.0.1:4000>10.0.0.9:80 ns=1 done
            +30ms CLOSE_WAIT>LAST_ACK ck=3 10.0.0.1:4000>10.0.0.9:80 ns=1 done task=200:client
            +31ms LAST_ACK>CLOSE      ck=3 10.0.0.1:4000>10.0.0.9:80 ns=1 done"
        ),
        "+31.000 10.0.0.1:4000>10.0.0.9:80 200/client/task client passive closed 21.000 SYN_SENT=2.000 LAST_ACK=1.000 connect=2.000 incomplete",
    );
}

#[test]
fn the_perf_tracepoint_cannot_tell_how_it_ended() {
    check(
        "session closed tracepoint
        +10ms CLOSE>SYN_SENT sk=3 10.0.0.1:0>10.0.0.9:80    task=200:client
        +12ms SYN_SENT>CLOSE sk=3 10.0.0.1:4000>10.0.0.9:80",
        "
        +10.000 CLOSE>SYN_SENT - 10.0.0.1:0>10.0.0.9:80 200/client/connect
        +12.000 SYN_SENT>CLOSE 2.000 10.0.0.1:4000>10.0.0.9:80 200/client/connect
        closed +12.000 10.0.0.1:4000>10.0.0.9:80 200/client/connect client - - 2.000 SYN_SENT=2.000",
    );
}

/// A connection that a worker accepted, and another one was given, is reset.
const GIVEN_ON: &str = "session closed programs=last_close
    +0ms  CLOSE>LISTEN    ck=1 0.0.0.0:80>0.0.0.0:0      ns=1 task=100:server
    +10ms LISTEN>SYN_RECV ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1
    +10ms SYN_RECV>EST    ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1 srtt=5
    use read +12ms ck=2 task=101:worker
    +20ms EST>CLOSE       ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1 err=104";

#[test]
fn whoever_closes_what_was_reset_was_its_holder() {
    crate::check::check_closed(
        &format!("{GIVEN_ON}\n use close +25ms ck=2 task=102:other\n end +30ms\n report processes"),
        "
        closed +20.000 10.0.0.1:80>10.0.0.2:4000 102/other/task server - reset_by_peer 15.000 EST=10.000 SYN_RECV=5.000 half_open=5.000/srtt
        process 102/other: 3 live 0 EST>CLOSE=1 SYN_RECV>EST=1 LISTEN>SYN_RECV=1
        process 100/server: 1 live 1 CLOSE>LISTEN=1",
    );
}

#[test]
fn nobody_waits_for_ever_for_a_close() {
    crate::check::check_closed(
        &format!("{GIVEN_ON}\n counters +900ms\n counters +1100ms\n use close +1200ms ck=2 task=102:other"),
        "closed +20.000 10.0.0.1:80>10.0.0.2:4000 101/worker/accept server - reset_by_peer 15.000 EST=10.000 SYN_RECV=5.000 half_open=5.000/srtt",
    );
    let unread = GIVEN_ON.replace("use read +12ms ck=2 task=101:worker", "");
    crate::check::check_closed(
        &format!("{unread}\n end +40ms"),
        "closed +20.000 10.0.0.1:80>10.0.0.2:4000 - server - reset_by_peer 15.000 EST=10.000 SYN_RECV=5.000 half_open=5.000/srtt",
    );
}

#[test]
fn a_filter_by_process_waits_for_the_close() {
    let mine = GIVEN_ON.replace("session closed", "session filter=pid:102 closed");
    let mine = mine.replace("use read +12ms ck=2 task=101:worker", "");
    check(
        &format!("{mine}\n use close +25ms ck=2 task=102:other"),
        "
        +10.000 LISTEN>SYN_RECV - 10.0.0.1:80>10.0.0.2:4000 100/server/listen
        +10.000 SYN_RECV>EST 5.000 10.0.0.1:80>10.0.0.2:4000 100/server/listen
        +20.000 EST>CLOSE 10.000 10.0.0.1:80>10.0.0.2:4000 100/server/listen
        closed +20.000 10.0.0.1:80>10.0.0.2:4000 102/other/task server - reset_by_peer 15.000 EST=10.000 SYN_RECV=5.000 half_open=5.000/srtt",
    );
}
