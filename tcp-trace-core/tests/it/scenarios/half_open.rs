//! How long a request was half-open: the sources in their order, with the values that kernels showed (in ms;
//! the truth was measured from packets).

use crate::check::{check, check_report};

/// A child's handshake as its two events show it, microseconds apart whatever the peer's delay.
fn handshake(session: &str, facts: &str) -> String {
    format!(
        "
        session {session}
        +5000ms    LISTEN>SYN_RECV ck=9 sk=b0 10.0.0.1:80>10.0.0.2:4001
        +5000.03ms SYN_RECV>EST    ck=9 sk=b0 10.0.0.1:80>10.0.0.2:4001 {facts}
        report half_open"
    )
}

#[track_caller]
fn check_handshake(session: &str, facts: &str, expect: &str) {
    check_report(&handshake(session, facts), expect);
}

#[test]
fn without_sock_ops_a_handshake_without_retransmission_lasted_its_first_round_trip() {
    for srtt in ["250.3", "261.1", "700.4", "506.4"] {
        let expect = format!("half_open: 1 [{srtt}00] srtt=1 unknown=0 cookies=0");
        check_handshake("", &format!("srtt={srtt}"), &expect);
        // 6.7 and later also bring the timer's figures, which say nothing here.
        check_handshake("", &format!("srtt={srtt} rto=0/0"), &expect);
    }
}

#[test]
fn after_retransmissions_the_round_trip_is_ten_times_too_small_and_the_timer_counts() {
    // Two SYN-ACK retransmissions, 3300 ms: without and with TCP timestamps, on 6.12, 6.18 and 7.2.
    for (srtt, rto) in [("0", 3308), ("0", 3303), ("0", 3306), ("352", 3377), ("309", 3353), ("323", 3367)] {
        let facts = format!("srtt={srtt} retrans=2 rto=2/{rto}");
        check_handshake("", &facts, &format!("half_open: 1 [{rto}.000] rto=1 unknown=0 cookies=0"));
    }
}

#[test]
fn after_retransmissions_kernels_before_6_7_do_not_tell() {
    for facts in ["srtt=0 retrans=2", "srtt=341 retrans=2", "srtt=326 retrans=2"] {
        check_handshake("", facts, "half_open: 0 unknown=1 cookies=0");
    }
}

#[test]
fn a_repeated_syn_is_a_retransmission_that_no_timer_counted() {
    // The SYN-ACK was sent again because the client repeated its SYN: 900 ms, of which nothing tells.
    for facts in ["srtt=0 retrans=1 rto=0/0", "srtt=204 retrans=1 rto=0/0", "srtt=204 retrans=1"] {
        check_handshake("", facts, "half_open: 0 unknown=1 cookies=0");
    }
}

#[test]
fn a_timer_that_counted_only_some_of_the_retransmissions_does_not_tell() {
    check_handshake("", "srtt=0 retrans=3 rto=2/3303", "half_open: 0 unknown=1 cookies=0");
}

#[test]
fn a_syn_cookie_without_timestamps_leaves_neither_round_trip_nor_retransmission() {
    check_handshake("", "srtt=0 retrans=0", "half_open: 0 unknown=0 cookies=1");
    check_handshake("", "srtt=0 retrans=0 rto=0/0", "half_open: 0 unknown=0 cookies=1");
    check_handshake("half_open", "srtt=0 retrans=0 rto=0/0", "half_open: 0 unknown=0 cookies=1");
}

#[test]
fn sock_ops_knows_best_whatever_the_other_sources_say() {
    for (age, facts) in [
        ("250.3", "srtt=250.3"),
        ("3300.315", "srtt=0 retrans=2 rto=2/3303"),
        ("3353.1", "srtt=309 retrans=2 rto=2/3353"),
        ("900.7", "srtt=204 retrans=1 rto=0/0"),
        ("506", "srtt=506.4"),
    ] {
        let expect =
            format!("half_open: 1 [{:.3}] sock_ops=1 unknown=0 cookies=0", age.parse::<f64>().unwrap());
        check_handshake("half_open", &format!("{facts} req={age}"), &expect);
    }
}

#[test]
fn with_sock_ops_a_handshake_without_a_record_is_unknown_unless_it_has_no_round_trip() {
    // It may have begun before the session, or its record was lost, or it is that of a cookie with timestamps,
    // whose round trip is wrong by up to 64 ms.
    check_handshake("half_open", "srtt=427", "half_open: 0 unknown=1 cookies=0");
    check_handshake("half_open", "srtt=0 retrans=2", "half_open: 0 unknown=1 cookies=0");
}

#[test]
fn a_fast_open_child_is_born_at_its_syn_and_half_open_until_the_last_ack() {
    check(
        "
        session half_open
        +0ms   LISTEN>SYN_RECV ck=9 sk=b0 10.0.0.1:80>10.0.0.2:4001
        +604ms SYN_RECV>EST    ck=9 sk=b0 10.0.0.1:80>10.0.0.2:4001 srtt=0 req=604 tfo
        report half_open states",
        "
        +0.000   LISTEN>SYN_RECV -       10.0.0.1:80>10.0.0.2:4001 -
        +604.000 SYN_RECV>EST    604.000 10.0.0.1:80>10.0.0.2:4001 -
        half_open: 1 [604.000] fast_open=1 unknown=0 cookies=0
        state EST: entered 1 live 1 time 0
        state SYN_RECV: entered 1 live 0 time 1 [604.000]",
    );
}

#[test]
fn a_reset_fast_open_child_completed_no_handshake() {
    check(
        "
        session half_open
        +0ms   LISTEN>SYN_RECV ck=9 sk=b0 10.0.0.1:80>10.0.0.2:4001
        +300ms SYN_RECV>CLOSE  ck=9 sk=b0 10.0.0.1:80>10.0.0.2:4001 err=104 req=300 tfo
        report half_open live",
        "
        +0.000   LISTEN>SYN_RECV -       10.0.0.1:80>10.0.0.2:4001 -
        +300.000 SYN_RECV>CLOSE  300.000 10.0.0.1:80>10.0.0.2:4001 -
        half_open: 0 unknown=0 cookies=0
        live:",
    );
}

#[test]
fn a_handshake_whose_birth_was_lost_still_has_its_request() {
    check(
        "
        session half_open
        lost +0ms LISTEN>SYN_RECV ck=9 10.0.0.1:80>10.0.0.2:4001
        +0.03ms   SYN_RECV>EST    ck=9 10.0.0.1:80>10.0.0.2:4001 req=250.3
        report half_open listeners",
        "
        +0.030 SYN_RECV>EST 250.300 10.0.0.1:80>10.0.0.2:4001 -
        half_open: 1 [250.300] sock_ops=1 unknown=0 cookies=0
        # The listener's own end is not known: the child's stands for it.
        listener 10.0.0.1:80 -: 1 [250.300] unknown=0 cookies=0",
    );
}

#[test]
fn completed_unknown_and_cookie_handshakes_are_told_apart_per_listener() {
    let mut input = String::from("+0ms CLOSE>LISTEN ck=1 10.0.0.1:80>0.0.0.0:0 ns=1 task=200:web\n");
    for (ck, port, facts) in
        [(2, 80, "srtt=10"), (3, 80, "srtt=30"), (4, 80, "retrans=1"), (5, 80, "srtt=0"), (6, 81, "srtt=0")]
    {
        let tuple = format!("ck={ck} 10.0.0.1:{port}>10.0.0.2:{ck} ns=1");
        input += &format!("+1ms LISTEN>SYN_RECV {tuple}\n+1ms SYN_RECV>EST {tuple} {facts}\n");
    }
    check_report(
        &(input + "report half_open listeners"),
        "
        half_open: 2 [10.000..30.000] srtt=2 unknown=1 cookies=2
        listener 10.0.0.1:80 200/web: 2 [10.000..30.000] unknown=1 cookies=1
        listener 10.0.0.1:81 -: 0 unknown=0 cookies=1",
    );
}
