//! Whose a socket is. Unknown beats wrong.

use crate::check::{check, check_report};

#[test]
fn an_accepted_connection_is_its_listeners_until_a_worker_touches_it() {
    // Prefork: the master called listen(), a worker accepted. The counts go to the worker, all of them.
    check(
        "
        +0ms  CLOSE>LISTEN        ck=1 sk=a0 0.0.0.0:80>0.0.0.0:0      ns=1 task=100:master
        +10ms LISTEN>SYN_RECV     ck=2 sk=b0 10.0.0.1:80>10.0.0.2:4000 ns=1
        +10ms SYN_RECV>EST        ck=2 sk=b0 10.0.0.1:80>10.0.0.2:4000 ns=1 srtt=1
        +15ms EST>CLOSE_WAIT      ck=2 sk=b0 10.0.0.1:80>10.0.0.2:4000 ns=1 done
        +16ms CLOSE_WAIT>LAST_ACK ck=2 sk=b0 10.0.0.1:80>10.0.0.2:4000 ns=1 done task=105:worker
        +17ms LAST_ACK>CLOSE      ck=2 sk=b0 10.0.0.1:80>10.0.0.2:4000 ns=1 done
        report processes listeners",
        "
        +0.000  CLOSE>LISTEN        -     0.0.0.0:80>0.0.0.0:0      100/master/listen
        +10.000 LISTEN>SYN_RECV     -     10.0.0.1:80>10.0.0.2:4000 100/master/listen
        +10.000 SYN_RECV>EST        1.000 10.0.0.1:80>10.0.0.2:4000 100/master/listen
        +15.000 EST>CLOSE_WAIT      5.000 10.0.0.1:80>10.0.0.2:4000 100/master/listen
        +16.000 CLOSE_WAIT>LAST_ACK 1.000 10.0.0.1:80>10.0.0.2:4000 105/worker/task
        +17.000 LAST_ACK>CLOSE      1.000 10.0.0.1:80>10.0.0.2:4000 105/worker/task
        process 105/worker: 5 live 0 EST>CLOSE_WAIT=1 SYN_RECV>EST=1 CLOSE_WAIT>LAST_ACK=1 LAST_ACK>CLOSE=1 LISTEN>SYN_RECV=1
        process 100/master: 1 live 1 CLOSE>LISTEN=1
        listener 0.0.0.0:80 100/master: 1 [1.000] unknown=0 cookies=0",
    );
}

#[test]
fn of_a_forked_or_passed_socket_the_last_holder_is_the_owner() {
    check_report(
        "
        +0ms CLOSE>SYN_SENT      ck=2 10.0.0.1:0>10.0.0.2:80    task=100:parent
        +1ms SYN_SENT>EST        ck=2 10.0.0.1:4000>10.0.0.2:80
        +2ms EST>CLOSE_WAIT      ck=2 10.0.0.1:4000>10.0.0.2:80 done
        # The parent's close() is silent; the child's is the last one.
        +9ms CLOSE_WAIT>LAST_ACK ck=2 10.0.0.1:4000>10.0.0.2:80 done task=101:child
        report processes",
        "process 101/child: 4 live 1 EST>CLOSE_WAIT=1 SYN_SENT>EST=1 CLOSE>SYN_SENT=1 CLOSE_WAIT>LAST_ACK=1",
    );
}

const TWO_ON_ONE_PORT: &str = "
    +0ms CLOSE>LISTEN    ck=1 sk=a0 10.0.0.1:80>0.0.0.0:0     ns=1 task=100:one
    +0ms CLOSE>LISTEN    ck=2 sk=a1 10.0.0.1:80>0.0.0.0:0     ns=1 task=101:two";

#[test]
fn of_two_listeners_on_one_port_it_cannot_be_told_whose_the_child_is() {
    check_report(
        &format!(
            "{TWO_ON_ONE_PORT}
            +1ms LISTEN>SYN_RECV ck=3 sk=b0 10.0.0.1:80>10.0.0.2:4000 ns=1
            +1ms SYN_RECV>EST    ck=3 sk=b0 10.0.0.1:80>10.0.0.2:4000 ns=1 srtt=1
            report processes listeners"
        ),
        "
        process -: 2 live 1 SYN_RECV>EST=1 LISTEN>SYN_RECV=1
        process 100/one: 1 live 1 CLOSE>LISTEN=1
        process 101/two: 1 live 1 CLOSE>LISTEN=1
        listener 10.0.0.1:80 -: 1 [1.000] unknown=0 cookies=0",
    );
}

#[test]
fn up_to_6_12_the_listeners_cookie_tells_whose_the_child_is() {
    check_report(
        &format!(
            "{TWO_ON_ONE_PORT}
            +1ms LISTEN>SYN_RECV ck=2 sk=b0 10.0.0.1:80>0.0.0.0:0     ns=1
            +1ms SYN_RECV>EST    ck=3 sk=b0 10.0.0.1:80>10.0.0.2:4000 ns=1 srtt=1
            report processes"
        ),
        "
        process 101/two: 3 live 2 SYN_RECV>EST=1 CLOSE>LISTEN=1 LISTEN>SYN_RECV=1
        process 100/one: 1 live 1 CLOSE>LISTEN=1",
    );
}

#[test]
fn when_one_of_two_listeners_has_closed_the_other_ones_children_are_its_own() {
    check_report(
        &format!(
            "{TWO_ON_ONE_PORT}
            +1ms LISTEN>CLOSE    ck=1 sk=a0 10.0.0.1:80>0.0.0.0:0     ns=1 task=100:one
            +2ms LISTEN>SYN_RECV ck=3 sk=b0 10.0.0.1:80>10.0.0.2:4000 ns=1
            report processes"
        ),
        "
        process 101/two: 2 live 2 CLOSE>LISTEN=1 LISTEN>SYN_RECV=1
        process 100/one: 2 live 0 CLOSE>LISTEN=1 LISTEN>CLOSE=1",
    );
}

#[test]
fn one_process_may_listen_twice_on_one_port() {
    let input = TWO_ON_ONE_PORT.replace("101:two", "100:one");
    check_report(
        &format!("{input}\n+1ms LISTEN>SYN_RECV ck=3 10.0.0.1:80>10.0.0.2:4000 ns=1\nreport processes"),
        "process 100/one: 3 live 3 CLOSE>LISTEN=2 LISTEN>SYN_RECV=1",
    );
}

#[test]
fn a_child_belongs_to_the_listener_that_the_kernel_would_pick() {
    // The address itself before any address, and never one of the other family or namespace.
    check_report(
        "
        +0ms CLOSE>LISTEN    ck=1 sk=a0 0.0.0.0:80>0.0.0.0:0               ns=1 task=1:v4
        +0ms CLOSE>LISTEN    ck=2 sk=a1 [::]:80>[::]:0                     ns=1 task=2:v6only
        +0ms CLOSE>LISTEN    ck=3 sk=a2 10.0.0.1:80>0.0.0.0:0              ns=1 task=3:exact
        +0ms CLOSE>LISTEN    ck=4 sk=a3 [::]:81>[::]:0                     ns=1 task=4:dual
        +1ms LISTEN>SYN_RECV ck=5 sk=b0 10.0.0.1:80>10.0.0.2:4000          ns=1
        +1ms SYN_RECV>EST    ck=5 sk=b0 10.0.0.1:80>10.0.0.2:4000          ns=1 req=3
        +1ms LISTEN>SYN_RECV ck=6 sk=b1 10.0.0.9:80>10.0.0.2:4000          ns=1
        +1ms SYN_RECV>EST    ck=6 sk=b1 10.0.0.9:80>10.0.0.2:4000          ns=1 req=1
        +1ms LISTEN>SYN_RECV ck=7 sk=b2 [2001:db8::1]:80>[2001:db8::2]:400 ns=1
        +1ms SYN_RECV>EST    ck=7 sk=b2 [2001:db8::1]:80>[2001:db8::2]:400 ns=1 req=2
        +1ms LISTEN>SYN_RECV ck=8 sk=b3 10.0.0.9:81>10.0.0.2:4000 v6       ns=1
        +1ms SYN_RECV>EST    ck=8 sk=b3 10.0.0.9:81>10.0.0.2:4000 v6       ns=1 req=4
        +1ms LISTEN>SYN_RECV ck=9 sk=b4 10.0.0.9:80>10.0.0.2:4000          ns=2
        +1ms SYN_RECV>EST    ck=9 sk=b4 10.0.0.9:80>10.0.0.2:4000          ns=2 req=5
        report listeners",
        "
        listener 0.0.0.0:80  1/v4:     1 [1.000] unknown=0 cookies=0
        listener 10.0.0.1:80 3/exact:  1 [3.000] unknown=0 cookies=0
        listener [::]:80     2/v6only: 1 [2.000] unknown=0 cookies=0
        listener [::]:81     4/dual:   1 [4.000] unknown=0 cookies=0
        listener 10.0.0.9:80 -:        1 [5.000] unknown=0 cookies=0",
    );
}

#[test]
fn an_mptcp_worker_is_not_the_owner_although_it_holds_the_lock() {
    check(
        "
        +0ms CLOSE>SYN_SENT      ck=2 10.0.0.1:0>10.0.0.2:80    task=100:client
        +1ms SYN_SENT>EST        ck=2 10.0.0.1:4000>10.0.0.2:80
        +5ms EST>FIN_WAIT1       ck=2 10.0.0.1:4000>10.0.0.2:80 task=100:client
        +6ms FIN_WAIT1>FIN_WAIT1 ck=2 10.0.0.1:4000>10.0.0.2:80 task=31:kworker/1:2
        +7ms FIN_WAIT1>FIN_WAIT2 ck=2 10.0.0.1:4000>10.0.0.2:80
        report processes",
        "
        +0.000 CLOSE>SYN_SENT      -     10.0.0.1:0>10.0.0.2:80    100/client/connect
        +1.000 SYN_SENT>EST        1.000 10.0.0.1:4000>10.0.0.2:80 100/client/connect
        +5.000 EST>FIN_WAIT1       4.000 10.0.0.1:4000>10.0.0.2:80 100/client/task
        +6.000 FIN_WAIT1>FIN_WAIT1 -     10.0.0.1:4000>10.0.0.2:80 100/client/task
        +7.000 FIN_WAIT1>FIN_WAIT2 2.000 10.0.0.1:4000>10.0.0.2:80 100/client/task
        process 100/client: 5 live 1 EST>FIN_WAIT1=1 SYN_SENT>EST=1 FIN_WAIT1>FIN_WAIT1=1 FIN_WAIT1>FIN_WAIT2=1 CLOSE>SYN_SENT=1",
    );
}

#[test]
fn a_reused_pid_is_another_process_because_it_started_later() {
    check_report(
        "
        +0ms CLOSE>SYN_SENT ck=1 10.0.0.1:0>10.0.0.2:80 task=100:old start=10
        +1ms SYN_SENT>CLOSE ck=1 10.0.0.1:0>10.0.0.2:80 task=100:old start=10 err=111
        +9ms CLOSE>SYN_SENT ck=2 10.0.0.1:0>10.0.0.2:80 task=100:new start=80
        report processes",
        "
        process 100/old: 2 live 0 SYN_SENT>CLOSE=1 CLOSE>SYN_SENT=1
        process 100/new: 1 live 1 CLOSE>SYN_SENT=1",
    );
}

#[test]
fn a_threads_name_does_not_replace_the_processs() {
    check(
        "
        +0ms CLOSE>SYN_SENT ck=1 10.0.0.1:0>10.0.0.2:80    task=100:java
        +1ms SYN_SENT>EST   ck=1 10.0.0.1:4000>10.0.0.2:80
        +2ms EST>FIN_WAIT1  ck=1 10.0.0.1:4000>10.0.0.2:80 task=100/117:C2-thread thread",
        "
        +0.000 CLOSE>SYN_SENT -     10.0.0.1:0>10.0.0.2:80    100/java/connect
        +1.000 SYN_SENT>EST   1.000 10.0.0.1:4000>10.0.0.2:80 100/java/connect
        +2.000 EST>FIN_WAIT1  1.000 10.0.0.1:4000>10.0.0.2:80 100/java/task",
    );
}

#[test]
fn a_name_that_disturbs_terminals_is_escaped_in_rows() {
    check(
        "+0ms CLOSE>SYN_SENT ck=1 10.0.0.1:0>10.0.0.2:80 task=100:\u{1b}[31mx",
        "+0.000 CLOSE>SYN_SENT - 10.0.0.1:0>10.0.0.2:80 100/\\u{1b}[31mx/connect",
    );
}
