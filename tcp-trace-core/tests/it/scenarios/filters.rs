//! What a filter lets through: whole connections, by what is known of them in the end.

use crate::check::{check, check_report};

const CLIENT: &str = "
    +0ms CLOSE>SYN_SENT ck=5 10.0.0.1:0>10.0.0.2:443    ns=1 cg=7 task=100:client
    +1ms SYN_SENT>EST   ck=5 10.0.0.1:4000>10.0.0.2:443 ns=1 cg=7
    +2ms EST>CLOSE      ck=5 10.0.0.1:4000>10.0.0.2:443 ns=1 cg=7 err=104
    end +3ms
    report loss";

const CLIENT_ROWS: &str = "
    +0.000 CLOSE>SYN_SENT -     10.0.0.1:0>10.0.0.2:443    100/client/connect
    +1.000 SYN_SENT>EST   1.000 10.0.0.1:4000>10.0.0.2:443 100/client/connect
    +2.000 EST>CLOSE      1.000 10.0.0.1:4000>10.0.0.2:443 100/client/connect
    loss: 3 = 3 + 0 + 0 balanced";

#[test]
fn a_client_is_matched_by_everything_that_is_known_of_it() {
    for filter in ["peer:443", "local:4000", "local:4000,peer:443", "v4", "pid:100", "netns:1", "cgroup:7"] {
        check(&format!("session filter={filter}\n{CLIENT}"), CLIENT_ROWS);
        check(&format!("session replay={filter}\n{CLIENT}"), CLIENT_ROWS);
    }
}

#[test]
fn what_does_not_match_is_counted_as_filtered() {
    for filter in ["peer:80", "local:443", "v6", "pid:4", "netns:2", "cgroup:8", "peer:443,pid:4"] {
        check(&format!("session replay={filter}\n{CLIENT}"), "loss: 3 = 0 + 3 + 0 balanced");
    }
}

#[test]
fn both_the_recordings_filter_and_the_readers_must_accept() {
    check(&format!("session filter=peer:443 replay=pid:100\n{CLIENT}"), CLIENT_ROWS);
    let none = "loss: 3 = 0 + 3 + 0 balanced";
    check(&format!("session filter=peer:443 replay=pid:4\n{CLIENT}"), none);
    check(&format!("session filter=pid:4 replay=peer:443\n{CLIENT}"), none);
}

#[test]
fn events_before_the_local_port_is_chosen_are_held_back_and_released_in_order() {
    check(
        "
        session filter=local:4000
        +0ms CLOSE>SYN_SENT ck=5 10.0.0.1:0>10.0.0.2:443    task=100:client
        +1ms CLOSE>SYN_SENT ck=6 10.0.0.1:0>10.0.0.2:443    task=100:client
        +2ms SYN_SENT>EST   ck=6 10.0.0.1:4001>10.0.0.2:443
        +3ms SYN_SENT>EST   ck=5 10.0.0.1:4000>10.0.0.2:443
        end +4ms
        report loss live",
        "
        +0.000 CLOSE>SYN_SENT -     10.0.0.1:0>10.0.0.2:443    100/client/connect
        +3.000 SYN_SENT>EST   3.000 10.0.0.1:4000>10.0.0.2:443 100/client/connect
        loss: 4 = 2 + 2 + 0 balanced
        live: EST=1",
    );
}

#[test]
fn a_pid_decides_as_late_as_the_owners_own_call() {
    // Of a connection from before, the owner is known when it closes.
    check(
        "
        session filter=pid:9
        +1ms EST>CLOSE_WAIT      ck=5 10.0.0.1:80>10.0.0.2:4000 done
        +1ms EST>CLOSE_WAIT      ck=6 10.0.0.1:80>10.0.0.2:4001 done
        +1ms EST>CLOSE_WAIT      ck=7 10.0.0.1:80>10.0.0.2:4002 done
        +3ms CLOSE_WAIT>LAST_ACK ck=6 10.0.0.1:80>10.0.0.2:4001 done task=8:other
        +4ms CLOSE_WAIT>LAST_ACK ck=5 10.0.0.1:80>10.0.0.2:4000 done task=9:server
        +5ms LAST_ACK>CLOSE      ck=5 10.0.0.1:80>10.0.0.2:4000 done
        +6ms CLOSE_WAIT>CLOSE    ck=7 10.0.0.1:80>10.0.0.2:4002 done err=32
        end +7ms
        report loss processes",
        "
        +1.000 EST>CLOSE_WAIT      -     10.0.0.1:80>10.0.0.2:4000 -
        +4.000 CLOSE_WAIT>LAST_ACK 3.000 10.0.0.1:80>10.0.0.2:4000 9/server/task
        +5.000 LAST_ACK>CLOSE      1.000 10.0.0.1:80>10.0.0.2:4000 9/server/task
        loss: 7 = 3 + 4 + 0 balanced
        process 9/server: 3 live 0 EST>CLOSE_WAIT=1 CLOSE_WAIT>LAST_ACK=1 LAST_ACK>CLOSE=1",
    );
}

#[test]
fn a_workers_pid_matches_connections_of_its_masters_listener() {
    let input = "
        +0ms CLOSE>LISTEN        ck=1 0.0.0.0:80>0.0.0.0:0      task=100:master
        +1ms LISTEN>SYN_RECV     ck=2 10.0.0.1:80>10.0.0.2:4000
        +1ms SYN_RECV>EST        ck=2 10.0.0.1:80>10.0.0.2:4000 srtt=1
        +5ms EST>FIN_WAIT1       ck=2 10.0.0.1:80>10.0.0.2:4000 task=105:worker
        report loss processes";
    check_report(
        &format!("session filter=pid:105\n{input}"),
        "
        loss: 4 = 3 + 1 + 0 balanced
        process 105/worker: 3 live 1 EST>FIN_WAIT1=1 SYN_RECV>EST=1 LISTEN>SYN_RECV=1",
    );
}

#[test]
fn a_listeners_pid_matches_its_children_from_their_birth() {
    check(
        "
        session filter=pid:100
        +0ms CLOSE>LISTEN    ck=1 0.0.0.0:80>0.0.0.0:0      task=100:server
        +1ms LISTEN>SYN_RECV ck=2 10.0.0.1:80>10.0.0.2:4000",
        "
        +0.000 CLOSE>LISTEN    - 0.0.0.0:80>0.0.0.0:0      100/server/listen
        +1.000 LISTEN>SYN_RECV - 10.0.0.1:80>10.0.0.2:4000 100/server/listen",
    );
}

#[test]
fn up_to_6_12_a_child_without_its_peer_is_held_back_until_its_own_cookie_comes() {
    let input = "
        +0ms CLOSE>LISTEN    ck=7 sk=a0 [::]:80>[::]:0          task=200:server
        +1ms LISTEN>SYN_RECV ck=7 sk=b0 [::]:80>[::]:0
        +2ms SYN_RECV>EST    ck=9 sk=b0 10.0.0.1:80>10.0.0.2:4000 v6 srtt=1
        +3ms LISTEN>SYN_RECV ck=7 sk=c0 [::]:80>[::]:0
        +4ms SYN_RECV>EST    ck=8 sk=c0 [2001:db8::1]:80>[2001:db8::2]:5000 srtt=1
        end +5ms
        report loss";
    let v4 = "
        +1.000 LISTEN>SYN_RECV -     10.0.0.1:80>10.0.0.2:4000 200/server/listen
        +2.000 SYN_RECV>EST    1.000 10.0.0.1:80>10.0.0.2:4000 200/server/listen";
    check(&format!("session replay=v4\n{input}"), &format!("{v4}\nloss: 5 = 2 + 3 + 0 balanced"));
    check(&format!("session replay=peer:4000\n{input}"), &format!("{v4}\nloss: 5 = 2 + 3 + 0 balanced"));
    check(
        &format!("session replay=v6\n{input}"),
        "
        +0.000 CLOSE>LISTEN    -     [::]:80>[::]:0                      200/server/listen
        +3.000 LISTEN>SYN_RECV -     [2001:db8::1]:80>[2001:db8::2]:5000 200/server/listen
        +4.000 SYN_RECV>EST    1.000 [2001:db8::1]:80>[2001:db8::2]:5000 200/server/listen
        loss: 5 = 3 + 2 + 0 balanced",
    );
}

#[test]
fn what_was_held_back_dies_with_its_connection() {
    check(
        "
        session filter=local:4000
        +0ms CLOSE>SYN_SENT ck=5 10.0.0.1:0>10.0.0.2:443    task=100:client
        +1ms SYN_SENT>CLOSE ck=5 10.0.0.1:0>10.0.0.2:443    task=100:client
        +2ms CLOSE>SYN_SENT ck=5 10.0.0.1:0>10.0.0.2:443    task=100:client
        +3ms SYN_SENT>EST   ck=5 10.0.0.1:4000>10.0.0.2:443
        report loss",
        "
        +2.000 CLOSE>SYN_SENT -     10.0.0.1:0>10.0.0.2:443    100/client/connect
        +3.000 SYN_SENT>EST   1.000 10.0.0.1:4000>10.0.0.2:443 100/client/connect
        loss: 4 = 2 + 2 + 0 balanced",
    );
}
