//! Half-open requests that do not complete: expired, reset, live, and why.

use crate::check::check_report;

const LISTENER: &str = "+0ms CLOSE>LISTEN ck=1 0.0.0.0:80>0.0.0.0:0 ns=1 task=100:server";

#[test]
fn what_is_listed_is_live_and_what_has_died_is_told_apart_by_the_kernels_count_of_resets() {
    check_report(
        &format!(
            "session half_open
            {LISTENER}
            facts ns=1 resets=7 retries=1
            survey +500ms
            row NEW_SYN_RECV ck=2 ns=1 10.0.0.1:80>10.0.0.2:4000
            row NEW_SYN_RECV ck=3 ns=1 10.0.0.1:80>10.0.0.3:4000
            row LISTEN ck=1 ns=1 inode=5 rq=0 sq=128 0.0.0.0:80>0.0.0.0:0
            facts ns=1 resets=7 retries=1
            surveyed +501ms report ns=1
            survey +5000ms
            row NEW_SYN_RECV ck=3 ns=1 10.0.0.1:80>10.0.0.3:4000
            row LISTEN ck=1 ns=1 inode=5 rq=0 sq=128 0.0.0.0:80>0.0.0.0:0
            died ck=2 queued=+400ms 10.0.0.1:80>10.0.0.2:4000
            facts ns=1 resets=7 retries=1
            surveyed +5001ms report ns=1
            report half_open listeners namespaces"
        ),
        "
        half_open: 0 unknown=0 cookies=0 expired=1 reset=0 dead=0 live=1
        listener 0.0.0.0:80 100/server: 0 unknown=0 cookies=0 expired=1 reset=0 dead=0 live=1 syn=1/128 accept=0/128
        namespace 1: overflows=0 resets=0",
    );
}

/// Two requests, seen live, of which `dead` have died when the kernel has counted `resets`.
fn two(dead: &str, resets: u32) -> String {
    format!(
        "session half_open
        {LISTENER}
        facts ns=1 resets=0 retries=0
        survey +500ms
        row NEW_SYN_RECV ck=2 ns=1 10.0.0.1:80>10.0.0.2:4000
        row NEW_SYN_RECV ck=3 ns=1 10.0.0.1:80>10.0.0.3:4000
        facts ns=1 resets=0 retries=0
        surveyed +501ms requests ns=1
        survey +2000ms
        {dead}
        facts ns=1 resets={resets} retries=0
        surveyed +2001ms requests ns=1
        report half_open"
    )
}

const BOTH: &str = "
    died ck=2 queued=+400ms 10.0.0.1:80>10.0.0.2:4000
    died ck=3 queued=+400ms 10.0.0.1:80>10.0.0.3:4000";

#[test]
fn as_many_resets_as_deaths_were_resets_and_fewer_leave_it_open() {
    check_report(&two(BOTH, 2), "half_open: 0 unknown=0 cookies=0 expired=0 reset=2 dead=0 live=0");
    check_report(&two(BOTH, 1), "half_open: 0 unknown=0 cookies=0 expired=0 reset=0 dead=2 live=0");
    check_report(&two(BOTH, 0), "half_open: 0 unknown=0 cookies=0 expired=2 reset=0 dead=0 live=0");
}

#[test]
fn one_that_a_list_has_missed_is_the_same_when_it_is_listed_again() {
    check_report(
        &format!(
            "session half_open
            {LISTENER}
            survey +500ms
            row NEW_SYN_RECV ck=2 ns=1 10.0.0.1:80>10.0.0.2:4000
            surveyed +501ms requests ns=1
            survey +1000ms
            surveyed +1001ms requests ns=1
            survey +1500ms
            row NEW_SYN_RECV ck=2 ns=1 10.0.0.1:80>10.0.0.2:4000
            surveyed +1501ms requests ns=1
            report prefixes"
        ),
        "prefix 10.0.0.0/24: 1 of 0.0.0.0:80",
    );
}

#[test]
fn one_that_is_too_young_for_its_timer_was_dropped() {
    let young = BOTH.replace("queued=+400ms", "queued=+1500ms");
    check_report(&two(&young, 0), "half_open: 0 unknown=0 cookies=0 expired=0 reset=2 dead=0 live=0");
}

#[test]
fn one_that_was_never_listed_is_dead_only_if_the_kernel_has_counted_a_reset() {
    // It may live on in a namespace that cannot be looked at.
    let unlisted = "
        died ck=9 queued=+400ms 10.0.0.1:80>10.0.0.9:4000
        row NEW_SYN_RECV ck=2 ns=1 10.0.0.1:80>10.0.0.2:4000
        row NEW_SYN_RECV ck=3 ns=1 10.0.0.1:80>10.0.0.3:4000";
    check_report(&two(unlisted, 0), "half_open: 0 unknown=0 cookies=0 expired=0 reset=0 dead=0 live=2");
    check_report(&two(unlisted, 1), "half_open: 0 unknown=0 cookies=0 expired=0 reset=1 dead=0 live=2");
}

#[test]
fn an_event_of_a_death_is_not_counted_again() {
    check_report(
        &format!(
            "session half_open programs=request_timer,request_dropped
            {LISTENER}
            request expired +3000ms ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1
            request dropped +3100ms ck=3 10.0.0.1:80>10.0.0.3:4000 ns=1
            survey +4000ms
            died ck=2 queued=+1ms 10.0.0.1:80>10.0.0.2:4000
            died ck=3 queued=+1ms 10.0.0.1:80>10.0.0.3:4000
            surveyed +4001ms requests ns=1
            report half_open listeners"
        ),
        "
        half_open: 0 unknown=0 cookies=0 expired=1 reset=1 dead=0 live=0
        listener 0.0.0.0:80 100/server: 0 unknown=0 cookies=0 expired=1 reset=1 dead=0 live=0",
    );
}

#[test]
fn a_full_accept_queue_is_not_the_clients_fault() {
    check_report(
        &format!(
            "session half_open
            {LISTENER}
            request retransmit +1000ms ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1 queue=0/4 sent=1000 timeouts=1
            request retransmit +1000ms ck=3 10.0.0.1:80>10.0.0.3:4000 ns=1 queue=5/4 sent=1000 timeouts=1
            report listeners"
        ),
        "listener 0.0.0.0:80 100/server: 0 unknown=0 cookies=0 AcceptQueueFull",
    );
    check_report(
        &format!(
            "session half_open
            {LISTENER}
            request retransmit +1000ms ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1 queue=4/4 sent=1000 timeouts=1
            report listeners"
        ),
        "listener 0.0.0.0:80 100/server: 0 unknown=0 cookies=0 SilentClients",
    );
}

#[test]
fn without_sock_ops_the_retransmission_tells_when_the_first_syn_ack_went() {
    check_report(
        &format!(
            "
            {LISTENER}
            request retransmit +1100ms ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1 queue=0/4 sent=1000 timeouts=1
            +1300ms LISTEN>SYN_RECV ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1
            +1300ms SYN_RECV>EST    ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1 srtt=20 retrans=1
            report half_open"
        ),
        "half_open: 1 [1200.000] synack=1 unknown=0 cookies=0",
    );
}

#[test]
fn a_handshake_that_completes_while_it_is_looked_for_is_not_dead() {
    check_report(
        &format!(
            "session half_open
            {LISTENER}
            survey +500ms
            row NEW_SYN_RECV ck=2 ns=1 10.0.0.1:80>10.0.0.2:4000
            surveyed +501ms requests ns=1
            survey +1000ms
            +1001ms LISTEN>SYN_RECV ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1
            +1001ms SYN_RECV>EST    ck=2 10.0.0.1:80>10.0.0.2:4000 ns=1 req=600
            surveyed +1002ms requests ns=1
            report half_open"
        ),
        "half_open: 1 [600.000] sock_ops=1 unknown=0 cookies=0 expired=0 reset=0 dead=0 live=0",
    );
}

#[test]
fn the_filter_holds_for_requests_too() {
    check_report(
        "session half_open filter=local:81
        survey +500ms
        row LISTEN ck=1 ns=1 inode=5 rq=0 sq=128 0.0.0.0:80>0.0.0.0:0
        row LISTEN ck=2 ns=1 inode=6 rq=1 sq=128 0.0.0.0:81>0.0.0.0:0
        row NEW_SYN_RECV ck=3 ns=1 10.0.0.1:80>10.0.0.2:4000
        row NEW_SYN_RECV ck=4 ns=1 10.0.0.1:81>10.0.0.2:4000
        surveyed +501ms report ns=1
        report half_open listeners",
        "
        half_open: 0 unknown=0 cookies=0 expired=0 reset=0 dead=0 live=1
        listener 0.0.0.0:81 -: 0 unknown=0 cookies=0 expired=0 reset=0 dead=0 live=1 syn=1/128 accept=1/128",
    );
}

#[test]
fn a_young_ones_reset_is_not_the_old_ones() {
    check_report(
        &format!(
            "session half_open
            {LISTENER}
            facts ns=1 resets=0 retries=0
            survey +500ms
            row NEW_SYN_RECV ck=2 ns=1 10.0.0.1:80>10.0.0.2:4000
            facts ns=1 resets=0 retries=0
            surveyed +501ms requests ns=1
            survey +1900ms
            row NEW_SYN_RECV ck=3 ns=1 10.0.0.1:80>10.0.0.3:4000
            facts ns=1 resets=0 retries=0
            surveyed +1901ms requests ns=1
            survey +2200ms
            died ck=2 queued=+400ms 10.0.0.1:80>10.0.0.2:4000
            died ck=3 queued=+1800ms 10.0.0.1:80>10.0.0.3:4000
            facts ns=1 resets=1 retries=0
            surveyed +2201ms requests ns=1
            report half_open"
        ),
        "half_open: 0 unknown=0 cookies=0 expired=1 reset=1 dead=0 live=0",
    );
}

#[test]
fn a_reset_before_the_survey_that_missed_it_first_counts() {
    check_report(
        &format!(
            "session half_open
            {LISTENER}
            facts ns=1 resets=0 retries=0
            survey +500ms
            row NEW_SYN_RECV ck=2 ns=1 10.0.0.1:80>10.0.0.2:4000
            facts ns=1 resets=0 retries=0
            surveyed +501ms requests ns=1
            survey +2000ms
            facts ns=1 resets=1 retries=0
            surveyed +2001ms requests ns=1
            survey +2500ms
            died ck=2 queued=+400ms 10.0.0.1:80>10.0.0.2:4000
            facts ns=1 resets=1 retries=0
            surveyed +2501ms requests ns=1
            report half_open"
        ),
        "half_open: 0 unknown=0 cookies=0 expired=0 reset=1 dead=0 live=0",
    );
}
