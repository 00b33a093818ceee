//! What user space found by looking, merged with what events told.

use crate::check::{check, check_report};

const FACTS: &str = "
    facts 100:server start=10 container=web
    facts 101:worker start=20";

#[test]
fn sockets_that_existed_before_are_listed_at_once_with_their_holders() {
    check_report(
        &format!(
            "session after=5000
            survey +10ms
            row LISTEN     ck=1 ns=1 inode=11 rq=0 sq=128 0.0.0.0:80>0.0.0.0:0
            row CLOSE_WAIT ck=2 ns=1 inode=12 rq=0 lastack=60000 10.0.0.1:80>10.0.0.2:4000
            row CLOSE_WAIT ck=3 ns=1 inode=13 rq=1 atleast=7000  10.0.0.1:80>10.0.0.2:4001
            row CLOSE_WAIT ck=4 ns=1 inode=14 rq=9 lastack=8000  10.0.0.1:80>10.0.0.2:4002
            row CLOSE_WAIT ck=5 ns=1          rq=1 lastack=9000  10.0.0.1:80>10.0.0.2:4003
            row ESTABLISHED ck=6 ns=1 inode=16 10.0.0.1:80>10.0.0.2:4004
            holder inode=11 pid=100 fd=3
            holder inode=12 pid=100 fd=4
            holder inode=13 pid=100 fd=5
            holder inode=14 pid=100 fd=6
            holder inode=14 pid=101 fd=6
            holder inode=16 pid=101 fd=7
            {FACTS}
            surveyed +20ms all holders ns=1
            end +1000ms
            report live close_wait containers"
        ),
        "
        live: EST=1 CLOSE_WAIT=4 LISTEN=1
        close_wait: live 4 lingering 4 after 5000.000
        close_wait 100/server: 4 oldest 60990.000 peers 4x10.0.0.2 listeners 4x0.0.0.0:80 forgot=1 idle=1 unread=1 unaccepted=1
          socket 2 10.0.0.1:80>10.0.0.2:4000 60990.000 fd ForgotClose Held 100#4
          socket 5 10.0.0.1:80>10.0.0.2:4003 9990.000 listen NeverAccepted NeverAccepted
          socket 4 10.0.0.1:80>10.0.0.2:4002 8990.000 fd UnreadData Shared 100#6 101#6
          socket 3 10.0.0.1:80>10.0.0.2:4001 ≥7980.000 fd NeverLooked Held 100#5
        container web: 1 processes 0 live 5 close_wait 4 time_wait 0
        container -: 1 processes 0 live 1 close_wait 0 time_wait 0",
    );
}

#[test]
fn events_know_better_than_a_survey_that_was_under_way() {
    // The list shows sockets 2 and 3 as they were when it was made; both have moved on by its end.
    check(
        "
        +0ms CLOSE>SYN_SENT ck=2 sk=a 10.0.0.1:0>10.0.0.9:80 ns=1 task=100:client
        +1ms SYN_SENT>EST   ck=2 sk=a 10.0.0.1:4000>10.0.0.9:80 ns=1
        survey +10ms
        row ESTABLISHED ck=2 ns=1 inode=12 10.0.0.1:4000>10.0.0.9:80
        row ESTABLISHED ck=3 ns=1 inode=13 10.0.0.1:4001>10.0.0.9:80
        +15ms EST>FIN_WAIT1   ck=2 sk=a 10.0.0.1:4000>10.0.0.9:80 ns=1 task=100:client
        +15ms EST>CLOSE       ck=3 sk=b 10.0.0.1:4001>10.0.0.9:80 ns=1 err=104
        surveyed +20ms all ns=1
        +30ms FIN_WAIT1>FIN_WAIT2 ck=2 sk=a 10.0.0.1:4000>10.0.0.9:80 ns=1
        report live loss",
        "
        +0.000  CLOSE>SYN_SENT      -      10.0.0.1:0>10.0.0.9:80    100/client/connect
        +1.000  SYN_SENT>EST        1.000  10.0.0.1:4000>10.0.0.9:80 100/client/connect
        +15.000 EST>FIN_WAIT1       14.000 10.0.0.1:4000>10.0.0.9:80 100/client/task
        +15.000 EST>CLOSE           -      10.0.0.1:4001>10.0.0.9:80 -
        +30.000 FIN_WAIT1>FIN_WAIT2 15.000 10.0.0.1:4000>10.0.0.9:80 100/client/task
        live: FIN_WAIT2=1
        loss: 5 = 5 + 0 + 0 balanced",
    );
}

#[test]
fn a_socket_that_was_found_has_no_duration_but_an_owner() {
    check(
        &format!(
            "
            survey +10ms
            row ESTABLISHED ck=3 ns=1 inode=13 10.0.0.1:80>10.0.0.9:4001
            row CLOSE_WAIT  ck=4 ns=1 inode=14 rq=0 lastack=5 10.0.0.1:80>10.0.0.9:4002
            holder inode=13 pid=101 fd=3
            {FACTS}
            surveyed +20ms all holders ns=1
            +50ms EST>CLOSE_WAIT      ck=3 sk=b 10.0.0.1:80>10.0.0.9:4001 ns=1
            +60ms CLOSE_WAIT>LAST_ACK ck=3 sk=b 10.0.0.1:80>10.0.0.9:4001 ns=1
            +70ms CLOSE_WAIT>LAST_ACK ck=4 sk=c 10.0.0.1:80>10.0.0.9:4002 ns=1"
        ),
        "
        +50.000 EST>CLOSE_WAIT      -      10.0.0.1:80>10.0.0.9:4001 101/worker/fd
        +60.000 CLOSE_WAIT>LAST_ACK 10.000 10.0.0.1:80>10.0.0.9:4001 101/worker/fd
        +70.000 CLOSE_WAIT>LAST_ACK 65.000 10.0.0.1:80>10.0.0.9:4002 -",
    );
}

#[test]
fn what_lost_events_left_behind_is_repaired_and_counted() {
    check_report(
        "
        +0ms CLOSE>SYN_SENT ck=2 10.0.0.1:0>10.0.0.9:80    ns=1 task=100:client
        +1ms SYN_SENT>EST   ck=2 10.0.0.1:4000>10.0.0.9:80 ns=1
        +0ms CLOSE>SYN_SENT ck=3 10.0.0.1:0>10.0.0.9:80    ns=1 task=100:client
        +1ms SYN_SENT>EST   ck=3 10.0.0.1:4001>10.0.0.9:80 ns=1
        lost +5ms EST>CLOSE_WAIT ck=2 10.0.0.1:4000>10.0.0.9:80 ns=1
        lost +5ms EST>CLOSE      ck=3 10.0.0.1:4001>10.0.0.9:80 ns=1
        counters +6ms
        survey +10ms
        row CLOSE_WAIT ck=2 ns=1 inode=12 rq=1 lastack=5 10.0.0.1:4000>10.0.0.9:80
        surveyed +20ms all ns=1
        report live loss
        survey +22ms
        row CLOSE_WAIT ck=2 ns=1 inode=12 rq=1 lastack=5 10.0.0.1:4000>10.0.0.9:80
        surveyed +25ms all ns=1
        end +30ms
        report live loss",
        "
        live: EST=1 CLOSE_WAIT=1
        loss: 6 = 4 + 0 + 2 balanced repaired=1
        live: CLOSE_WAIT=1
        loss: 0 = 0 + 0 + 0 balanced repaired=1",
    );
}

#[test]
fn one_list_may_have_missed_a_socket() {
    check_report(
        "
        +0ms CLOSE>SYN_SENT ck=2 10.0.0.1:0>10.0.0.9:80    ns=1 task=100:client
        +1ms SYN_SENT>EST   ck=2 10.0.0.1:4000>10.0.0.9:80 ns=1
        survey +10ms
        surveyed +20ms all ns=1
        survey +22ms
        row EST ck=2 ns=1 inode=12 10.0.0.1:4000>10.0.0.9:80
        surveyed +25ms all ns=1
        survey +32ms
        surveyed +35ms all ns=1
        report live",
        "live: EST=1",
    );
}

#[test]
fn a_survey_of_some_states_or_namespaces_buries_nobody() {
    check_report(
        "
        +0ms CLOSE>SYN_SENT ck=2 10.0.0.1:0>10.0.0.9:80    ns=1 task=100:client
        +1ms SYN_SENT>EST   ck=2 10.0.0.1:4000>10.0.0.9:80 ns=1
        survey +10ms
        surveyed +20ms report ns=1
        survey +30ms
        surveyed +40ms all ns=2
        report live",
        "live: EST=1",
    );
}

#[test]
fn a_socket_passed_on_belongs_to_whoever_holds_it_now() {
    check_report(
        &format!(
            "session after=0
            +0ms CLOSE>LISTEN    ck=1 0.0.0.0:80>0.0.0.0:0      ns=1 task=100:server start=10
            +1ms LISTEN>SYN_RECV ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1
            +1ms SYN_RECV>EST    ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1 srtt=1
            use accept +2ms ck=2 task=100:server start=10
            +5ms EST>CLOSE_WAIT  ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1 done
            survey +10ms
            row CLOSE_WAIT ck=2 ns=1 inode=12 rq=0 lastack=5 10.0.0.1:80>10.0.0.2:4000
            holder inode=12 pid=101 fd=3
            {FACTS}
            surveyed +20ms report holders ns=1
            end +25ms
            report close_wait"
        ),
        "
        close_wait: live 1 lingering 1 after 0.000
        close_wait 101/worker: 1 oldest 20.000 peers 1x10.0.0.2 listeners 1x0.0.0.0:80 forgot=1 idle=0 unread=0 unaccepted=0
          socket 2 10.0.0.1:80>10.0.0.2:4000 20.000 fd ForgotClose Held 101#3",
    );
}

#[test]
fn a_socket_in_flight_has_no_holder_and_keeps_its_last_known_owner() {
    check_report(
        "session after=0
        +0ms CLOSE>SYN_SENT ck=2 10.0.0.1:0>10.0.0.9:80    ns=1 task=100:client
        +1ms SYN_SENT>EST   ck=2 10.0.0.1:4000>10.0.0.9:80 ns=1
        +5ms EST>CLOSE_WAIT ck=2 10.0.0.1:4000>10.0.0.9:80 ns=1 done
        survey +10ms
        row CLOSE_WAIT ck=2 ns=1 inode=12 rq=1 lastack=5 10.0.0.1:4000>10.0.0.9:80
        surveyed +20ms report holders ns=1
        end +25ms
        report close_wait",
        "
        close_wait: live 1 lingering 1 after 0.000
        close_wait 100/client: 1 oldest 20.000 peers 1x10.0.0.9 listeners forgot=0 idle=1 unread=0 unaccepted=0
          socket 2 10.0.0.1:4000>10.0.0.9:80 20.000 connect NeverLooked InFlight",
    );
}

#[test]
fn accept_tells_the_owner_at_the_first_chance_and_decides_a_filter() {
    check(
        "session filter=pid:101
        +0ms CLOSE>LISTEN    ck=1 0.0.0.0:80>0.0.0.0:0      ns=1 task=100:master
        +1ms LISTEN>SYN_RECV ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1
        +1ms SYN_RECV>EST    ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1 srtt=1
        use accept +2ms ck=2 task=101:worker
        +5ms EST>CLOSE_WAIT  ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1 done",
        "
        +1.000 LISTEN>SYN_RECV -     10.0.0.1:80>10.0.0.2:4000 100/master/listen
        +1.000 SYN_RECV>EST    1.000 10.0.0.1:80>10.0.0.2:4000 100/master/listen
        +5.000 EST>CLOSE_WAIT  4.000 10.0.0.1:80>10.0.0.2:4000 101/worker/accept",
    );
}

#[test]
fn the_perf_tracepoint_recognises_found_sockets_by_their_ends() {
    check(
        &format!(
            "session tracepoint
            survey +10ms
            row ESTABLISHED ck=3 ns=1 inode=13 10.0.0.1:80>10.0.0.9:4001
            holder inode=13 pid=101 fd=3
            {FACTS}
            surveyed +20ms all holders ns=1
            +50ms EST>CLOSE_WAIT sk=b 10.0.0.1:80>10.0.0.9:4001
            +60ms CLOSE_WAIT>LAST_ACK sk=b 10.0.0.1:80>10.0.0.9:4001
            report live"
        ),
        "
        +50.000 EST>CLOSE_WAIT      -      10.0.0.1:80>10.0.0.9:4001 101/worker/fd
        +60.000 CLOSE_WAIT>LAST_ACK 10.000 10.0.0.1:80>10.0.0.9:4001 101/worker/fd
        live: LAST_ACK=1",
    );
}

#[test]
fn time_wait_is_counted_by_destination_and_by_who_entered_it() {
    check_report(
        "session programs=time_wait
        facts ns=1 range=32768-32777
        +0ms CLOSE>SYN_SENT ck=2 10.0.0.1:0>10.0.0.9:80    ns=1 task=100:client
        +1ms SYN_SENT>EST   ck=2 10.0.0.1:4000>10.0.0.9:80 ns=1
        +2ms EST>FIN_WAIT1  ck=2 10.0.0.1:4000>10.0.0.9:80 ns=1 task=100:client
        +3ms FIN_WAIT1>FIN_WAIT2 ck=2 10.0.0.1:4000>10.0.0.9:80 ns=1
        # Without the program this would be an orphan: the FIN came with the last ACK.
        +3ms FIN_WAIT2>CLOSE ck=2 10.0.0.1:4000>10.0.0.9:80 ns=1 err=0 left=time_wait
        survey +10ms
        row TIME_WAIT ck=2 ns=1 timer=tw 10.0.0.1:4000>10.0.0.9:80
        row TIME_WAIT ck=7 ns=1 timer=tw 10.0.0.1:4001>10.0.0.9:80
        row FIN_WAIT2 ck=8 ns=1 timer=tw 10.0.0.1:4002>10.0.0.9:80
        surveyed +20ms report ns=1
        report time_wait live",
        "
        time_wait: 1 orphaned 0 exact live 2 orphans 1
        time_wait 100/client: 1 live 1
        time_wait 1 10.0.0.1>10.0.0.9:80: 2 of 10 +0 -2 by 1 - by 1 100/client
        live:",
    );
}

#[test]
fn up_to_6_12_a_survey_may_find_a_fast_open_child_before_its_cookie_is_told() {
    check_report(
        "
        +0ms CLOSE>LISTEN    ck=1 sk=a 0.0.0.0:80>0.0.0.0:0      ns=1 task=100:server
        +1ms LISTEN>SYN_RECV ck=1 sk=b 0.0.0.0:80>0.0.0.0:0      ns=1
        survey +10ms
        row SYN_RECV ck=2 ns=1 10.0.0.1:80>10.0.0.2:4000
        row LISTEN   ck=1 ns=1 inode=5 0.0.0.0:80>0.0.0.0:0
        surveyed +20ms all ns=1
        +90ms SYN_RECV>EST   ck=2 sk=b 10.0.0.1:80>10.0.0.2:4000 ns=1 req=89 tfo
        report live half_open processes",
        "
        live: EST=1 LISTEN=1
        half_open: 1 [89.000] fast_open=1 unknown=0 cookies=0 live=0
        process 100/server: 3 live 2 SYN_RECV>EST=1 CLOSE>LISTEN=1 LISTEN>SYN_RECV=1",
    );
}

#[test]
fn events_that_are_on_their_way_come_behind_the_rows_that_they_explain() {
    check(
        "
        +0ms CLOSE>SYN_SENT ck=2 sk=a 10.0.0.1:0>10.0.0.9:80    ns=1 task=100:client
        +1ms SYN_SENT>EST   ck=2 sk=a 10.0.0.1:4000>10.0.0.9:80 ns=1
        survey +10ms
        read +14ms
        row CLOSE_WAIT  ck=2 ns=1 inode=12 rq=1 10.0.0.1:4000>10.0.0.9:80
        row ESTABLISHED ck=3 ns=1 inode=13 10.0.0.1:4001>10.0.0.9:80
        row ESTABLISHED ck=4 ns=1 inode=14 10.0.0.1:4002>10.0.0.9:80
        +11ms EST>CLOSE_WAIT ck=2 sk=a 10.0.0.1:4000>10.0.0.9:80 ns=1
        +12ms CLOSE>SYN_SENT ck=3 sk=b 10.0.0.1:0>10.0.0.9:80    ns=1 task=100:client
        +13ms SYN_SENT>EST   ck=3 sk=b 10.0.0.1:4001>10.0.0.9:80 ns=1
        +13ms SYN_SENT>EST   ck=4 sk=c 10.0.0.1:4002>10.0.0.9:80 ns=1
        surveyed +20ms all ns=1
        +23ms EST>FIN_WAIT1  ck=3 sk=b 10.0.0.1:4001>10.0.0.9:80 ns=1 task=100:client
        report live loss",
        "
        +0.000  CLOSE>SYN_SENT -      10.0.0.1:0>10.0.0.9:80    100/client/connect
        +1.000  SYN_SENT>EST   1.000  10.0.0.1:4000>10.0.0.9:80 100/client/connect
        +11.000 EST>CLOSE_WAIT 10.000 10.0.0.1:4000>10.0.0.9:80 100/client/connect
        +12.000 CLOSE>SYN_SENT -      10.0.0.1:0>10.0.0.9:80    100/client/connect
        +13.000 SYN_SENT>EST   1.000  10.0.0.1:4001>10.0.0.9:80 100/client/connect
        +13.000 SYN_SENT>EST   -      10.0.0.1:4002>10.0.0.9:80 -
        +23.000 EST>FIN_WAIT1  10.000 10.0.0.1:4001>10.0.0.9:80 100/client/task
        live: EST=1 FIN_WAIT1=1 CLOSE_WAIT=1
        loss: 7 = 7 + 0 + 0 balanced",
    );
}

#[test]
fn sockets_that_the_filter_turns_away_take_no_room() {
    check_report(
        "
        session filter=local:80 max_connections=2
        survey +10ms
        row ESTABLISHED ck=2 ns=1 inode=12 10.0.0.1:90>10.0.0.9:4000
        row ESTABLISHED ck=3 ns=1 inode=13 10.0.0.1:91>10.0.0.9:4001
        row ESTABLISHED ck=4 ns=1 inode=14 10.0.0.1:92>10.0.0.9:4002
        row ESTABLISHED ck=5 ns=1 inode=15 10.0.0.1:80>10.0.0.9:4003
        surveyed +20ms all ns=1
        report live limits",
        "
        live: EST=1",
    );
}
