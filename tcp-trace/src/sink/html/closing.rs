//! Sockets that one end has closed: CLOSE_WAIT, TIME_WAIT, those that wait for their peers; and how connections ended.

use maud::{Markup, html};
use tcp_trace_core::{
    process::printable,
    report::{ClosingGroup, PeerCount, ProcessIdentity, Report},
};

use super::{
    Section,
    table::{Cell, Column, table},
    waterfall::waterfall,
};
use crate::sink::{
    report_table::{
        close_wait::{kinds, note, short, stack},
        container_name, least, who,
    },
    units::{count, duration},
};

/// Addresses in a cell.
const ADDRESSES: usize = 3;
/// Functions of a stack.
const FUNCTIONS: usize = 8;
/// Places where a process opened its sockets.
const STACKS: usize = 10;

/// Who leaks; nothing if no socket is in CLOSE_WAIT.
pub(super) fn close_wait(report: &Report) -> Option<Section> {
    let close_wait = &report.close_wait;
    if close_wait.live == 0 {
        return None;
    }
    let title = format!(
        "CLOSE_WAIT: {} now, {} of them for over {}",
        count(close_wait.live),
        count(close_wait.lingering),
        duration(Some(close_wait.after_ns)).replace(".00 s", " s")
    );
    Some(Section {
        id: "close-wait",
        short: "CLOSE_WAIT",
        title,
        body: html! {
            p.note {
                "Their peers have closed them, and their programs have not. ≥: a lower bound, because nobody saw them enter. "
                code { "tcp-trace explain close_wait" } " says more."
            }
            (waterfall(report))
            (leaks(report))
            (stacks(report))
            (sockets(report))
        },
    })
}

fn leaks(report: &Report) -> Markup {
    let columns = [
        Column::text("Process"),
        Column::number("Lingering"),
        Column::number("Oldest"),
        Column::text("How"),
        Column::text("Listeners"),
        Column::text("Peers"),
        Column::text("Program"),
        Column::text("User"),
        Column::text("Container"),
        Column::number("Descriptors"),
    ];
    let rows = report.close_wait.processes.iter().map(|row| {
        let process = row.process.as_ref();
        vec![
            Cell::text(who(process)),
            Cell::count(row.count).alarming(true),
            age(row.oldest_ns, row.oldest_exact),
            Cell::text(row.kinds.as_ref().map_or_else(|| "-".to_owned(), kinds)),
            Cell::text(ends(&row.listeners)),
            Cell::text(ends(&row.peers)),
            Cell::text(process.and_then(|process| process.exe.as_deref()).unwrap_or("-")),
            Cell::text(process.and_then(|process| process.user.as_deref()).unwrap_or("-")),
            Cell::text(container(process)),
            descriptors(process),
        ]
    });
    table("Whose they are", &columns, rows.collect())
}

fn age(nanoseconds: Option<u64>, exact: Option<bool>) -> Cell {
    Cell::valued(least(nanoseconds, exact), nanoseconds.map(|ns| ns as f64))
}

pub(super) fn container(process: Option<&ProcessIdentity>) -> String {
    let container = process.and_then(|process| process.container.as_ref());
    container.map_or_else(|| "-".to_owned(), container_name)
}

pub(super) fn descriptors(process: Option<&ProcessIdentity>) -> Cell {
    let of = process.and_then(|process| Some((process.fds?, process.nofile)));
    match of {
        None => Cell::text("-"),
        Some((fds, None)) => Cell::count(fds),
        Some((fds, Some(most))) => {
            let text = format!("{} of {}", count(fds), count(most));
            Cell::valued(text, Some(fds as f64)).alarming(fds >= most / 10 * 9)
        }
    }
}

/// `10.1.0.11 ×4, 10.1.0.12 ×2 and 3 more`.
fn ends(ends: &[PeerCount]) -> String {
    let text = |end: &PeerCount| {
        let address = match end.port {
            Some(port) => std::net::SocketAddr::new(end.address, port).to_string(),
            None => end.address.to_string(),
        };
        format!("{address} ×{}", count(end.count))
    };
    let shown: Vec<_> = ends.iter().take(ADDRESSES).map(text).collect();
    match ends.len().saturating_sub(ADDRESSES) {
        _ if shown.is_empty() => "-".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {} more", shown.join(", "), count(more as u64)),
    }
}

/// Where they were opened, if anybody looked.
fn stacks(report: &Report) -> Markup {
    let known: Vec<_> =
        report.close_wait.processes.iter().filter_map(|row| Some((row, row.stacks.as_ref()?))).collect();
    html! {
        @if !known.is_empty() {
            h3 { "Where they were opened" }
            @for (row, stacks) in known {
                p { (who(row.process.as_ref())) }
                ul.stacks {
                    @for place in stacks.iter().take(STACKS) {
                        li {
                            code { (stack(place.count, row.count, place.opened_at.as_ref(), FUNCTIONS)) }
                            @if let Some(reason) = place.opened_at.as_ref().and_then(|at| at.trace.cut_off.as_deref()) {
                                " (stack cut off: " (printable(reason)) ")"
                            }
                        }
                    }
                    @if stacks.len() > STACKS { li { "… and " (stacks.len() - STACKS) " more" } }
                }
            }
        }
    }
}

fn sockets(report: &Report) -> Markup {
    let columns = [
        Column::text("Process"),
        Column::text("Local"),
        Column::text("Peer"),
        Column::number("In CLOSE_WAIT for"),
        Column::text("Descriptors"),
        Column::number("Unread bytes"),
        Column::text("How"),
        Column::text("Note"),
    ];
    let pairs = report.close_wait.processes.iter().flat_map(|row| row.sockets.iter().map(move |s| (row, s)));
    let rows = pairs.map(|(row, socket)| {
        let fds: Vec<_> = socket.fds.iter().flatten().map(u32::to_string).collect();
        vec![
            Cell::text(who(row.process.as_ref())),
            Cell::text(socket.local.to_string()),
            Cell::text(socket.peer.to_string()),
            age(socket.age_ns, socket.age_exact),
            Cell::text(if fds.is_empty() { "-".to_owned() } else { fds.join(" ") }),
            Cell::maybe(socket.unread_bytes),
            Cell::text(socket.kind.map_or("-", short)),
            Cell::text(note(socket)),
        ]
    });
    let listed: usize = report.close_wait.processes.iter().map(|row| row.sockets.len()).sum();
    let omitted = report.close_wait.lingering.saturating_sub(listed as u64);
    html! {
        (table("The oldest sockets of each process", &columns, rows.collect()))
        @if omitted > 0 { p.more { (count(omitted)) " younger ones are not listed." } }
    }
}

/// Who closes first; nothing if nobody did.
pub(super) fn time_wait(report: &Report) -> Option<Section> {
    let time_wait = &report.time_wait;
    let orphans = time_wait.live_orphans.unwrap_or(0) + time_wait.orphaned.unwrap_or(0);
    let any = time_wait.live.unwrap_or(0) + time_wait.entered.unwrap_or(0) + orphans > 0;
    if !any && time_wait.processes.is_empty() && report.closing.groups.is_empty() {
        return None;
    }
    let how = if time_wait.inferred { " (inferred)" } else { "" };
    let now = time_wait.live.map_or_else(|| "not known".to_owned(), count);
    let entered = time_wait.entered.map_or_else(|| "unknown numbers".to_owned(), count);
    Some(Section {
        id: "time-wait",
        short: "TIME_WAIT",
        title: format!("TIME_WAIT and other ends: {now} now, {entered} entered it{how}"),
        body: html! {
            (closers(report))
            (ports(report))
            @if orphans > 0 {
                p {
                    "Orphans in FIN_WAIT2, which may enter TIME_WAIT unseen: "
                    (time_wait.live_orphans.map_or_else(|| "unknown".to_owned(), count)) " now, "
                    (time_wait.orphaned.map_or_else(|| "unknown".to_owned(), count)) " in this run."
                }
            }
            (groups(report))
        },
    })
}

fn closers(report: &Report) -> Markup {
    let rows = report.time_wait.processes.iter().map(|row| {
        vec![
            Cell::text(who(row.process.as_ref())),
            Cell::count(row.entered),
            Cell::maybe(row.live),
            Cell::text(container(row.process.as_ref())),
        ]
    });
    let columns = [
        Column::text("Process"),
        Column::number("Entered"),
        Column::number("Now"),
        Column::text("Container"),
    ];
    table("Who closed first", &columns, rows.collect())
}

/// Where the local ports go.
fn ports(report: &Report) -> Markup {
    let columns = [
        Column::text("Local"),
        Column::text("Peer"),
        Column::number("Wait"),
        Column::number("Live connections"),
        Column::number("Ports"),
        Column::number("Share"),
        Column::text("Closed by"),
    ];
    let rows = report.time_wait.destinations.iter().flatten().map(|row| {
        let share = row.share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0));
        let closers = row.closers.iter().map(|c| format!("{} ×{}", who(c.process.as_ref()), count(c.count)));
        vec![
            Cell::text(row.local.to_string()),
            Cell::text(row.peer.to_string()),
            Cell::count(row.count),
            Cell::maybe(row.live),
            Cell::maybe(row.ports),
            Cell::valued(share, row.share).alarming(row.share.is_some_and(|share| share >= 0.7)),
            Cell::text(closers.collect::<Vec<_>>().join(", ")),
        ]
    });
    table("Local ports that wait, of those in net.ipv4.ip_local_port_range", &columns, rows.collect())
}

/// Those that wait for their peers.
fn groups(report: &Report) -> Markup {
    let columns = [
        Column::text("Process"),
        Column::text("State"),
        Column::number("Sockets"),
        Column::number("Held by nobody"),
        Column::number("Peer reads nothing"),
        Column::number("Oldest"),
        Column::text("Peers"),
    ];
    let rows = report.closing.groups.iter().map(|group| {
        let ClosingGroup { process, state, count, orphans, zero_window, peers, sockets } = group;
        let oldest = sockets.first();
        vec![
            Cell::text(who(process.as_ref())),
            Cell::text(state.to_string()),
            Cell::count(*count),
            Cell::maybe(*orphans),
            Cell::maybe(*zero_window),
            age(oldest.and_then(|socket| socket.age_ns), oldest.and_then(|socket| socket.age_exact)),
            Cell::text(ends(peers)),
        ]
    });
    table("Closed here, and waiting for the peer", &columns, rows.collect())
}

/// How connections ended, and where listeners came and went; nothing if neither is told.
pub(super) fn endings(report: &Report) -> Option<Section> {
    let endings = report.endings.as_deref().unwrap_or_default();
    if endings.is_empty() && report.listeners_changed.is_empty() {
        return None;
    }
    let rows = endings.iter().map(|row| {
        vec![
            Cell::text(who(row.process.as_ref())),
            Cell::text(row.role.map_or("-", |role| role.name())),
            Cell::text(row.ending.name().replace('_', " ")),
            Cell::text(row.state.to_string()),
            Cell::count(row.count),
            Cell::count(row.without_data),
            Cell::text(ends(&row.peers)),
        ]
    });
    let columns = [
        Column::text("Process"),
        Column::text("Role"),
        Column::text("Ending"),
        Column::text("From"),
        Column::number("Connections"),
        Column::number("Without data"),
        Column::text("Peers"),
    ];
    Some(Section {
        id: "endings",
        short: "Endings",
        title: "How connections ended".to_owned(),
        body: html! {
            (table("Endings, most first", &columns, rows.collect()))
            (listeners(report))
        },
    })
}

fn listeners(report: &Report) -> Markup {
    let columns = [
        Column::text("Listener"),
        Column::text("Process"),
        Column::number("Opened"),
        Column::number("Closed"),
        Column::number("Longest gap"),
        Column::number("Reset in the queue"),
        Column::text("At the end"),
    ];
    let rows = report.listeners_changed.iter().map(|row| {
        vec![
            Cell::text(row.local.to_string()),
            Cell::text(who(row.process.as_ref())),
            Cell::count(row.opened),
            Cell::count(row.closed),
            Cell::duration(row.longest_gap_ns),
            Cell::count(row.queued_resets).alarming(row.queued_resets > 0),
            Cell::text(if row.listening { "listens" } else { "nobody listens" }).alarming(!row.listening),
        ]
    });
    table("Listeners that came and went", &columns, rows.collect())
}
