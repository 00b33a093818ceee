//! A report for people: sections in the order in which one asks, texts to the left and numbers to the right.
//!
//! With IPv4 addresses a section fits 80 columns; nothing is cut off where it does not.

use comfy_table::{CellAlignment, Table, presets};
use tcp_trace_core::{
    endpoint::Endpoint,
    process::{Comm, OwnerSource, printable},
    report::{CloseWaitProcess, Connect, Loss, PeerCount, ProcessIdentity, Report, Socket, TimeWait},
    session::Degradation,
};

use super::units::{count, duration, maybe, wrapped};

/// Rows that a section shows at most; the JSON document has them all.
const ROWS: usize = 20;
/// Leaking processes of which single sockets are shown.
const LEAKS: usize = 5;
/// Sockets shown per leaking process.
const SOCKETS: usize = 5;
/// Addresses shown per leaking process.
const ADDRESSES: usize = 2;
/// Prose is broken into lines of this length.
const WIDTH: usize = 80;

/// The whole report.
pub(super) fn render(report: &Report) -> String {
    let sections = [
        head(report),
        transitions(report),
        states(report),
        half_open(report),
        connects(report),
        close_wait(report),
        time_wait(report),
        processes(report),
        degradations(report),
    ];
    sections.into_iter().filter(|section| !section.is_empty()).collect::<Vec<_>>().join("\n")
}

fn head(report: &Report) -> String {
    let Report { host, window, source, loss, .. } = report;
    let start = window.start.timestamp().strftime("%Y-%m-%d %H:%M:%S");
    let lines = [
        format!(
            "{}, Linux {}, from {start} UTC for {:.1} s",
            printable(&host.name),
            printable(&host.kernel),
            window.seconds
        ),
        format!("Traced by {}", source.tiers.join(", ")),
        balance(loss),
    ];
    lines.into_iter().chain(notes(loss)).map(|line| line + "\n").collect()
}

/// The balance in words, on one line.
pub(crate) fn balance(loss: &Loss) -> String {
    let Loss { seen, delivered, filtered, lost, missed: _, balanced, repaired: _, untracked: _ } = *loss;
    format!(
        "{} transitions seen = {} delivered + {} filtered + {} lost ({})",
        count(seen),
        count(delivered),
        count(filtered),
        count(lost),
        if balanced { "balanced" } else { "NOT BALANCED: the counts cannot be trusted" }
    )
}

/// What the balance means for the numbers of this report.
fn notes(loss: &Loss) -> impl Iterator<Item = String> {
    let Loss { lost, missed, untracked, .. } = *loss;
    let by_kind = lost.saturating_sub(missed);
    [
        (by_kind, "lost: counted under Transitions, missing everywhere else"),
        (missed, "lost unseen (the kernel skipped the program): in the count of no transition"),
        (untracked, "beyond the connections that can be followed: counted, but without durations or owners"),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, what)| format!("{} {what}", count(number)))
}

/// A column's title and how its cells are aligned.
type Column = (&'static str, CellAlignment);
use CellAlignment::{Left as L, Right as R};

/// A table under a title.
fn section<const N: usize>(title: &str, columns: [Column; N], rows: Vec<[String; N]>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let omitted = rows.len().saturating_sub(ROWS);
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.map(|(title, _)| title));
    table.add_rows(rows.into_iter().take(ROWS));
    for (column, (_, alignment)) in table.column_iter_mut().zip(columns) {
        column.set_padding((2, 0));
        column.set_cell_alignment(alignment);
    }
    let lines: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    format!("{title}\n{lines}{}", more(omitted as u64, "  ", " (--json has all)"))
}

fn more(omitted: u64, indent: &str, hint: &str) -> String {
    if omitted == 0 { String::new() } else { format!("{indent}… and {} more{hint}\n", count(omitted)) }
}

fn transitions(report: &Report) -> String {
    let mut cells = report.transitions.clone();
    cells.sort_by_key(|cell| std::cmp::Reverse(cell.count));
    let rows = cells
        .iter()
        .map(|cell| [cell.old.to_string(), format!("→ {}", cell.new), count(cell.count)])
        .collect();
    section("Transitions", [("FROM", L), ("TO", L), ("COUNT", R)], rows)
}

fn states(report: &Report) -> String {
    let rows = report
        .states
        .iter()
        .filter(|(_, state)| state.entered > 0 || state.live.is_some_and(|live| live > 0))
        .map(|(name, state)| {
            let time = &state.duration;
            let [p50, p90, p99, max] = [time.p50_ns, time.p90_ns, time.p99_ns, time.max_ns].map(duration);
            [name.to_string(), count(state.entered), maybe(state.live), p50, p90, p99, max]
        })
        .collect();
    section(
        "States: how often entered, sockets now in them, time spent in them",
        [("STATE", L), ("ENTERED", R), ("LIVE", R), ("P50", R), ("P90", R), ("P99", R), ("MAX", R)],
        rows,
    )
}

fn half_open(report: &Report) -> String {
    let rows = report
        .half_open
        .listeners
        .iter()
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

fn connects(report: &Report) -> String {
    let rows = report
        .connect
        .iter()
        .map(|row| {
            let time = &row.completed;
            let [p50, p99, max] = [time.p50_ns, time.p99_ns, time.max_ns].map(duration);
            [end(row.peer), count(time.count), p50, p99, max, failures(row)]
        })
        .collect();
    section(
        "Connects: from SYN to established, and what failed",
        [("DESTINATION", L), ("DONE", R), ("P50", R), ("P99", R), ("MAX", R), ("FAILED", L)],
        rows,
    )
}

fn failures(row: &Connect) -> String {
    let Connect { peer: _, completed: _, refused, timed_out, unreachable, reset, aborted, failed } = row;
    let kinds = [
        (refused, "refused"),
        (timed_out, "timed out"),
        (unreachable, "unreachable"),
        (reset, "reset"),
        (aborted, "given up"),
        (failed, "other"),
    ];
    let texts: Vec<_> = kinds
        .into_iter()
        .filter(|(number, _)| **number > 0)
        .map(|(number, what)| format!("{} {what}", count(*number)))
        .collect();
    if texts.is_empty() { "0".to_owned() } else { texts.join(", ") }
}

fn close_wait(report: &Report) -> String {
    let close_wait = &report.close_wait;
    if close_wait.live == 0 {
        return String::new();
    }
    let title = format!(
        "CLOSE_WAIT: the peer closed, the program did not: {} now, {} of them for over {}",
        count(close_wait.live),
        count(close_wait.lingering),
        duration(Some(close_wait.after_ns)).replace(".00 s", " s")
    );
    if close_wait.lingering == 0 {
        return format!("{title}\n");
    }
    let rows = close_wait
        .processes
        .iter()
        .map(|row| {
            let CloseWaitProcess { process, count: sockets, oldest_ns, listeners, peers, .. } = row;
            let listeners = addresses(listeners, |listener| match listener.port {
                Some(port) => std::net::SocketAddr::new(listener.address, port).to_string(),
                None => listener.address.to_string(),
            });
            let peers = addresses(peers, |peer| format!("{} ×{}", peer.address, count(peer.count)));
            [who(process.as_ref()), count(*sockets), duration(*oldest_ns), listeners, peers]
        })
        .collect();
    let table =
        section(&title, [("PROCESS", L), ("SOCKETS", R), ("OLDEST", R), ("LISTENER", L), ("PEERS", L)], rows);
    table + &close_wait.processes.iter().take(LEAKS).map(oldest_sockets).collect::<String>()
}

fn addresses(ends: &[PeerCount], text: impl Fn(&PeerCount) -> String) -> String {
    let mut shown: Vec<_> = ends.iter().take(ADDRESSES).map(text).collect();
    if ends.len() > ADDRESSES {
        shown.push(format!("+{}", ends.len() - ADDRESSES));
    }
    if shown.is_empty() { "-".to_owned() } else { shown.join(", ") }
}

fn oldest_sockets(row: &CloseWaitProcess) -> String {
    let rows: Vec<_> = row
        .sockets
        .iter()
        .take(SOCKETS)
        .map(|socket: &Socket| {
            let inferred = socket.owner_source == OwnerSource::Listen;
            let note = if inferred { "owner inferred from the listener" } else { "" };
            [format!("  {} ← {}", socket.local, socket.peer), duration(socket.age_ns), note.to_owned()]
        })
        .collect();
    let omitted = row.count.saturating_sub(rows.len() as u64);
    let title = format!("  The oldest of {}", who(row.process.as_ref()));
    section(&title, [("  LOCAL ← PEER", L), ("AGE", R), ("", L)], rows) + &more(omitted, "    ", "")
}

fn time_wait(report: &Report) -> String {
    let TimeWait { entered, orphaned, inferred, processes, .. } = &report.time_wait;
    let (Some(entered), orphaned) = (*entered, orphaned.unwrap_or(0)) else { return String::new() };
    let rows = processes.iter().map(|row| [who(row.process.as_ref()), count(row.entered)]).collect();
    let how = if *inferred { " (inferred)" } else { "" };
    let title =
        format!("TIME_WAIT: {} sockets entered it{how}; their processes closed first", count(entered));
    let orphans = match orphaned {
        0 => String::new(),
        orphaned => format!("FIN_WAIT2: {} orphaned, which may enter TIME_WAIT unseen\n", count(orphaned)),
    };
    section(&title, [("PROCESS", L), ("ENTERED", R)], rows) + &orphans
}

fn processes(report: &Report) -> String {
    let rows = report
        .processes
        .iter()
        .map(|row| {
            let busiest = row.transitions.iter().rev().max_by_key(|cell| cell.count).map_or_else(
                || "-".to_owned(),
                |cell| format!("{} → {} ×{}", cell.old, cell.new, count(cell.count)),
            );
            [who(row.process.as_ref()), count(row.total), count(row.live), busiest]
        })
        .collect();
    let columns = [("PROCESS", L), ("TRANSITIONS", R), ("LIVE", R), ("MOST FREQUENT", L)];
    let omitted = match report.omitted {
        0 => String::new(),
        omitted => {
            format!("  {} transitions are of processes that had no room in the table\n", count(omitted))
        }
    };
    section("Busiest processes", columns, rows) + &omitted
}

fn degradations(report: &Report) -> String {
    if report.source.degradations.is_empty() {
        return String::new();
    }
    let text = |degradation: &Degradation| {
        let Degradation { feature, reason, remedy } = degradation;
        let remedy = remedy.as_ref().map(|remedy| format!(" To get it: {remedy}.")).unwrap_or_default();
        wrapped(&printable(&format!("{feature}: {reason}.{remedy}")), "  ", WIDTH)
    };
    format!("Not available in this run\n{}", report.source.degradations.iter().map(text).collect::<String>())
}

/// A listener or destination; `(others)` sums up what the table had no room for.
fn end(end: Option<Endpoint>) -> String {
    end.map_or_else(|| "(others)".to_owned(), |end| end.to_string())
}

/// `nginx (1234)`, or that the owner is not known.
fn who(process: Option<&ProcessIdentity>) -> String {
    let Some(process) = process else { return "(unknown)".to_owned() };
    let name = process.comm.as_ref().map_or_else(|| "?".to_owned(), Comm::to_string);
    format!("{name} ({})", process.pid)
}
