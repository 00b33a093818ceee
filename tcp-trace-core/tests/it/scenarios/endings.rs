//! How connections end other than orderly.

use crate::check::check;

#[test]
fn a_reset_ends_a_connection_wherever_it_is() {
    check(
        "
        +0ms EST>CLOSE        ck=1 10.0.0.1:4001>10.0.0.2:80 err=104
        +0ms SYN_RECV>EST     ck=2 10.0.0.1:4002>10.0.0.2:80 req=1
        +1ms EST>CLOSE_WAIT   ck=2 10.0.0.1:4002>10.0.0.2:80 done
        # EPIPE: the peer had already closed.
        +4ms CLOSE_WAIT>CLOSE ck=2 10.0.0.1:4002>10.0.0.2:80 done err=32
        +5ms LAST_ACK>CLOSE   ck=3 10.0.0.1:4003>10.0.0.2:80 done err=104
        report time_wait",
        "
        +0.000 EST>CLOSE        -     10.0.0.1:4001>10.0.0.2:80 -
        +0.000 SYN_RECV>EST     1.000 10.0.0.1:4002>10.0.0.2:80 -
        +1.000 EST>CLOSE_WAIT   1.000 10.0.0.1:4002>10.0.0.2:80 -
        +4.000 CLOSE_WAIT>CLOSE 3.000 10.0.0.1:4002>10.0.0.2:80 -
        +5.000 LAST_ACK>CLOSE   -     10.0.0.1:4003>10.0.0.2:80 -
        time_wait: 0 orphaned 0",
    );
}

#[test]
fn a_close_with_unread_data_skips_the_fin_states() {
    check(
        "
        +0ms SYN_RECV>EST     ck=1 10.0.0.1:80>10.0.0.2:4001 req=1
        +0ms SYN_RECV>EST     ck=2 10.0.0.1:80>10.0.0.2:4002 req=1
        +2ms EST>CLOSE        ck=1 10.0.0.1:80>10.0.0.2:4001 task=100:lazy
        +3ms EST>CLOSE_WAIT   ck=2 10.0.0.1:80>10.0.0.2:4002 done
        +4ms CLOSE_WAIT>CLOSE ck=2 10.0.0.1:80>10.0.0.2:4002 done task=100:lazy
        report live time_wait",
        "
        +0.000 SYN_RECV>EST     1.000 10.0.0.1:80>10.0.0.2:4001 -
        +0.000 SYN_RECV>EST     1.000 10.0.0.1:80>10.0.0.2:4002 -
        +2.000 EST>CLOSE        2.000 10.0.0.1:80>10.0.0.2:4001 100/lazy/task
        +3.000 EST>CLOSE_WAIT   3.000 10.0.0.1:80>10.0.0.2:4002 -
        +4.000 CLOSE_WAIT>CLOSE 1.000 10.0.0.1:80>10.0.0.2:4002 100/lazy/task
        live:
        time_wait: 0 orphaned 0",
    );
}

#[test]
fn a_user_timeout_ends_a_connection_in_a_random_task_which_is_not_its_owner() {
    check(
        "
        +0ms     CLOSE>SYN_SENT ck=1 10.0.0.1:0>10.0.0.2:80    task=100:client
        +1ms     SYN_SENT>EST   ck=1 10.0.0.1:4001>10.0.0.2:80
        +30001ms EST>CLOSE      ck=1 10.0.0.1:4001>10.0.0.2:80 err=110
        report processes",
        "
        +0.000     CLOSE>SYN_SENT -         10.0.0.1:0>10.0.0.2:80    100/client/connect
        +1.000     SYN_SENT>EST   1.000     10.0.0.1:4001>10.0.0.2:80 100/client/connect
        +30001.000 EST>CLOSE      30000.000 10.0.0.1:4001>10.0.0.2:80 100/client/connect
        process 100/client: 3 live 0 EST>CLOSE=1 SYN_SENT>EST=1 CLOSE>SYN_SENT=1",
    );
}

#[test]
fn a_closed_listener_takes_its_unaccepted_children_with_it() {
    // They close in the closer's context, but without the socket's lock; their blame is the listener's.
    check(
        "
        +0ms  CLOSE>LISTEN     ck=7 sk=a0 10.0.0.1:80>0.0.0.0:0 ns=1 task=200:server
        +1ms  LISTEN>SYN_RECV  ck=8 sk=b0 10.0.0.1:80>10.0.0.2:4001 ns=1
        +1ms  SYN_RECV>EST     ck=8 sk=b0 10.0.0.1:80>10.0.0.2:4001 ns=1 srtt=1
        +2ms  EST>CLOSE_WAIT   ck=8 sk=b0 10.0.0.1:80>10.0.0.2:4001 ns=1 done
        +2ms  LISTEN>SYN_RECV  ck=9 sk=c0 10.0.0.1:80>10.0.0.2:4002 ns=1
        +2ms  SYN_RECV>EST     ck=9 sk=c0 10.0.0.1:80>10.0.0.2:4002 ns=1 srtt=1
        +10ms LISTEN>CLOSE     ck=7 sk=a0 10.0.0.1:80>0.0.0.0:0 ns=1 task=200:server
        +11ms CLOSE_WAIT>CLOSE ck=8 sk=b0 10.0.0.1:80>10.0.0.2:4001 ns=1 done
        +11ms EST>CLOSE        ck=9 sk=c0 10.0.0.1:80>10.0.0.2:4002 ns=1
        report live",
        "
        +0.000  CLOSE>LISTEN     -      10.0.0.1:80>0.0.0.0:0     200/server/listen
        +1.000  LISTEN>SYN_RECV  -      10.0.0.1:80>10.0.0.2:4001 200/server/listen
        +1.000  SYN_RECV>EST     1.000  10.0.0.1:80>10.0.0.2:4001 200/server/listen
        +2.000  EST>CLOSE_WAIT   1.000  10.0.0.1:80>10.0.0.2:4001 200/server/listen
        +2.000  LISTEN>SYN_RECV  -      10.0.0.1:80>10.0.0.2:4002 200/server/listen
        +2.000  SYN_RECV>EST     1.000  10.0.0.1:80>10.0.0.2:4002 200/server/listen
        +10.000 LISTEN>CLOSE     10.000 10.0.0.1:80>0.0.0.0:0     200/server/task
        +11.000 CLOSE_WAIT>CLOSE 9.000  10.0.0.1:80>10.0.0.2:4001 200/server/listen
        +11.000 EST>CLOSE        9.000  10.0.0.1:80>10.0.0.2:4002 200/server/listen
        live:",
    );
}

#[test]
fn late_events_without_ports_do_not_take_the_tuple_away() {
    check(
        "
        +0ms SYN_RECV>EST   ck=1 10.0.0.1:80>10.0.0.2:4001 req=1
        +1ms EST>CLOSE_WAIT ck=1 10.0.0.1:80>10.0.0.2:4001 done
        +2ms CLOSE_WAIT>CLOSE ck=1 0.0.0.0:0>0.0.0.0:0     done",
        "
        +0.000 SYN_RECV>EST     1.000 10.0.0.1:80>10.0.0.2:4001 -
        +1.000 EST>CLOSE_WAIT   1.000 10.0.0.1:80>10.0.0.2:4001 -
        +2.000 CLOSE_WAIT>CLOSE 1.000 10.0.0.1:80>10.0.0.2:4001 -",
    );
}
