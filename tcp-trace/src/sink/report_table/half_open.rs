//! Half-open: handshakes that completed, requests that did not, and what the kernel counted of them.

use tcp_trace_core::{
    process::printable,
    report::{HalfOpenCause, Listener, NamespaceSummary, Queue, Report},
};

use super::{L, R, ROWS, WIDTH, end, more, section, who};
use crate::sink::units::{count, duration, maybe, wrapped};

/// A blank at which no line is broken, as long as the lines are made.
const UNBROKEN: char = '\u{a0}';

/// Completed handshakes.
pub(super) fn completed(report: &Report) -> String {
    let rows = report
        .half_open
        .listeners
        .iter()
        .filter(|listener| listener.completed.count + listener.unknown + listener.cookies.unwrap_or(0) > 0)
        .map(|listener| {
            let time = &listener.completed;
            let [p50, p99, max] = [time.p50_ns, time.p99_ns, time.max_ns].map(duration);
            [
                end(listener.local),
                who(listener.process.as_ref()),
                count(time.count),
                p50,
                p99,
                max,
                maybe(listener.cookies),
                count(listener.unknown),
            ]
        })
        .collect();
    section(
        "Half-open: time from SYN to final ACK; COOKIE and UNKNOWN ones have none",
        [
            ("LISTENER", L),
            ("PROCESS", L),
            ("DONE", R),
            ("P50", R),
            ("P99", R),
            ("MAX", R),
            ("COOKIE", R),
            ("UNKNOWN", R),
        ],
        rows,
    )
}

/// Requests that have not completed.
pub(super) fn pending(report: &Report) -> String {
    let rows: Vec<_> = report.half_open.listeners.iter().filter(|listener| is_pending(listener)).collect();
    let text = section(
        "Half-open requests: live now, and those that died (?: of one of the two)",
        [
            ("LISTENER", L),
            ("LIVE", R),
            ("EXPIRED", R),
            ("RESET", R),
            ("?", R),
            ("SYNQ", R),
            ("ACCEPTQ", R),
            ("CAUSE", L),
        ],
        rows.iter().map(|listener| row(listener)).collect(),
    );
    text + &rows.iter().take(ROWS).map(|listener| sources(listener)).collect::<String>()
}

fn is_pending(listener: &Listener) -> bool {
    let Listener { live, expired, reset, dead, accept_queue, .. } = listener;
    [live, expired, reset, dead].into_iter().any(|count| count.is_some_and(|count| count > 0))
        || accept_queue.is_some_and(|queue| queue.length > 0)
}

fn row(listener: &Listener) -> [String; 8] {
    let queue = |queue: Option<Queue>| match queue {
        Some(Queue { length, limit }) => format!("{}/{}", count(length), count(limit)),
        None => "-".to_owned(),
    };
    [
        end(listener.local),
        maybe(listener.live),
        maybe(listener.expired),
        maybe(listener.reset),
        maybe(listener.dead),
        queue(listener.syn_queue),
        queue(listener.accept_queue),
        cause(listener).to_owned(),
    ]
}

/// Why its requests stay half-open.
pub(in crate::sink) fn cause(listener: &Listener) -> &'static str {
    match listener.cause {
        Some(HalfOpenCause::AcceptQueueFull) => "accepts too slowly",
        Some(HalfOpenCause::SilentClients) => "silent clients",
        None => "-",
    }
}

/// Where the requests of a listener come from, if that is known.
fn sources(listener: &Listener) -> String {
    let (Some(sources), [first, ..]) = (listener.sources, listener.prefixes.as_slice()) else {
        return String::new();
    };
    format!(
        "  {}: about {} address{}, most often {} (requests: {})\n",
        end(listener.local),
        count(sources),
        if sources == 1 { "" } else { "es" },
        first.prefix,
        count(first.requests)
    )
}

/// What the kernel counted of listeners and cookies, where that is not nothing.
pub(super) fn namespaces(report: &Report) -> String {
    let lines: Vec<_> = report
        .half_open
        .namespaces
        .iter()
        .filter_map(|namespace| {
            let counts: Vec<_> = counters(namespace)
                .into_iter()
                .filter(|(number, _)| *number > 0)
                .map(|(number, what)| format!("{what}{UNBROKEN}{}", count(number)))
                .collect();
            let name = match &namespace.name {
                Some(name) => printable(name).into_owned(),
                None => namespace.netns.to_string(),
            };
            let line = wrapped(&format!("{name}: {}", counts.join(", ")), "  ", WIDTH);
            (!counts.is_empty()).then(|| line.replace(UNBROKEN, " "))
        })
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    let omitted = lines.len().saturating_sub(ROWS) as u64;
    let shown: String = lines.into_iter().take(ROWS).collect();
    format!(
        "What the kernel counted of listeners, per network namespace\n{shown}{}",
        more(omitted, "  ", " (--json has all)")
    )
}

pub(in crate::sink) fn counters(namespace: &NamespaceSummary) -> [(u64, &'static str); 9] {
    [
        (namespace.listen_overflows, "ListenOverflows"),
        (namespace.listen_drops, "ListenDrops"),
        (namespace.syncookies_sent, "SyncookiesSent"),
        (namespace.syncookies_received, "SyncookiesRecv"),
        (namespace.syncookies_failed, "SyncookiesFailed"),
        (namespace.request_queue_full_cookies, "TCPReqQFullDoCookies"),
        (namespace.request_queue_full_drops, "TCPReqQFullDrop"),
        (namespace.embryonic_resets, "EmbryonicRsts"),
        (namespace.time_wait_overflows, "TCPTimeWaitOverflow"),
    ]
}
