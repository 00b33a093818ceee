//! Who goes into TIME_WAIT: only the peer's FIN (SOCK_DONE) tells it from an orphan's end.

use crate::check::check_report;

#[test]
fn only_a_closer_that_has_seen_the_peers_fin_goes_into_time_wait() {
    check_report(
        "
        +0ms EST>FIN_WAIT1   ck=1 10.0.0.1:4001>10.0.0.2:80 task=100:client
        +0ms EST>FIN_WAIT1   ck=2 10.0.0.1:4002>10.0.0.2:80 task=100:client
        +0ms EST>FIN_WAIT1   ck=3 10.0.0.1:4003>10.0.0.2:80 task=100:client
        +0ms EST>FIN_WAIT1   ck=4 10.0.0.1:4004>10.0.0.2:80 task=100:client
        # The peer's FIN came.
        +1ms FIN_WAIT2>CLOSE ck=1 10.0.0.1:4001>10.0.0.2:80 done
        # An orphan whose peer only acknowledged: what remains of it is in FIN_WAIT2.
        +1ms FIN_WAIT2>CLOSE ck=2 10.0.0.1:4002>10.0.0.2:80
        # Reset in FIN_WAIT2.
        +1ms FIN_WAIT2>CLOSE ck=3 10.0.0.1:4003>10.0.0.2:80 err=104
        # Both closed at once, and then a reset came.
        +1ms CLOSING>CLOSE   ck=4 10.0.0.1:4004>10.0.0.2:80 done err=104
        report time_wait",
        "
        time_wait: 1 orphaned 1
        time_wait 100/client: 1",
    );
}

#[test]
fn the_passive_closer_does_not_go_into_time_wait() {
    check_report(
        "
        +0ms LAST_ACK>CLOSE   ck=1 10.0.0.1:80>10.0.0.2:4001 done
        +0ms CLOSE_WAIT>CLOSE ck=2 10.0.0.1:80>10.0.0.2:4002 done
        report time_wait",
        "time_wait: 0 orphaned 0",
    );
}

#[test]
fn a_shut_down_socket_goes_into_time_wait_while_its_descriptor_lives_on() {
    check_report(
        "
        +0ms EST>FIN_WAIT1       ck=1 10.0.0.1:4001>10.0.0.2:80 task=100:client
        +1ms FIN_WAIT1>FIN_WAIT2 ck=1 10.0.0.1:4001>10.0.0.2:80
        +2ms FIN_WAIT2>CLOSE     ck=1 10.0.0.1:4001>10.0.0.2:80 done
        report time_wait live",
        "
        time_wait: 1 orphaned 0
        time_wait 100/client: 1
        live:",
    );
}

#[test]
fn processes_are_listed_by_their_time_waits_and_the_unknown_owner_is_one_of_them() {
    let mut input = String::new();
    for (ck, task) in [(1, "task=5:one"), (2, "task=6:two"), (3, "task=6:two"), (4, "")] {
        let tuple = format!("ck={ck} 10.0.0.1:400{ck}>10.0.0.2:80");
        input += &format!("+0ms EST>FIN_WAIT1 {tuple} {task}\n+1ms FIN_WAIT2>CLOSE {tuple} done\n");
    }
    check_report(
        &(input + "report time_wait"),
        "
        time_wait: 4 orphaned 0
        time_wait 6/two: 2
        time_wait -: 1
        time_wait 5/one: 1",
    );
}
