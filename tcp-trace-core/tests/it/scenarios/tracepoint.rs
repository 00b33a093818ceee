//! The perf tracepoint: no cookies, no owned bit, no namespaces, no errors.

use crate::check::{check, check_report};

#[test]
fn without_cookies_an_address_is_one_connection_from_birth_to_close() {
    check(
        "
        session tracepoint
        +0ms CLOSE>SYN_SENT  sk=b0 10.0.0.1:0>10.0.0.2:80    task=100:one
        +1ms SYN_SENT>EST    sk=b0 10.0.0.1:4000>10.0.0.2:80
        +3ms EST>FIN_WAIT1   sk=b0 10.0.0.1:4000>10.0.0.2:80
        +4ms FIN_WAIT1>CLOSE sk=b0 10.0.0.1:4000>10.0.0.2:80
        +4.01ms CLOSE>SYN_SENT sk=b0 10.0.0.1:0>10.0.0.3:81  task=101:two
        +5ms SYN_SENT>EST    sk=b0 10.0.0.1:4001>10.0.0.3:81
        report processes",
        "
        +0.000 CLOSE>SYN_SENT  -     10.0.0.1:0>10.0.0.2:80    100/one/connect
        +1.000 SYN_SENT>EST    1.000 10.0.0.1:4000>10.0.0.2:80 100/one/connect
        +3.000 EST>FIN_WAIT1   2.000 10.0.0.1:4000>10.0.0.2:80 100/one/connect
        +4.000 FIN_WAIT1>CLOSE 1.000 10.0.0.1:4000>10.0.0.2:80 100/one/connect
        +4.010 CLOSE>SYN_SENT  -     10.0.0.1:0>10.0.0.3:81    101/two/connect
        +5.000 SYN_SENT>EST    0.990 10.0.0.1:4001>10.0.0.3:81 101/two/connect
        process 100/one: 4 live 0 EST>FIN_WAIT1=1 SYN_SENT>EST=1 FIN_WAIT1>CLOSE=1 CLOSE>SYN_SENT=1
        process 101/two: 2 live 1 SYN_SENT>EST=1 CLOSE>SYN_SENT=1",
    );
}

#[test]
fn without_cookies_a_birth_ends_a_life_whose_close_was_lost() {
    check(
        "
        session tracepoint
        +0ms      CLOSE>SYN_SENT  sk=b0 10.0.0.1:0>10.0.0.2:80    task=100:one
        +1ms      SYN_SENT>EST    sk=b0 10.0.0.1:4000>10.0.0.2:80
        lost +2ms EST>CLOSE       sk=b0 10.0.0.1:4000>10.0.0.2:80
        +3ms      LISTEN>SYN_RECV sk=b0 10.0.0.1:22>0.0.0.0:0
        +3.03ms   SYN_RECV>EST    sk=b0 10.0.0.1:22>10.0.0.7:5000
        report live",
        "
        +0.000 CLOSE>SYN_SENT  -     10.0.0.1:0>10.0.0.2:80    100/one/connect
        +1.000 SYN_SENT>EST    1.000 10.0.0.1:4000>10.0.0.2:80 100/one/connect
        +3.000 LISTEN>SYN_RECV -     10.0.0.1:22>10.0.0.7:5000 -
        # Microseconds of the child's SYN_RECV are not what the request took, and nothing else tells.
        +3.030 SYN_RECV>EST    -     10.0.0.1:22>10.0.0.7:5000 -
        live: EST=1",
    );
}

#[test]
fn what_the_record_does_not_hold_is_not_known() {
    check_report(
        "
        session tracepoint
        +0ms CLOSE>LISTEN    sk=a0 0.0.0.0:80>0.0.0.0:0       task=200/201:worker thread
        +1ms LISTEN>SYN_RECV sk=b0 10.0.0.1:80>10.0.0.2:4000
        +1ms SYN_RECV>EST    sk=b0 10.0.0.1:80>10.0.0.2:4000
        +1ms CLOSE>SYN_SENT  sk=c0 10.0.0.1:0>10.0.0.2:81     task=100:client
        +2ms SYN_SENT>CLOSE  sk=c0 10.0.0.1:4000>10.0.0.2:81
        +3ms FIN_WAIT2>CLOSE sk=d0 10.0.0.1:80>10.0.0.2:4009
        report half_open listeners connect time_wait",
        "
        half_open: 0 unknown=1 cookies=-
        listener 0.0.0.0:80 200/-: 0 unknown=1 cookies=-
        connect 10.0.0.2:81: 0 failed=1
        time_wait: - orphaned -",
    );
}
