//! Transitions that the kernel has counted, beside events that only keep the table right.

use crate::check::{check, check_report};

#[test]
fn a_row_is_tallied_where_its_transitions_would_have_been() {
    check_report(
        "
        session half_open
        mode +0ms aggregate asked
        sum 3 CLOSE>SYN_SENT   pid=100 start=10 ns=1
        sum 3 SYN_SENT>EST     pid=100 start=10 ns=1 time=0.000700
        sum 2 EST>FIN_WAIT1    pid=100 start=10 ns=1 time=1
        sum 1 EST>FIN_WAIT1    pid=100 start=10 ns=1 time=2
        sum 2 FIN_WAIT1>FIN_WAIT2 pid=100 start=10 ns=1
        sum 1 FIN_WAIT2>CLOSE  pid=100 start=10 ns=1 time_wait
        sum 1 FIN_WAIT2>CLOSE  pid=100 start=10 ns=1 orphan
        sum 4 SYN_SENT>CLOSE   pid=100 start=10 ns=1 err=111 time=1
        sum 5 SYN_RECV>EST     pid=200 start=10 ns=1 sock_ops time=1
        sum 1 SYN_RECV>EST     pid=200 start=10 ns=1 srtt time=1
        sum 1 SYN_RECV>EST     pid=200 start=10 ns=1 cookie
        unsummed +5ms EST>CLOSE_WAIT ck=9
        end +1000ms
        report loss modes transitions states half_open connect time_wait processes",
        "
        loss: 25 = 0 + 0 + 0 balanced aggregated=25/1
        mode Aggregate from +0.000 for 1 s: asked for
        transitions: EST>FIN_WAIT1=3 EST>CLOSE_WAIT=1 SYN_SENT>EST=3 SYN_SENT>CLOSE=4 SYN_RECV>EST=7 FIN_WAIT1>FIN_WAIT2=2 FIN_WAIT2>CLOSE=2 CLOSE>SYN_SENT=3
        state EST: entered 10 live 0 time 3 [0.524..2.097]
        state SYN_SENT: entered 3 live 0 time 7 [0.000..1.048]
        state SYN_RECV: entered 0 live 0 time 5 [0.524..1.048]
        state FIN_WAIT1: entered 3 live 0 time 0
        state FIN_WAIT2: entered 2 live 0 time 0
        state CLOSE: entered 6 live - time 0
        state CLOSE_WAIT: entered 1 live 0 time 0
        half_open: 5 [0.524..1.048] sock_ops=5 unknown=1 cookies=1
        connect -: 3 [0.000..0.001] refused=4
        time_wait: 1 orphaned 1
        time_wait 100/-: 1
        process 100/-: 17 live 0 EST>FIN_WAIT1=3 SYN_SENT>EST=3 SYN_SENT>CLOSE=4 FIN_WAIT1>FIN_WAIT2=2 FIN_WAIT2>CLOSE=2 CLOSE>SYN_SENT=3
        process 200/-: 7 live 0 SYN_RECV>EST=7",
    );
}

#[test]
fn the_listener_of_a_row_without_owner_is_named_and_said_to_be_inferred() {
    check_report(
        "
        +0ms CLOSE>LISTEN ck=1 0.0.0.0:80>0.0.0.0:0 ns=1 task=9:server
        +0ms CLOSE>LISTEN ck=2 0.0.0.0:81>0.0.0.0:0 ns=1 task=9:server
        +0ms CLOSE>LISTEN ck=3 127.0.0.1:81>0.0.0.0:0 ns=1 task=10:other
        mode +1ms aggregate lost
        sum 3 LISTEN>SYN_RECV ns=1 port=80
        # Its listener is gone by the time of the row.
        shown +5ms LISTEN>CLOSE ck=1 0.0.0.0:80>0.0.0.0:0 ns=1 task=9:server
        sum 2 SYN_RECV>EST    ns=1 port=80 sock_ops time=1
        # Two listen there, another one elsewhere, and nobody knows who held these at their end.
        sum 2 LISTEN>SYN_RECV ns=1 port=81
        sum 2 LISTEN>SYN_RECV ns=2 port=80
        sum 2 EST>CLOSE       ns=1 port=80 held
        sum 1 LISTEN>CLOSE    ns=1 pid=9
        end +1000ms
        report loss processes listeners",
        "
        loss: 15 = 3 + 0 + 0 balanced aggregated=12/0
        process 9/server: 8 live 1 SYN_RECV>EST=2 CLOSE>LISTEN=2 LISTEN>SYN_RECV=3 LISTEN>CLOSE=1 inferred=5
        process -: 6 live 0 EST>CLOSE=2 LISTEN>SYN_RECV=4
        process 10/other: 1 live 1 CLOSE>LISTEN=1
        listener 0.0.0.0:80 -: 2 [0.524..1.048] unknown=0 cookies=0",
    );
}

#[test]
fn a_shown_event_moves_its_connection_and_is_tallied_nowhere() {
    check(
        "
        session after=500
        mode +0ms aggregate lost
        shown +0ms CLOSE>SYN_SENT  ck=5 10.0.0.1:0>10.0.0.2:80       ns=1 task=100:client
        shown +1ms SYN_RECV>EST    ck=6 10.0.0.2:80>10.0.0.1:4000    ns=1 nofile
        use accept +2ms ck=6 task=9:server
        shown +3ms EST>CLOSE_WAIT  ck=6 10.0.0.2:80>10.0.0.1:4000    ns=1 done
        shown +4ms FIN_WAIT2>CLOSE ck=5 10.0.0.1:4000>10.0.0.2:80    ns=1 done
        sum 5 CLOSE>SYN_SENT pid=100 ns=1
        end +1000ms
        report loss transitions live connect close_wait processes",
        "
        loss: 5 = 0 + 0 + 0 balanced aggregated=5/0
        transitions: CLOSE>SYN_SENT=5
        live: CLOSE_WAIT=1
        close_wait: live 1 lingering 1 after 500.000
        close_wait 9/server: 1 oldest 997.000 peers 1x10.0.0.1 listeners
          socket 6 10.0.0.2:80>10.0.0.1:4000 997.000 accept
        process 100/client: 5 live 0 CLOSE>SYN_SENT=5
        process 9/server: 0 live 1",
    );
}

#[test]
fn an_attempt_that_was_decided_unseen_has_no_duration() {
    check_report(
        "
        mode +0ms aggregate lost
        shown +0ms CLOSE>SYN_SENT ck=5 10.0.0.1:0>10.0.0.2:80 ns=1 task=100:client
        sum 1 CLOSE>SYN_SENT pid=100 ns=1
        sum 1 SYN_SENT>EST   pid=100 ns=1
        mode +1ms stream calm
        +900ms EST>FIN_WAIT1 ck=5 10.0.0.1:4000>10.0.0.2:80 ns=1 task=100:client
        +901ms FIN_WAIT1>FIN_WAIT2 ck=5 10.0.0.1:4000>10.0.0.2:80 ns=1
        end +1000ms
        report loss modes states connect processes",
        "
        loss: 4 = 2 + 0 + 0 balanced aggregated=2/0
        mode Aggregate from +0.000 for 0.001 s: transitions were lost
        mode Stream from +1.000 for 0.999 s: few enough transitions again
        state EST: entered 1 live 0 time 0
        state SYN_SENT: entered 1 live 0 time 0
        state FIN_WAIT1: entered 1 live 0 time 1 [1.000]
        state FIN_WAIT2: entered 1 live 1 time 0
        process 100/client: 4 live 1 EST>FIN_WAIT1=1 SYN_SENT>EST=1 FIN_WAIT1>FIN_WAIT2=1 CLOSE>SYN_SENT=1",
    );
}

#[test]
fn a_filter_of_the_readers_cannot_be_applied_to_rows() {
    check_report(
        "
        session replay=peer:80
        mode +0ms aggregate asked
        sum 5 CLOSE>SYN_SENT pid=100 ns=1
        end +1000ms
        report loss transitions processes",
        "
        loss: 5 = 0 + 0 + 0 balanced aggregated=5/0
        transitions:",
    );
}

#[test]
fn a_survey_puts_right_what_moved_unseen_and_counts_no_repair() {
    check_report(
        "
        mode +0ms aggregate lost
        shown +0ms CLOSE>SYN_SENT ck=5 10.0.0.1:4000>10.0.0.2:80 ns=1 task=100:client
        shown +0ms CLOSE>SYN_SENT ck=6 10.0.0.1:4001>10.0.0.2:80 ns=1 task=100:client
        sum 2 CLOSE>SYN_SENT pid=100 ns=1
        survey +10ms
        row ESTABLISHED ck=5 ns=1 inode=16 10.0.0.1:4000>10.0.0.2:80
        surveyed +20ms all ns=1
        survey +30ms
        row ESTABLISHED ck=5 ns=1 inode=16 10.0.0.1:4000>10.0.0.2:80
        surveyed +40ms all ns=1
        end +1000ms
        report loss live",
        "
        loss: 2 = 0 + 0 + 0 balanced aggregated=2/0
        live: EST=1",
    );
}

#[test]
fn a_missing_row_unbalances() {
    check_report(
        "
        mode +0ms aggregate asked
        vanished +1ms EST>FIN_WAIT1 ck=5
        sum 5 CLOSE>SYN_SENT pid=100 ns=1
        end +1000ms
        report loss",
        "loss: 6 = 0 + 0 + 0 NOT BALANCED aggregated=5/0",
    );
}
