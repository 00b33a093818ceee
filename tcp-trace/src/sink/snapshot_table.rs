//! A snapshot for people.

use std::fmt::Write as _;

use tcp_trace_core::{
    process::printable,
    snapshot::{ContainerSource, Group, Listener, OwnerState, Process, Snapshot, Socket, SocketHolder},
    state::TcpState,
    survey::{CloseWaitKind, ContainerFacts},
};

use super::units::{count, duration, maybe, wrapped};

/// Rows that a section shows at most, but for single sockets; the JSON document has them all.
const ROWS: usize = 40;
/// Processes, descriptors that a cell shows.
const NAMES: usize = 2;
/// Prose is broken into lines of this length.
const WIDTH: usize = 80;
/// Digits of a container's id where it has no name.
const SHORT_ID: usize = 12;

/// The whole snapshot.
pub(super) fn render(snapshot: &Snapshot) -> String {
    let body = match &snapshot.sockets {
        Some(sockets) => vec![each(sockets)],
        None => vec![groups(snapshot), close_wait(snapshot), listeners(snapshot)],
    };
    let sections = std::iter::once(head(snapshot)).chain(body).chain([degradations(snapshot)]);
    sections.filter(|section| !section.is_empty()).collect::<Vec<_>>().join("\n")
}

fn head(snapshot: &Snapshot) -> String {
    let Snapshot { host, time, states, namespaces, .. } = snapshot;
    let when = time.timestamp().strftime("%Y-%m-%d %H:%M:%S");
    let total = states.iter().map(|state| state.count).sum();
    let by_state: Vec<_> =
        states.iter().map(|state| format!("{} {}", count(state.count), state.state)).collect();
    let list = if by_state.is_empty() { String::new() } else { format!(": {}", by_state.join(", ")) };
    let spaces = if namespaces.len() == 1 {
        "1 network namespace".to_owned()
    } else {
        format!("{} network namespaces", namespaces.len())
    };
    format!("{}, Linux {}, {when} UTC\n", printable(&host.name), printable(&host.kernel))
        + &wrapped(
            &format!("{} TCP socket{} in {spaces}{list}", count(total), if total == 1 { "" } else { "s" }),
            "",
            WIDTH,
        )
}

/// A column: its title, and whether its cells stand to the right.
type Column = (&'static str, bool);
const LEFT: bool = false;
const RIGHT: bool = true;

/// A table under a title; cells are as wide as they need to be.
fn section<const N: usize>(title: &str, columns: [Column; N], rows: &[[String; N]], most: usize) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let omitted = rows.len().saturating_sub(most);
    let rows = rows.get(..most).unwrap_or(rows);
    let wide = |text: &str| text.chars().count();
    let mut widths = columns.map(|(title, _)| wide(title));
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(wide(cell));
        }
    }
    let mut text = format!("{title}\n");
    line(&mut text, columns.iter().map(|(title, _)| *title), &columns, &widths);
    for row in rows {
        line(&mut text, row.iter().map(String::as_str), &columns, &widths);
    }
    if omitted > 0 {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  … and {} more (--json has all)", count(omitted as u64));
    }
    text
}

fn line<'a>(text: &mut String, cells: impl Iterator<Item = &'a str>, columns: &[Column], widths: &[usize]) {
    for ((cell, (_, right)), width) in cells.zip(columns).zip(widths) {
        // Writing to a string does not fail.
        let _ = if *right { write!(text, "  {cell:>width$}") } else { write!(text, "  {cell:<width$}") };
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
}

fn groups(snapshot: &Snapshot) -> String {
    let rows: Vec<_> = snapshot
        .groups
        .iter()
        .map(|group| {
            [
                owner(group),
                group.state.to_string(),
                count(group.count),
                age(group.oldest_ns, group.oldest_exact),
                maybe(group.receive_queue),
                maybe(group.send_queue),
                container(group.container.as_ref(), group.container_source),
            ]
        })
        .collect();
    let columns = [
        ("OWNER", LEFT),
        ("STATE", LEFT),
        ("COUNT", RIGHT),
        ("OLDEST", RIGHT),
        ("RECV-Q", RIGHT),
        ("SEND-Q", RIGHT),
        ("CONTAINER", LEFT),
    ];
    section("Sockets by owner and state", columns, &rows, ROWS)
}

fn close_wait(snapshot: &Snapshot) -> String {
    let rows: Vec<_> = snapshot
        .groups
        .iter()
        .filter_map(|group| Some((group, group.kinds?)))
        .map(|(group, kinds)| {
            let [forgot, looked, unread, accepted] = CloseWaitKind::ALL.map(|kind| count(kinds.of(kind)));
            [owner(group), forgot, looked, unread, accepted, descriptors(&group.processes)]
        })
        .collect();
    let columns = [
        ("OWNER", LEFT),
        ("CLOSE() FORGOTTEN", RIGHT),
        ("NOT LOOKED", RIGHT),
        ("DATA NOT READ", RIGHT),
        ("NOT ACCEPTED", RIGHT),
        ("DESCRIPTORS", RIGHT),
    ];
    section("CLOSE_WAIT: the peer closed, and the program", columns, &rows, ROWS)
}

/// How many of a process's descriptors are taken.
fn descriptors(processes: &[Process]) -> String {
    match processes {
        [Process { fds: Some(fds), nofile: Some(limit), .. }] => {
            format!("{} of {}", count(*fds), count(*limit))
        }
        [Process { fds: Some(fds), .. }] => count(*fds),
        _ => "-".to_owned(),
    }
}

fn listeners(snapshot: &Snapshot) -> String {
    let rows: Vec<_> = snapshot
        .listeners
        .iter()
        .map(|end: &Listener| {
            [
                end.local.to_string(),
                names(&end.processes).unwrap_or_else(|| "-".to_owned()),
                format!("{}/{}", count(end.accept_queue.length), count(end.accept_queue.limit)),
                maybe(end.syn_queue),
                container(end.container.as_ref(), end.container_source),
            ]
        })
        .collect();
    let columns =
        [("LISTENER", LEFT), ("PROCESS", LEFT), ("ACCEPT-Q", RIGHT), ("SYN-Q", RIGHT), ("CONTAINER", LEFT)];
    section("Listeners: connections that wait, of how many may; handshakes not done", columns, &rows, ROWS)
}

fn each(sockets: &[Socket]) -> String {
    let number = |queue: Option<u32>| maybe(queue.map(u64::from));
    let rows: Vec<_> = sockets
        .iter()
        .map(|socket| {
            [
                socket.state.to_string(),
                socket.local.to_string(),
                if socket.state == TcpState::Listen { "-".to_owned() } else { socket.peer.to_string() },
                owner_of(socket),
                age(socket.age_ns, socket.age_exact),
                number(socket.receive_queue),
                number(socket.send_queue),
                container(socket.container.as_ref(), socket.container_source),
                socket.kind.map_or("", CloseWaitKind::phrase).to_owned(),
            ]
        })
        .collect();
    let columns = [
        ("STATE", LEFT),
        ("LOCAL", LEFT),
        ("PEER", LEFT),
        ("OWNER", LEFT),
        ("AGE", RIGHT),
        ("RECV-Q", RIGHT),
        ("SEND-Q", RIGHT),
        ("CONTAINER", LEFT),
        ("", LEFT),
    ];
    section("Sockets", columns, &rows, usize::MAX)
}

fn owner(group: &Group) -> String {
    with_remark(names(&group.processes), group.owner_state)
}

fn owner_of(socket: &Socket) -> String {
    let holder = |holder: &SocketHolder| {
        let fds: Vec<_> = holder.fds.iter().take(NAMES).map(u32::to_string).collect();
        let more = if holder.fds.len() > NAMES { ",…" } else { "" };
        format!("{} fd {}{more}", who(holder.comm.as_deref(), holder.pid), fds.join(","))
    };
    let is_its = matches!(socket.owner_state, OwnerState::Held | OwnerState::Shared);
    let names =
        some(&socket.holders, |one| if is_its { holder(one) } else { who(one.comm.as_deref(), one.pid) });
    with_remark(names, socket.owner_state)
}

/// The owners, and what is to be said about them; or why there are none.
fn with_remark(names: Option<String>, state: OwnerState) -> String {
    match (names, state) {
        (Some(names), OwnerState::Held | OwnerState::Shared) => names,
        (Some(names), state) => format!("{names}'s listener: {}", state.phrase()),
        (None, state) => format!("({})", state.phrase()),
    }
}

fn names(processes: &[Process]) -> Option<String> {
    some(processes, |process| who(process.comm.as_deref(), process.pid))
}

/// The first few, and how many more there are.
fn some<T>(all: &[T], name: impl Fn(&T) -> String) -> Option<String> {
    let shown: Vec<_> = all.iter().take(NAMES).map(name).collect();
    let more = all.len().saturating_sub(NAMES);
    let rest = if more > 0 { format!(" +{more}") } else { String::new() };
    (!shown.is_empty()).then(|| shown.join(", ") + &rest)
}

fn who(comm: Option<&str>, pid: u32) -> String {
    format!("{} ({pid})", printable(comm.unwrap_or("?")))
}

/// `≥` marks what is a lower bound.
fn age(ns: Option<u64>, exact: Option<bool>) -> String {
    let bound = if ns.is_some() && exact == Some(false) { "≥ " } else { "" };
    format!("{bound}{}", duration(ns))
}

/// A container's name or the beginning of its id; `?` marks one that is inferred from the network namespace.
fn container(container: Option<&ContainerFacts>, source: Option<ContainerSource>) -> String {
    let inferred = if source == Some(ContainerSource::Netns) { "?" } else { "" };
    container.map_or_else(
        || "-".to_owned(),
        |container| {
            let id = || container.id.chars().take(SHORT_ID).collect();
            let name: String = container.name.clone().unwrap_or_else(id);
            format!("{}{inferred}", printable(&name))
        },
    )
}

fn degradations(snapshot: &Snapshot) -> String {
    let text = |lacking: &tcp_trace_core::session::Degradation| {
        let remedy =
            lacking.remedy.as_ref().map(|remedy| format!(" To get it: {remedy}.")).unwrap_or_default();
        wrapped(&printable(&format!("{}: {}.{remedy}", lacking.feature, lacking.reason)), "  ", WIDTH)
    };
    let lines: String = snapshot.degradations.iter().map(text).collect();
    if lines.is_empty() { lines } else { format!("Not available in this snapshot\n{lines}") }
}
