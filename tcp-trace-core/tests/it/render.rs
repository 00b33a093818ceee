//! Rows and reports as compact text. What is not known is `-`; times are in ms.

use std::fmt::Write as _;

use tcp_trace_core::{
    endpoint::Endpoint,
    findings::{Evidence, Finding, Value},
    process::{Owner, OwnerSource},
    report::{
        CloseWait, CloseWaitKinds, Closer, Connect, ContainerSummary, DurationSummary, Ending, HalfOpen,
        Limit, Listener, Loss, ModeSpan, NamespaceSummary, Obituary, PeerCount, ProcessIdentity, Queue,
        Report, Role, Socket, StateChange, TimeWait, TimeWaitDestination, TransitionCount,
    },
    state::TcpState,
};

use crate::dsl::BASE;

/// `+0.050 SYN_SENT>EST 0.050 127.0.0.1:4000>127.0.0.1:80 100/client/connect`
pub(crate) fn row(change: &StateChange) -> String {
    let owner = owner_of(change.owner);
    let StateChange { at, old, new, duration_ns, local, peer, .. } = change;
    let at = at.since(tcp_trace_core::time::Timestamp(BASE));
    format!("+{} {} {} {local}>{peer} {owner}\n", ms(at), pair(*old, *new), ms_or_none(*duration_ns))
}

/// `closed +17.000 127.0.0.1:80>127.0.0.1:4000 100/server/task client active time_wait 17.000 EST=1.000 bytes=1/2 …`
pub(crate) fn obituary(obituary: &Obituary) -> String {
    let Obituary { time, local, peer, role, closer, ending, duration_ns, states, .. } = obituary;
    let mut line = format!("closed +{} {local}>{peer}", ms(time.0 - 1_700_000_000_000_000_000));
    let words = [role.map(Role::name), closer.map(Closer::name), ending.map(Ending::name)];
    let _ = write!(line, " {}", owner_of(obituary.owner));
    for word in words {
        let _ = write!(line, " {}", word.unwrap_or("-"));
    }
    let _ = write!(line, " {}", ms_or_none(*duration_ns));
    for (name, ns) in states {
        let _ = write!(line, " {}={}", state(*name), ms(*ns));
    }
    if let Some(ns) = obituary.connect_ns {
        let _ = write!(line, " connect={}", ms(ns));
    }
    if let (Some(ns), Some(source)) = (obituary.half_open_ns, obituary.half_open_source) {
        let _ = write!(line, " half_open={}/{source}", ms(ns));
    }
    if let (Some(sent), Some(received)) = (obituary.bytes_sent, obituary.bytes_received) {
        let _ = write!(line, " bytes={sent}/{received}");
    }
    if let Some(unread) = obituary.unread_bytes.filter(|unread| *unread > 0) {
        let _ = write!(line, " unread={unread}");
    }
    if !obituary.complete {
        line += " incomplete";
    }
    line + "\n"
}

fn owner_of(owner: Option<Owner>) -> String {
    owner.map_or_else(
        || "-".to_owned(),
        |owner| {
            let comm = owner.comm.map_or_else(|| "-".to_owned(), |comm| comm.to_string());
            format!("{}/{comm}/{}", owner.process.pid, source(owner.source))
        },
    )
}

/// One part of a report; a word before each line says which.
pub(crate) fn part(report: &Report, part: &str) -> String {
    match part {
        "loss" => loss(&report.loss),
        "modes" => modes(report),
        "limits" => limits(&report.limits),
        "transitions" => format!("transitions: {}\n", cells(&report.transitions)),
        "states" => states(report),
        "live" => live(report),
        "half_open" => half_open(&report.half_open),
        "prefixes" => prefixes(&report.half_open.listeners),
        "listeners" => listeners(&report.half_open.listeners),
        "connect" => connect(&report.connect),
        "close_wait" => close_wait(&report.close_wait),
        "time_wait" => time_wait(&report.time_wait),
        "processes" => processes(report),
        "containers" => containers(report),
        "findings" => findings(report),
        "namespaces" => namespaces(&report.half_open),
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
        OwnerSource::Fd => "fd",
        OwnerSource::Connect => "connect",
        OwnerSource::Accept => "accept",
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

/// Those that have been hit.
fn limits(limits: &[Limit]) -> String {
    let hit = limits.iter().filter(|limit| limit.dropped > 0);
    hit.map(|Limit { name, limit, in_use, peak, dropped }| {
        format!("limit {name}: {in_use} of {limit} peak {peak} dropped {dropped}\n")
    })
    .collect()
}

fn loss(loss: &Loss) -> String {
    let Loss {
        seen,
        delivered,
        filtered,
        lost,
        aggregated,
        unattributed,
        missed,
        balanced,
        repaired,
        untracked,
        side_lost: _,
    } = loss;
    let balance = if *balanced { "balanced" } else { "NOT BALANCED" };
    let mut text = format!("loss: {seen} = {delivered} + {filtered} + {lost} {balance}");
    if *aggregated > 0 {
        let _ = write!(text, " aggregated={aggregated}/{unattributed}");
    }
    if *missed > 0 {
        let _ = write!(text, " missed={missed}");
    }
    if let Some(repaired) = repaired.filter(|repaired| *repaired > 0) {
        let _ = write!(text, " repaired={repaired}");
    }
    if *untracked > 0 {
        let _ = write!(text, " untracked={untracked}");
    }
    text + "\n"
}

fn modes(report: &Report) -> String {
    let span = |span: &ModeSpan| {
        let start = span.start.0 - 1_700_000_000_000_000_000;
        format!("mode {:?} from +{} for {} s: {}\n", span.mode, ms(start), span.seconds, span.reason.words())
    };
    report.modes.iter().map(span).collect()
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
        ("fentry", sources.fentry),
        ("fast_open", sources.fast_open),
        ("synack", sources.synack),
        ("srtt", sources.srtt),
        ("rto", sources.rto),
    ];
    let by: String = by.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!(" {name}={n}")).collect();
    let more = requests(half_open.expired, half_open.reset, half_open.dead, half_open.live);
    format!("half_open: {}{by} unknown={unknown} cookies={}{more}\n", durations(completed), or_none(*cookies))
}

/// What is known of requests that have not completed.
fn requests(expired: Option<u64>, reset: Option<u64>, dead: Option<u64>, live: Option<u64>) -> String {
    let counts = [("expired", expired), ("reset", reset), ("dead", dead), ("live", live)];
    counts.iter().filter_map(|(name, count)| Some(format!(" {name}={}", (*count)?))).collect()
}

fn listeners(listeners: &[Listener]) -> String {
    let mut text = String::new();
    for l in listeners {
        let (local, owner) = (or_none(l.local), process(l.process.as_ref()));
        let (completed, cookies) = (durations(&l.completed), or_none(l.cookies));
        let _ = write!(text, "listener {local} {owner}: {completed} unknown={} cookies={cookies}", l.unknown);
        text += &requests(l.expired, l.reset, l.dead, l.live);
        for (name, queue) in [("syn", l.syn_queue), ("accept", l.accept_queue)] {
            if let Some(Queue { length, limit }) = queue {
                let _ = write!(text, " {name}={length}/{limit}");
            }
        }
        if let Some(cause) = l.cause {
            let _ = write!(text, " {cause:?}");
        }
        text.push('\n');
    }
    text
}

fn prefixes(listeners: &[Listener]) -> String {
    let mut text = String::new();
    for (listener, row) in listeners.iter().flat_map(|l| l.prefixes.iter().map(move |row| (l, row))) {
        let _ = writeln!(text, "prefix {}: {} of {}", row.prefix, row.requests, or_none(listener.local));
    }
    text
}

fn connect(rows: &[Connect]) -> String {
    let mut text = String::new();
    for row in rows {
        let Connect { peer, completed, refused, timed_out, unreachable, reset, aborted, failed, failing: _ } =
            row;
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

fn kinds(kinds: CloseWaitKinds) -> String {
    let CloseWaitKinds { forgot_close, never_looked, unread_data, never_accepted } = kinds;
    format!(" forgot={forgot_close} idle={never_looked} unread={unread_data} unaccepted={never_accepted}")
}

fn close_wait(close_wait: &CloseWait) -> String {
    let CloseWait { live, lingering, after_ns, processes } = close_wait;
    let mut text = format!("close_wait: live {live} lingering {lingering} after {}\n", ms(*after_ns));
    for row in processes {
        let (owner, oldest) = (process(row.process.as_ref()), ms_or_none(row.oldest_ns));
        let (peers, listeners) = (counts(&row.peers), counts(&row.listeners));
        let _ = writeln!(
            text,
            "close_wait {owner}: {} oldest {}{oldest} peers{peers} listeners{listeners}{}",
            row.count,
            if row.oldest_exact == Some(false) { "≥" } else { "" },
            row.kinds.map(kinds).unwrap_or_default()
        );
        for Socket {
            cookie, local, peer, age_ns, age_exact, owner_source, holders, kind, owner_state, ..
        } in &row.sockets
        {
            let (cookie, age) = (or_none(*cookie), ms_or_none(*age_ns));
            let least = if *age_exact == Some(false) { "≥" } else { "" };
            let _ = write!(text, "  socket {cookie} {local}>{peer} {least}{age} {}", source(*owner_source));
            if let Some(kind) = kind {
                let _ = write!(text, " {kind:?}");
            }
            if let Some(owner_state) = owner_state {
                let _ = write!(text, " {owner_state:?}");
            }
            for holder in holders.iter().flatten() {
                let _ = write!(text, " {}#{}", holder.pid, holder.fd);
            }
            text.push('\n');
        }
    }
    text
}

fn time_wait(time_wait: &TimeWait) -> String {
    let (entered, orphaned) = (or_none(time_wait.entered), or_none(time_wait.orphaned));
    let mut text = format!("time_wait: {entered} orphaned {orphaned}");
    if !time_wait.inferred {
        text += " exact";
    }
    if let (Some(live), Some(orphans)) = (time_wait.live, time_wait.live_orphans) {
        let _ = write!(text, " live {live} orphans {orphans}");
    }
    text.push('\n');
    for row in &time_wait.processes {
        let _ = write!(text, "time_wait {}: {}", process(row.process.as_ref()), row.entered);
        text += &row.live.map_or_else(|| "\n".to_owned(), |live| format!(" live {live}\n"));
    }
    for row in time_wait.destinations.iter().flatten() {
        let TimeWaitDestination { netns, local, peer, count, ports, .. } = row;
        let _ = write!(text, "time_wait {netns} {local}>{peer}: {count} of {}", or_none(*ports));
        text += &if row.arrived + row.leaving > 0 {
            format!(" +{} -{}", row.arrived, row.leaving)
        } else {
            String::new()
        };
        text += &row.live.filter(|live| *live > 0).map(|live| format!(" live {live}")).unwrap_or_default();
        for closer in &row.closers {
            let _ = write!(text, " by {} {}", closer.count, process(closer.process.as_ref()));
        }
        text.push('\n');
    }
    text
}

fn containers(report: &Report) -> String {
    let mut text = String::new();
    for row in report.containers.iter().flatten() {
        let ContainerSummary { container, processes, total, live, close_wait, time_wait } = row;
        let name = container.as_ref().and_then(|container| container.name.clone());
        let _ = writeln!(
            text,
            "container {}: {processes} processes {total} live {live} close_wait {close_wait} time_wait {time_wait}",
            or_none(name)
        );
    }
    text
}

fn namespaces(half_open: &HalfOpen) -> String {
    let row = |n: &NamespaceSummary| {
        format!("namespace {}: overflows={} resets={}\n", n.netns, n.listen_overflows, n.embryonic_resets)
    };
    half_open.namespaces.iter().map(row).collect()
}

/// `critical close_wait_leak java (7) since +1.000: cause` and, each on a line, `→ advice` and the evidence.
fn findings(report: &Report) -> String {
    let mut text = String::new();
    for Finding { id, severity, subject, since, cause, advice, evidence } in report.findings.iter().flatten()
    {
        let severity = severity.name();
        let since = since.map_or_else(
            || "-".to_owned(),
            |at| match at.0.checked_sub(1_700_000_000_000_000_000) {
                Some(after) => format!("+{}", ms(after)),
                None => format!("-{}", ms(1_700_000_000_000_000_000 - at.0)),
            },
        );
        let _ = write!(text, "{severity} {id} {subject} since {since}: {cause}\n  → {advice}\n ");
        for Evidence { name, value, unit, .. } in evidence {
            let value = match value {
                Value::Count(ns) if *unit == "ns" => ms(*ns),
                Value::Count(count) => format!("{count} {unit}"),
                Value::Real(real) => format!("{real} {unit}"),
                Value::Text(text) => text.clone(),
                Value::Unknown => "-".to_owned(),
            };
            let _ = write!(text, " [{name}: {}]", value.trim());
        }
        text.push('\n');
    }
    if text.is_empty() { "findings: none\n".to_owned() } else { text }
}

fn processes(report: &Report) -> String {
    let mut text = String::new();
    for row in &report.processes {
        let (owner, cells) = (process(row.process.as_ref()), cells(&row.transitions));
        let _ = writeln!(text, "process {owner}: {} live {} {cells}", row.total, row.live);
        if row.inferred > 0 {
            text.insert_str(text.len() - 1, &format!(" inferred={}", row.inferred));
        }
    }
    if report.omitted > 0 {
        let _ = writeln!(text, "omitted: {}", report.omitted);
    }
    text
}
