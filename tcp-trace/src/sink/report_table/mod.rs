//! A report for people: sections in the order in which one asks, texts to the left and numbers to the right.
//!
//! With IPv4 addresses a section fits 80 columns; nothing is cut off where it does not.

use comfy_table::{CellAlignment, Table, presets};
use tcp_trace_core::{
    endpoint::Endpoint,
    mode::Mode,
    process::{Comm, printable},
    report::{Connect, ContainerSummary, Limit, Loss, ProcessIdentity, Report},
    session::Degradation,
    survey::ContainerFacts,
};

use super::units::{count, duration, maybe, wrapped};

pub(super) mod close_wait;
pub(super) mod findings;
pub(super) mod half_open;
mod time_wait;

/// Rows that a section shows at most; the JSON document has them all.
const ROWS: usize = 20;
/// Prose is broken into lines of this length.
const WIDTH: usize = 80;

/// The whole report.
pub(super) fn render(report: &Report) -> String {
    let sections = [
        head(report),
        findings::findings(report),
        transitions(report),
        states(report),
        half_open::completed(report),
        half_open::pending(report),
        half_open::namespaces(report),
        connects(report),
        close_wait::close_wait(report),
        time_wait::time_wait(report),
        containers(report),
        processes(report),
        limits(report),
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
    lines.into_iter().chain(modes(report)).chain(notes(loss)).map(|line| line + "\n").collect()
}

/// The balance in words, on one line.
pub(crate) fn balance(loss: &Loss) -> String {
    let Loss { seen, delivered, filtered, lost, aggregated, balanced, .. } = *loss;
    let aggregated = match aggregated {
        0 => String::new(),
        aggregated => format!(" + {} aggregated", count(aggregated)),
    };
    format!(
        "{} transitions seen = {} delivered + {} filtered + {} lost{aggregated} ({})",
        count(seen),
        count(delivered),
        count(filtered),
        count(lost),
        if balanced { "balanced" } else { "NOT BALANCED: the counts cannot be trusted" }
    )
}

/// For how long transitions were aggregated or only counted, why, and what that means.
fn modes(report: &Report) -> Option<String> {
    mode_words(report).map(|text| wrapped(&text, "", WIDTH).trim_end().to_owned())
}

/// The same, on one line.
pub(super) fn mode_words(report: &Report) -> Option<String> {
    if report.modes.iter().any(|span| span.mode == Mode::Count) {
        // It is never switched to or away from.
        let text = "Transitions are only counted (--mode count): whose they were and how long states lasted is not known, \
                    and sockets are those that the last survey has shown";
        return Some(text.to_owned());
    }
    let aggregated = || report.modes.iter().filter(|span| span.mode == Mode::Aggregate);
    let first = aggregated().next()?;
    let seconds: f64 = aggregated().map(|span| span.seconds).sum();
    Some(format!(
        "Aggregated in the kernel for {seconds:.1} s ({}): counts are exact, durations of that time are only known to \
         lie between a power of two of nanoseconds and the next, and owners of some accepted connections are inferred",
        first.reason.words()
    ))
}

/// What the balance means for the numbers of this report.
pub(super) fn notes(loss: &Loss) -> impl Iterator<Item = String> {
    let Loss { lost, unattributed, missed, untracked, repaired, side_lost, .. } = *loss;
    let by_kind = lost.saturating_sub(missed);
    [
        (by_kind, "lost: counted under Transitions, missing everywhere else"),
        (unattributed, "counted in the kernel by kind only: under Transitions and States, of unknown owners and durations"),
        (missed, "lost unseen (the kernel skipped the program): in the count of no transition"),
        (
            repaired.unwrap_or(0),
            "connections put right by a survey of all sockets, after transitions were lost",
        ),
        (side_lost, "records of who accepted a socket, or of half-open requests, lost"),
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

pub(super) fn failures(row: &Connect) -> String {
    let Connect {
        peer: _,
        completed: _,
        refused,
        timed_out,
        unreachable,
        reset,
        aborted,
        failed,
        failing: _,
    } = row;
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

fn containers(report: &Report) -> String {
    let containers = report.containers.iter().flatten();
    if containers.clone().all(|row| row.container.is_none()) {
        return String::new();
    }
    let rows = containers
        .map(|row| {
            let ContainerSummary { container, processes, total, live, close_wait, time_wait } = row;
            let name = container.as_ref().map_or_else(|| "(host or unknown)".to_owned(), container_name);
            let numbers = [processes, total, live, close_wait, time_wait].map(|number| count(*number));
            let [processes, total, live, close_wait, time_wait] = numbers;
            [name, processes, total, live, close_wait, time_wait]
        })
        .collect();
    section(
        "Containers: sockets now, of these lingering in CLOSE_WAIT, and TIME_WAIT entered",
        [
            ("CONTAINER", L),
            ("PROCS", R),
            ("TRANSITIONS", R),
            ("LIVE", R),
            ("CLOSE_WAIT", R),
            ("TIME_WAIT", R),
        ],
        rows,
    )
}

/// `web (docker 0123456789ab)`, `default/shop-7c9f:web (containerd 0123456789ab)`, `nginx.service (systemd)`.
pub(super) fn container_name(container: &ContainerFacts) -> String {
    let ContainerFacts { id, name, runtime, pod, namespace, .. } = container;
    let runtime = runtime.name();
    if *runtime == *"systemd" {
        return printable(&format!("{id} ({runtime})")).into_owned();
    }
    let short: String = id.chars().take(12).collect();
    let pod = match (namespace, pod) {
        (Some(namespace), Some(pod)) => format!("{namespace}/{pod}:"),
        (None, Some(pod)) => format!("{pod}:"),
        _ => String::new(),
    };
    let name = name.as_deref().unwrap_or("?");
    printable(&format!("{pod}{name} ({runtime} {short})")).into_owned()
}

/// What the tables had no room for, and what that means for the numbers.
fn limits(report: &Report) -> String {
    let lines: String = limit_words(report).map(|what| wrapped(&what, "  ", WIDTH)).collect();
    if lines.is_empty() { lines } else { format!("Limits that were hit in this run\n{lines}") }
}

/// The same, a sentence each.
pub(super) fn limit_words(report: &Report) -> impl Iterator<Item = String> {
    let hit = report.limits.iter().filter(|limit| limit.dropped > 0);
    hit.map(|limit| {
        let Limit { name, limit, dropped, .. } = *limit;
        let (dropped, limit) = (count(dropped), count(limit));
        match name {
            "connections" => format!(
                "{dropped} times there was no room for a connection beyond {limit}: an established one was given up, \
                 or the new one not followed. Live counts are lower bounds, and what is known of these begins anew \
                 (--max-connections)"
            ),
            "surveyed_sockets" => format!(
                "{dropped} sockets or holders beyond {limit} of a survey were not looked at (--max-connections)"
            ),
            "undecided_events" => format!(
                "{dropped} transitions beyond {limit} that the filter could not judge yet were given up, as filtered"
            ),
            "processes" => format!("{dropped} transitions are of processes beyond {limit} in a report"),
            "listeners" => format!("{dropped} handshakes are of listeners beyond {limit}: see (others)"),
            "destinations" => format!("{dropped} attempts are to destinations beyond {limit}: see (others)"),
            "connect_failures" => {
                format!(
                    "{dropped} failed attempts are of processes and destinations beyond {limit}: of these it is not said whose they were"
                )
            }
            "half_open_requests" => {
                format!("{dropped} half-open requests beyond {limit} were not followed one by one")
            }
            "unclosed_sockets" => format!(
                "{dropped} connections that had ended, beyond {limit}, did not wait for who would close them"
            ),
            "time_wait_owners" => {
                format!("{dropped} sockets in TIME_WAIT beyond {limit} are not put down to a process")
            }
            "identities" => {
                format!("{dropped} processes or cgroups beyond {limit} are known by their numbers only")
            }
            "findings" => {
                format!("{dropped} findings beyond {limit} in a report, the least severe, were left out")
            }
            name => format!("{dropped} {} beyond {limit} were left out", name.replace('_', " ")),
        }
    })
}

/// A duration, marked where it may be longer.
pub(super) fn least(nanoseconds: Option<u64>, exact: Option<bool>) -> String {
    let mark = if exact == Some(false) { "≥ " } else { "" };
    format!("{mark}{}", duration(nanoseconds))
}

/// Degradations that have the same cause.
pub(super) struct Lack<'a> {
    pub(super) cause: &'a str,
    pub(super) remedy: Option<&'a str>,
    pub(super) features: Vec<&'a str>,
    pub(super) effects: Vec<&'a str>,
}

/// What is missing for the same reason is said together.
fn degradations(report: &Report) -> String {
    let lines: String = lacks(report).iter().map(Lack::text).collect();
    if lines.is_empty() { lines } else { format!("Not available in this run\n{lines}") }
}

/// The same, by cause.
pub(super) fn lacks(report: &Report) -> Vec<Lack<'_>> {
    let mut lacks: Vec<Lack<'_>> = Vec::new();
    for Degradation { feature, reason, remedy } in &report.source.degradations {
        let (cause, effect) = reason.split_once("; so ").unwrap_or((reason, ""));
        let remedy = remedy.as_deref();
        let same = lacks.iter().position(|lack| lack.cause == cause && lack.remedy == remedy);
        let at = same.unwrap_or(lacks.len());
        if same.is_none() {
            lacks.push(Lack { cause, remedy, features: Vec::new(), effects: Vec::new() });
        }
        if let Some(lack) = lacks.get_mut(at) {
            lack.features.extend(Some(feature.as_str()).filter(|feature| !lack.features.contains(feature)));
            lack.effects.extend(Some(effect).filter(|effect| !effect.is_empty()));
        }
    }
    lacks
}

impl Lack<'_> {
    fn text(&self) -> String {
        let Self { cause, remedy, features, effects } = self;
        let effects = if effects.is_empty() { String::new() } else { format!("; so {}", effects.join("; ")) };
        let it = if features.len() > 1 { "them" } else { "it" };
        let remedy = remedy.map(|remedy| format!(" To get {it}: {remedy}.")).unwrap_or_default();
        wrapped(&printable(&format!("{}: {cause}{effects}.{remedy}", features.join(", "))), "  ", WIDTH)
    }
}

/// A listener or destination; `(others)` sums up what the table had no room for.
pub(super) fn end(end: Option<Endpoint>) -> String {
    end.map_or_else(|| "(others)".to_owned(), |end| end.to_string())
}

/// `nginx (1234)`, or that the owner is not known.
pub(super) fn who(process: Option<&ProcessIdentity>) -> String {
    let Some(process) = process else { return "(unknown)".to_owned() };
    let name = process.comm.as_ref().map_or_else(|| "?".to_owned(), Comm::to_string);
    format!("{name} ({})", process.pid)
}
