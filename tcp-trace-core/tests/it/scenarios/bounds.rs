//! Nothing grows without bound, and what did not fit is told.

use crate::check::{check, check_report, last_report};

#[test]
fn beyond_the_connections_that_fit_events_are_counted_but_have_no_history() {
    check(
        "
        session max_connections=1
        +0ms CLOSE>SYN_SENT ck=5 10.0.0.1:0>10.0.0.2:443    task=100:one
        +0ms CLOSE>SYN_SENT ck=6 10.0.0.1:0>10.0.0.2:443    task=101:two
        +1ms SYN_SENT>EST   ck=6 10.0.0.1:4001>10.0.0.2:443
        +1ms SYN_SENT>EST   ck=5 10.0.0.1:4000>10.0.0.2:443
        +2ms EST>CLOSE      ck=5 10.0.0.1:4000>10.0.0.2:443
        # There is room again.
        +3ms EST>FIN_WAIT1  ck=6 10.0.0.1:4001>10.0.0.2:443 task=101:two
        end +4ms
        report loss live processes limits",
        "
        +0.000 CLOSE>SYN_SENT -     10.0.0.1:0>10.0.0.2:443    100/one/connect
        +0.000 CLOSE>SYN_SENT -     10.0.0.1:0>10.0.0.2:443    101/two/connect
        +1.000 SYN_SENT>EST   -     10.0.0.1:4001>10.0.0.2:443 -
        +1.000 SYN_SENT>EST   1.000 10.0.0.1:4000>10.0.0.2:443 100/one/connect
        +2.000 EST>CLOSE      1.000 10.0.0.1:4000>10.0.0.2:443 100/one/connect
        +3.000 EST>FIN_WAIT1  -     10.0.0.1:4001>10.0.0.2:443 101/two/task
        loss: 6 = 6 + 0 + 0 balanced untracked=2
        live: FIN_WAIT1=1
        process 100/one: 3 live 0 EST>CLOSE=1 SYN_SENT>EST=1 CLOSE>SYN_SENT=1
        process 101/two: 2 live 1 EST>FIN_WAIT1=1 CLOSE>SYN_SENT=1
        process -: 1 live 0 SYN_SENT>EST=1
        limit connections: 1 of 1 peak 1 dropped 2",
    );
}

#[test]
fn a_full_table_gives_up_a_quiet_connection_and_knows_nothing_of_it_when_it_comes_back() {
    check(
        "
        session max_connections=2
        +0ms CLOSE>LISTEN     ck=1 10.0.0.1:80>0.0.0.0:0     task=100:server
        +0ms LISTEN>SYN_RECV  ck=5 10.0.0.1:80>10.0.0.2:4000 req=0
        +0ms SYN_RECV>EST     ck=5 10.0.0.1:80>10.0.0.2:4000 req=0
        # The listener stays; what is established makes room.
        +1ms LISTEN>SYN_RECV  ck=6 10.0.0.1:80>10.0.0.2:4001 req=1
        +2ms SYN_RECV>EST     ck=6 10.0.0.1:80>10.0.0.2:4001 req=1
        +3ms EST>CLOSE_WAIT   ck=5 10.0.0.1:80>10.0.0.2:4000
        # Something is going on with this one.
        +4ms EST>FIN_WAIT1    ck=6 10.0.0.1:80>10.0.0.2:4001 task=100:server
        +5ms CLOSE_WAIT>LAST_ACK ck=5 10.0.0.1:80>10.0.0.2:4000 task=100:server
        end +6ms
        report loss live processes limits",
        "
        +0.000 CLOSE>LISTEN        -     10.0.0.1:80>0.0.0.0:0     100/server/listen
        +0.000 LISTEN>SYN_RECV     -     10.0.0.1:80>10.0.0.2:4000 100/server/listen
        +0.000 SYN_RECV>EST        0.000 10.0.0.1:80>10.0.0.2:4000 100/server/listen
        +1.000 LISTEN>SYN_RECV     -     10.0.0.1:80>10.0.0.2:4001 100/server/listen
        +2.000 SYN_RECV>EST        1.000 10.0.0.1:80>10.0.0.2:4001 100/server/listen
        +3.000 EST>CLOSE_WAIT      -     10.0.0.1:80>10.0.0.2:4000 -
        +4.000 EST>FIN_WAIT1       -     10.0.0.1:80>10.0.0.2:4001 100/server/task
        +5.000 CLOSE_WAIT>LAST_ACK 2.000 10.0.0.1:80>10.0.0.2:4000 100/server/task
        loss: 8 = 8 + 0 + 0 balanced untracked=1
        live: LAST_ACK=1 LISTEN=1
        process 100/server: 8 live 2 EST>FIN_WAIT1=1 EST>CLOSE_WAIT=1 SYN_RECV>EST=2 CLOSE>LISTEN=1 CLOSE_WAIT>LAST_ACK=1 LISTEN>SYN_RECV=2
        limit connections: 2 of 2 peak 2 dropped 3",
    );
}

#[test]
fn a_listener_that_does_not_fit_is_not_remembered() {
    check_report(
        "
        session max_connections=1
        +0ms CLOSE>LISTEN    ck=1 10.0.0.1:80>0.0.0.0:0     task=100:one
        +0ms CLOSE>LISTEN    ck=2 10.0.0.1:81>0.0.0.0:0     task=101:two
        +1ms LISTEN>CLOSE    ck=1 10.0.0.1:80>0.0.0.0:0     task=100:one
        +2ms LISTEN>SYN_RECV ck=3 10.0.0.1:81>10.0.0.2:4000
        report processes",
        "
        process 100/one: 2 live 0 CLOSE>LISTEN=1 LISTEN>CLOSE=1
        process -: 1 live 1 LISTEN>SYN_RECV=1
        process 101/two: 1 live 0 CLOSE>LISTEN=1",
    );
}

#[test]
fn rows_beyond_the_limit_are_summed_up_in_one() {
    let mut input = String::from("session max_rows=2\n");
    for n in 1..=4_u16 {
        let (client, child) = (format!("ck={n} 10.0.0.1:4000>10.0.0.{n}:80"), n + 10);
        let child = format!("ck={child} 10.0.0.1:{n}>10.0.0.2:4000");
        input += &format!("+0ms CLOSE>SYN_SENT {client} task={n}:p{n}\n+1ms SYN_SENT>EST {client}\n");
        input += &format!("+2ms SYN_RECV>EST {child} req={n}\n");
        input += &format!("+9ms EST>CLOSE {client} task={n}:p{n}\n+9ms EST>CLOSE {child} task={n}:p{n}\n");
    }
    check_report(
        &(input + "end +9ms\nreport connect listeners processes loss"),
        "
        connect 10.0.0.1:80: 1 [1.000]
        connect 10.0.0.2:80: 1 [1.000]
        connect -: 2 [1.000]
        listener 10.0.0.1:1 -: 1 [1.000] unknown=0 cookies=0
        listener 10.0.0.1:2 -: 1 [2.000] unknown=0 cookies=0
        listener - -: 2 [3.000..4.000] unknown=0 cookies=0
        process 1/p1: 5 live 0 EST>CLOSE=2 SYN_SENT>EST=1 SYN_RECV>EST=1 CLOSE>SYN_SENT=1
        process 2/p2: 5 live 0 EST>CLOSE=2 SYN_SENT>EST=1 SYN_RECV>EST=1 CLOSE>SYN_SENT=1
        omitted: 10
        loss: 20 = 20 + 0 + 0 balanced",
    );
}

/// With `-L`, a client's first event cannot be judged in the kernel, and its later ones are turned away there:
/// nothing ever decides it.
fn undecided(from: u32, to: u32) -> String {
    (from..=to)
        .map(|ck| {
            let later = format!("ck={ck} 10.0.0.1:{}>10.0.0.2:443", 40_000 + ck);
            format!(
                "+0ms CLOSE>SYN_SENT ck={ck} 10.0.0.1:0>10.0.0.2:443 task=100:noise
                filtered +1ms SYN_SENT>EST {later}
                filtered +2ms EST>CLOSE {later}\n"
            )
        })
        .collect()
}

#[test]
fn connections_that_nothing_decides_do_not_use_up_the_table() {
    check(
        &format!(
            "session filter=local:80 max_connections=16
            {}
            +5ms CLOSE>SYN_SENT ck=100 10.0.0.1:0>10.0.0.2:443  task=9:wanted
            {}
            +6ms SYN_SENT>EST   ck=100 10.0.0.1:80>10.0.0.2:443
            end +7ms
            report loss",
            undecided(1, 50),
            undecided(51, 53),
        ),
        "
        +5.000 CLOSE>SYN_SENT -     10.0.0.1:0>10.0.0.2:443  9/wanted/connect
        +6.000 SYN_SENT>EST   1.000 10.0.0.1:80>10.0.0.2:443 9/wanted/connect
        loss: 161 = 2 + 159 + 0 balanced",
    );
}

#[test]
fn a_long_trail_of_held_back_events_is_counted_in_full() {
    // More than a life has; only a strange kernel makes such a sequence.
    let turns: String =
        (0..20).map(|_| "+1ms FIN_WAIT2>FIN_WAIT2 ck=5 10.0.0.1:4000>10.0.0.2:443\n").collect();
    check_report(
        &format!(
            "session replay=pid:9
            {turns}
            +3ms FIN_WAIT2>CLOSE ck=5 10.0.0.1:4000>10.0.0.2:443 task=9:late
            report processes loss"
        ),
        "
        process 9/late: 21 live 0 FIN_WAIT2>FIN_WAIT2=20 FIN_WAIT2>CLOSE=1
        loss: 21 = 21 + 0 + 0 balanced",
    );
}

/// Those without a process sum up the rest, one row for each way to end: they are none of those that have a limit.
#[test]
fn rows_that_sum_up_the_rest_are_not_counted_against_the_limit() {
    let report = last_report(
        "
        session max_rows=1
        +0ms CLOSE>SYN_SENT ck=1 10.0.0.1:0>10.0.0.2:443    task=100:one
        +1ms SYN_SENT>EST   ck=1 10.0.0.1:4000>10.0.0.2:443
        +2ms EST>CLOSE      ck=1 10.0.0.1:4000>10.0.0.2:443 task=100:one
        +2ms CLOSE>SYN_SENT ck=2 10.0.0.1:0>10.0.0.2:443    task=101:two
        +3ms SYN_SENT>CLOSE ck=2 10.0.0.1:4001>10.0.0.2:443 err=111
        +4ms EST>CLOSE      ck=3 10.0.0.1:4002>10.0.0.2:443 err=104
        end +5ms
        report loss",
    );
    let endings = report.limits.iter().find(|limit| limit.name == "endings").unwrap();
    assert_eq!((endings.limit, endings.in_use, endings.peak), (1, 1, 1));
    assert_eq!(report.endings.unwrap().iter().map(|row| row.count).sum::<u64>(), 3);
}
