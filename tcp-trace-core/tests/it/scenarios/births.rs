//! Births of connections, and sockets that live more than once.

use crate::check::{check, check_report};

/// Up to 6.12 the child's first event has the listener's cookie and no peer.
const OLD_BIRTH: &str = "
    +0ms    CLOSE>LISTEN    ck=7 sk=a0 10.99.0.1:7001>0.0.0.0:0       ns=1 task=200:server
    +9.97ms LISTEN>SYN_RECV ck=7 sk=b0 10.99.0.1:7001>0.0.0.0:0       ns=1
    +10ms   SYN_RECV>EST    ck=9 sk=b0 10.99.0.1:7001>10.99.0.2:20250 ns=1 srtt=250.3
    +15ms   EST>CLOSE_WAIT  ck=9 sk=b0 10.99.0.1:7001>10.99.0.2:20250 ns=1 done
    +40ms   LISTEN>CLOSE    ck=7 sk=a0 10.99.0.1:7001>0.0.0.0:0       ns=1 task=200:server
    end +41ms
    report loss processes live listeners";

#[test]
fn up_to_6_12_a_child_is_born_with_its_listeners_cookie_and_no_peer() {
    check(
        OLD_BIRTH,
        "
        +0.000  CLOSE>LISTEN    -       10.99.0.1:7001>0.0.0.0:0       200/server/listen
        +9.970  LISTEN>SYN_RECV -       10.99.0.1:7001>10.99.0.2:20250 200/server/listen
        +10.000 SYN_RECV>EST    250.300 10.99.0.1:7001>10.99.0.2:20250 200/server/listen
        +15.000 EST>CLOSE_WAIT  5.000   10.99.0.1:7001>10.99.0.2:20250 200/server/listen
        # The listener is still the one that began at 0: its child did not take its place.
        +40.000 LISTEN>CLOSE    40.000  10.99.0.1:7001>0.0.0.0:0       200/server/task
        loss: 5 = 5 + 0 + 0 balanced
        process 200/server: 5 live 1 EST>CLOSE_WAIT=1 SYN_RECV>EST=1 CLOSE>LISTEN=1 LISTEN>SYN_RECV=1 LISTEN>CLOSE=1
        live: CLOSE_WAIT=1
        listener 10.99.0.1:7001 200/server: 1 [250.300] unknown=0 cookies=0",
    );
}

#[test]
fn from_6_18_on_a_child_is_born_with_its_own_cookie_and_peer() {
    let input = OLD_BIRTH.replace(
        "LISTEN>SYN_RECV ck=7 sk=b0 10.99.0.1:7001>0.0.0.0:0",
        "LISTEN>SYN_RECV ck=9 sk=b0 10.99.0.1:7001>10.99.0.2:20250",
    );
    check(
        &input,
        "
        +0.000  CLOSE>LISTEN    -       10.99.0.1:7001>0.0.0.0:0       200/server/listen
        +9.970  LISTEN>SYN_RECV -       10.99.0.1:7001>10.99.0.2:20250 200/server/listen
        +10.000 SYN_RECV>EST    250.300 10.99.0.1:7001>10.99.0.2:20250 200/server/listen
        +15.000 EST>CLOSE_WAIT  5.000   10.99.0.1:7001>10.99.0.2:20250 200/server/listen
        +40.000 LISTEN>CLOSE    40.000  10.99.0.1:7001>0.0.0.0:0       200/server/task
        loss: 5 = 5 + 0 + 0 balanced
        process 200/server: 5 live 1 EST>CLOSE_WAIT=1 SYN_RECV>EST=1 CLOSE>LISTEN=1 LISTEN>SYN_RECV=1 LISTEN>CLOSE=1
        live: CLOSE_WAIT=1
        listener 10.99.0.1:7001 200/server: 1 [250.300] unknown=0 cookies=0",
    );
}

#[test]
fn two_children_of_one_listener_may_be_born_before_either_is_established() {
    check_report(
        "
        +0ms CLOSE>LISTEN    ck=7 sk=a0 10.0.0.1:80>0.0.0.0:0     task=200:server
        +1ms LISTEN>SYN_RECV ck=7 sk=b0 10.0.0.1:80>0.0.0.0:0
        +2ms LISTEN>SYN_RECV ck=7 sk=c0 10.0.0.1:80>0.0.0.0:0
        +3ms SYN_RECV>EST    ck=9 sk=c0 10.0.0.1:80>10.0.0.2:4002 req=20
        +4ms SYN_RECV>EST    ck=8 sk=b0 10.0.0.1:80>10.0.0.2:4001 req=10
        report live listeners",
        "
        live: EST=2 LISTEN=1
        listener 10.0.0.1:80 200/server: 2 [10.000..20.000] unknown=0 cookies=0",
    );
}

#[test]
fn an_old_child_whose_handshake_event_was_lost_keeps_its_counts_when_its_address_is_reused() {
    check_report(
        "
        +0ms CLOSE>LISTEN    ck=7 sk=a0 10.0.0.1:80>0.0.0.0:0     task=200:server
        +1ms LISTEN>SYN_RECV ck=7 sk=b0 10.0.0.1:80>0.0.0.0:0
        lost +2ms SYN_RECV>EST ck=8 sk=b0 10.0.0.1:80>10.0.0.2:4001
        lost +3ms EST>CLOSE    ck=8 sk=b0 10.0.0.1:80>10.0.0.2:4001
        +4ms LISTEN>SYN_RECV ck=7 sk=b0 10.0.0.1:80>0.0.0.0:0
        +5ms SYN_RECV>EST    ck=9 sk=b0 10.0.0.1:80>10.0.0.2:4002 srtt=1
        report live processes",
        "
        live: EST=1 LISTEN=1
        process 200/server: 4 live 2 SYN_RECV>EST=1 CLOSE>LISTEN=1 LISTEN>SYN_RECV=2",
    );
}

#[test]
fn a_reused_address_is_another_connection_when_its_cookie_is() {
    // The allocator hands the same address out again after ten microseconds.
    check(
        "
        +0ms    CLOSE>SYN_SENT ck=5 sk=b0 10.0.0.1:0>10.0.0.2:80    task=100:one
        +1ms    SYN_SENT>EST   ck=5 sk=b0 10.0.0.1:4000>10.0.0.2:80
        lost +2ms EST>CLOSE    ck=5 sk=b0 10.0.0.1:4000>10.0.0.2:80 err=104
        +2.01ms CLOSE>SYN_SENT ck=6 sk=b0 10.0.0.1:0>10.0.0.3:81    task=101:two
        +3ms    SYN_SENT>EST   ck=6 sk=b0 10.0.0.1:4001>10.0.0.3:81",
        "
        +0.000 CLOSE>SYN_SENT -     10.0.0.1:0>10.0.0.2:80    100/one/connect
        +1.000 SYN_SENT>EST   1.000 10.0.0.1:4000>10.0.0.2:80 100/one/connect
        +2.010 CLOSE>SYN_SENT -     10.0.0.1:0>10.0.0.3:81    101/two/connect
        +3.000 SYN_SENT>EST   0.990 10.0.0.1:4001>10.0.0.3:81 101/two/connect",
    );
}

#[test]
fn a_socket_reconnects_after_af_unspec_with_the_same_cookie() {
    // The first life's end is an abort by the program; nothing of it may colour the second.
    check(
        "
        +0ms  CLOSE>SYN_SENT ck=5 sk=b0 10.0.0.1:0>10.0.0.2:80    task=100:one
        +1ms  SYN_SENT>EST   ck=5 sk=b0 10.0.0.1:4000>10.0.0.2:80
        +4ms  EST>CLOSE      ck=5 sk=b0 10.0.0.1:4000>10.0.0.2:80 task=100:one
        +10ms CLOSE>SYN_SENT ck=5 sk=b0 10.0.0.1:0>10.0.0.3:81    task=101:two
        +12ms SYN_SENT>EST   ck=5 sk=b0 10.0.0.1:4001>10.0.0.3:81
        report connect live",
        "
        +0.000  CLOSE>SYN_SENT -     10.0.0.1:0>10.0.0.2:80    100/one/connect
        +1.000  SYN_SENT>EST   1.000 10.0.0.1:4000>10.0.0.2:80 100/one/connect
        +4.000  EST>CLOSE      3.000 10.0.0.1:4000>10.0.0.2:80 100/one/task
        +10.000 CLOSE>SYN_SENT -     10.0.0.1:0>10.0.0.3:81    101/two/connect
        +12.000 SYN_SENT>EST   2.000 10.0.0.1:4001>10.0.0.3:81 101/two/connect
        connect 10.0.0.2:80: 1 [1.000]
        connect 10.0.0.3:81: 1 [2.000]
        live: EST=1",
    );
}

#[test]
fn a_listener_may_stop_and_listen_again_with_the_same_cookie() {
    check(
        "
        +0ms  CLOSE>LISTEN ck=7 sk=a0 0.0.0.0:80>0.0.0.0:0 task=200:server
        +10ms LISTEN>CLOSE ck=7 sk=a0 0.0.0.0:80>0.0.0.0:0 task=200:server
        +15ms CLOSE>LISTEN ck=7 sk=a0 0.0.0.0:80>0.0.0.0:0 task=200:server
        report live",
        "
        +0.000  CLOSE>LISTEN -      0.0.0.0:80>0.0.0.0:0 200/server/listen
        +10.000 LISTEN>CLOSE 10.000 0.0.0.0:80>0.0.0.0:0 200/server/task
        +15.000 CLOSE>LISTEN -      0.0.0.0:80>0.0.0.0:0 200/server/listen
        live: LISTEN=1",
    );
}

#[test]
fn a_dual_stack_socket_shows_its_ipv4_peer_as_ipv4() {
    check(
        "
        +0ms CLOSE>LISTEN    ck=7 sk=a0 [::]:7121>[::]:0                                     task=200:server
        +1ms LISTEN>SYN_RECV ck=7 sk=b0 [::]:7121>[::]:0
        +2ms SYN_RECV>EST    ck=9 sk=b0 [::ffff:10.0.0.1]:7121>[::ffff:10.0.0.2]:4000 v6     req=5
        +3ms SYN_SENT>EST    ck=4 sk=c0 10.0.0.2:4000>10.0.0.1:7121
        report listeners",
        "
        +0.000 CLOSE>LISTEN    -     [::]:7121>[::]:0            200/server/listen
        +1.000 LISTEN>SYN_RECV -     10.0.0.1:7121>10.0.0.2:4000 200/server/listen
        +2.000 SYN_RECV>EST    5.000 10.0.0.1:7121>10.0.0.2:4000 200/server/listen
        +3.000 SYN_SENT>EST    -     10.0.0.2:4000>10.0.0.1:7121 -
        listener [::]:7121 200/server: 1 [5.000] unknown=0 cookies=0",
    );
}
