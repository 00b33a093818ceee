//! Where connections were opened.

use crate::check::{check_closed, check_report};

const SESSION: &str = "session closed half_open programs=stack_state after=5";
const LEAK: &str = "
    +0ms  CLOSE>LISTEN    ck=1 0.0.0.0:80>0.0.0.0:0      ns=1 task=100:server
    +10ms LISTEN>SYN_RECV ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1
    +10ms SYN_RECV>EST    ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1 req=5 srtt=5
    +10ms LISTEN>SYN_RECV ck=3 10.0.0.1:80>10.0.0.2:4001 ns=1
    +10ms SYN_RECV>EST    ck=3 10.0.0.1:80>10.0.0.2:4001 ns=1 req=5 srtt=5
    +10ms LISTEN>SYN_RECV ck=4 10.0.0.1:80>10.0.0.2:4002 ns=1
    +10ms SYN_RECV>EST    ck=4 10.0.0.1:80>10.0.0.2:4002 ns=1 req=5 srtt=5
    +20ms EST>CLOSE_WAIT  ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1 done
    +20ms EST>CLOSE_WAIT  ck=3 10.0.0.1:80>10.0.0.2:4001 ns=1 done
    +20ms EST>CLOSE_WAIT  ck=4 10.0.0.1:80>10.0.0.2:4002 ns=1 done";

#[test]
fn a_leak_says_where_its_sockets_were_opened() {
    check_report(
        &format!(
            "{SESSION}
            {LEAK}
            stacks +21ms 4/accepted/+11ms/handle_upload,worker_main 2/accepted/+12ms/handle_upload,worker_main
            counters +50ms
            report stacks"
        ),
        "
        stacks 2 accepted at handle_upload ← worker_main
        stacks 1 -
        of 2: 0
        of 3: -
        of 4: 0",
    );
}

#[test]
fn nothing_is_said_where_nobody_asks() {
    check_report(
        &format!("session after=5\n{LEAK}\ncounters +50ms\nreport stacks"),
        "of 2: -\nof 3: -\nof 4: -",
    );
}

const FIRST: &str = "
    +10ms CLOSE>SYN_SENT  ck=3 10.0.0.1:0>10.0.0.9:80    ns=1 task=200:client
    +12ms SYN_SENT>CLOSE  ck=3 10.0.0.1:4000>10.0.0.9:80 ns=1 err=111 bytes=0/0/0";
const SECOND: &str = "
    +12ms CLOSE>SYN_SENT  ck=4 10.0.0.1:0>10.0.0.9:80    ns=1 task=200:client
    +13ms SYN_SENT>CLOSE  ck=4 10.0.0.1:4000>10.0.0.9:80 ns=1 err=111 bytes=0/0/0";
const REFUSED: &str = "closed +12.000 10.0.0.1:4000>10.0.0.9:80 200/client/connect client - refused 2.000 SYN_SENT=2.000 bytes=0/0";
const REFUSED_TOO: &str = "closed +13.000 10.0.0.1:4000>10.0.0.9:80 200/client/connect client - refused 1.000 SYN_SENT=1.000 bytes=0/0";

#[test]
fn obituaries_wait_for_their_stacks_and_keep_their_order() {
    check_closed(
        &format!(
            "{SESSION}\n{FIRST}\n{SECOND}
            counters +14ms
            report transitions
            stacks +13ms 3/connected/+10ms/fetch,main
            stacks +20ms 4/connected/+12ms/poll,main"
        ),
        &format!(
            "transitions: SYN_SENT>CLOSE=2 CLOSE>SYN_SENT=2
            {REFUSED} connected at fetch ← main
            {REFUSED_TOO} connected at poll ← main"
        ),
    );
}

#[test]
fn one_without_a_stack_holds_nobody_up_when_all_stacks_are_told() {
    check_closed(
        &format!("{SESSION}\n{FIRST}\n{SECOND}\nstacks +20ms 4/connected/+12ms/poll,main"),
        &format!("{REFUSED}\n{REFUSED_TOO} connected at poll ← main"),
    );
    // Nobody tells any more.
    check_closed(&format!("{SESSION}\n{FIRST}\ncounters +2100ms"), REFUSED);
    check_closed(&format!("{SESSION}\n{FIRST}\nend +14ms"), REFUSED);
}

#[test]
fn a_socket_that_connects_anew_keeps_its_stacks_apart() {
    let again = FIRST.replace("+12ms", "+16ms").replace("+10ms", "+14ms");
    check_closed(
        &format!(
            "{SESSION}\n{FIRST}\n{again}
            stacks +20ms 3/connected/+10ms/first,main 3/connected/+14ms/second,main"
        ),
        &format!(
            "{REFUSED} connected at first ← main
            {} connected at second ← main",
            REFUSED.replace("+12", "+16")
        ),
    );
    // The earlier one was lost: the later one is not taken for it.
    check_closed(&format!("{SESSION}\n{FIRST}\nstacks +20ms 3/connected/+14ms/second,main"), REFUSED);
}

#[test]
fn stacks_that_found_no_room_are_said_to_be_missing() {
    let report = crate::check::last_report(&format!("{SESSION}\n{LEAK}\nstacks +30ms lost=7\nreport stacks"));
    let missing = report.source.degradations.iter().find(|one| one.feature == "stacks").unwrap();
    assert!(missing.reason.starts_with("7 stacks found no room in the kernel's buffer:"), "{missing:?}");
}
