//! Rows and reports as compact text. What is not known is `-`; times are in ms.

use std::fmt::Write as _;

use tcp_trace_core::{
    endpoint::Endpoint,
    process::OwnerSource,
    report::{
        CloseWait, Connect, DurationSummary, HalfOpen, Listener, Loss, PeerCount, ProcessIdentity, Report,
        Socket, StateChange, TimeWait, TransitionCount,
    },
    state::TcpState,
};

use crate::dsl::BASE;

/// `+0.050 SYN_SENT>EST 0.050 127.0.0.1:4000>127.0.0.1:80 100/client/connect`
pub(crate) fn row(change: &StateChange) -> String {
    let owner = change.owner.map_or_else(
        || "-".to_owned(),
        |owner| {
            let comm = owner.comm.map_or_else(|| "-".to_owned(), |comm| comm.to_string());
            format!("{}/{comm}/{}", owner.process.pid, source(owner.source))
        },
    );
    let StateChange { at, old, new, duration_ns, local, peer, .. } = change;
    let at = at.since(tcp_trace_core::time::Timestamp(BASE));
    format!("+{} {} {} {local}>{peer} {owner}\n", ms(at), pair(*old, *new), ms_or_none(*duration_ns))
}

/// One part of a report; a word before each line says which.
pub(crate) fn part(report: &Report, part: &str) -> String {
    match part {
        "loss" => loss(&report.loss),
        "transitions" => format!("transitions: {}\n", cells(&report.transitions)),
        "states" => states(report),
        "live" => live(report),
        "half_open" => half_open(&report.half_open),
        "listeners" => listeners(&report.half_open.listeners),
        "connect" => connect(&report.connect),
        "close_wait" => close_wait(&report.close_wait),
        "time_wait" => time_wait(&report.time_wait),
        "processes" => processes(report),
        "window" => {
            let seconds = report.window.seconds;
            format!("window: {seconds} s from {:?}\n", report.window.start.0 - 1_700_000_000_000_000_000)
        }
        unknown => panic!("what is `{unknown}`?"),
    }
}

fn ms(ns: u64) -> String {
    format!("{}.{:03}", ns / 1_000_000, ns % 1_000_000 / 1_000)
}

fn ms_or_none(ns: Option<u64>) -> String {
    ns.map_or_else(|| "-".to_owned(), ms)
}

fn or_none(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn source(source: OwnerSource) -> &'static str {
    match source {
        OwnerSource::Unknown => "unknown",
        OwnerSource::Listen => "listen",
        OwnerSource::Connect => "connect",
        OwnerSource::Task => "task",
    }
}

fn state(state: TcpState) -> String {
    if state == TcpState::Established { "EST".to_owned() } else { state.to_string() }
}

fn pair(old: TcpState, new: TcpState) -> String {
    format!("{}>{}", state(old), state(new))
}

fn cells(cells: &[TransitionCount]) -> String {
    let cells: Vec<_> = cells.iter().map(|c| format!("{}={}", pair(c.old, c.new), c.count)).collect();
    cells.join(" ")
}

fn process(process: Option<&ProcessIdentity>) -> String {
    process.map_or_else(|| "-".to_owned(), |p| format!("{}/{}", p.pid, or_none(p.comm)))
}

/// How many, and from what to what: `2 [1.000..3.000]`.
fn durations(summary: &DurationSummary) -> String {
    let DurationSummary { count, min_ns, max_ns, .. } = *summary;
    let (min, max) = (ms_or_none(min_ns), ms_or_none(max_ns));
    match count {
        0 => "0".to_owned(),
        _ if min == max => format!("{count} [{min}]"),
        _ => format!("{count} [{min}..{max}]"),
    }
}

fn loss(loss: &Loss) -> String {
    let Loss { seen, delivered, filtered, lost, missed, balanced, repaired: _, untracked } = loss;
    let balance = if *balanced { "balanced" } else { "NOT BALANCED" };
    let mut text = format!("loss: {seen} = {delivered} + {filtered} + {lost} {balance}");
    if *missed > 0 {
        let _ = write!(text, " missed={missed}");
    }
    if *untracked > 0 {
        let _ = write!(text, " untracked={untracked}");
    }
    text + "\n"
}

fn states(report: &Report) -> String {
    let mut text = String::new();
    for (name, summary) in &report.states {
        if summary.entered > 0 || summary.duration.count > 0 || summary.live.is_some_and(|live| live > 0) {
            let (entered, live) = (summary.entered, or_none(summary.live));
            let time = durations(&summary.duration);
            let _ = writeln!(text, "state {}: entered {entered} live {live} time {time}", state(*name));
        }
    }
    text
}

fn live(report: &Report) -> String {
    let live = report.states.iter().filter_map(|(name, s)| Some((name, s.live.filter(|live| *live > 0)?)));
    let cells: Vec<_> = live.map(|(name, live)| format!("{}={live}", state(*name))).collect();
    format!("live: {}\n", cells.join(" "))
}

fn half_open(half_open: &HalfOpen) -> String {
    let HalfOpen { completed, sources, unknown, cookies, .. } = half_open;
    let by = [
        ("sock_ops", sources.sock_ops),
        ("fast_open", sources.fast_open),
        ("srtt", sources.srtt),
        ("rto", sources.rto),
    ];
    let by: String = by.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!(" {name}={n}")).collect();
    format!("half_open: {}{by} unknown={unknown} cookies={}\n", durations(completed), or_none(*cookies))
}

fn listeners(listeners: &[Listener]) -> String {
    let mut text = String::new();
    for l in listeners {
        let (local, owner) = (or_none(l.local), process(l.process.as_ref()));
        let (completed, cookies) = (durations(&l.completed), or_none(l.cookies));
        let _ =
            writeln!(text, "listener {local} {owner}: {completed} unknown={} cookies={cookies}", l.unknown);
    }
    text
}

fn connect(rows: &[Connect]) -> String {
    let mut text = String::new();
    for row in rows {
        let Connect { peer, completed, refused, timed_out, unreachable, reset, aborted, failed } = row;
        let _ = write!(text, "connect {}: {}", or_none(peer.as_ref()), durations(completed));
        let failures = [
            ("refused", refused),
            ("timed_out", timed_out),
            ("unreachable", unreachable),
            ("reset", reset),
            ("aborted", aborted),
            ("failed", failed),
        ];
        for (name, count) in failures.into_iter().filter(|(_, count)| **count > 0) {
            let _ = write!(text, " {name}={count}");
        }
        text.push('\n');
    }
    text
}

fn counts(counts: &[PeerCount]) -> String {
    let end = |c: &PeerCount| match c.port {
        Some(port) => Endpoint { address: c.address, port }.to_string(),
        None => c.address.to_string(),
    };
    counts.iter().map(|c| format!(" {}x{}", c.count, end(c))).collect()
}

fn close_wait(close_wait: &CloseWait) -> String {
    let CloseWait { live, lingering, after_ns, processes } = close_wait;
    let mut text = format!("close_wait: live {live} lingering {lingering} after {}\n", ms(*after_ns));
    for row in processes {
        let (owner, oldest) = (process(row.process.as_ref()), ms_or_none(row.oldest_ns));
        let (peers, listeners) = (counts(&row.peers), counts(&row.listeners));
        let _ = writeln!(
            text,
            "close_wait {owner}: {} oldest {oldest} peers{peers} listeners{listeners}",
            row.count
        );
        for Socket { cookie, local, peer, age_ns, owner_source, .. } in &row.sockets {
            let (cookie, age) = (or_none(*cookie), ms_or_none(*age_ns));
            let _ = writeln!(text, "  socket {cookie} {local}>{peer} {age} {}", source(*owner_source));
        }
    }
    text
}

fn time_wait(time_wait: &TimeWait) -> String {
    let mut text =
        format!("time_wait: {} orphaned {}\n", or_none(time_wait.entered), or_none(time_wait.orphaned));
    for row in &time_wait.processes {
        let _ = writeln!(text, "time_wait {}: {}", process(row.process.as_ref()), row.entered);
    }
    text
}

fn processes(report: &Report) -> String {
    let mut text = String::new();
    for row in &report.processes {
        let (owner, cells) = (process(row.process.as_ref()), cells(&row.transitions));
        let _ = writeln!(text, "process {owner}: {} live {} {cells}", row.total, row.live);
    }
    if report.omitted > 0 {
        let _ = writeln!(text, "omitted: {}", report.omitted);
    }
    text
}
