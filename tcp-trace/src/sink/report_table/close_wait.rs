//! CLOSE_WAIT: who leaks, since when, from whom, and whose fault.

use tcp_trace_core::{
    process::{OwnerSource, printable},
    report::{CloseWaitKinds, CloseWaitProcess, OpenedAt, OwnerState, PeerCount, Report, Socket, StackCount},
    survey::CloseWaitKind,
};

use super::{L, R, WIDTH, container_name, least, more, section, who};
use crate::sink::units::{count, duration, wrapped};

/// Leaking processes of which single sockets are shown.
const LEAKS: usize = 5;
/// Sockets shown per leaking process.
const SOCKETS: usize = 5;
/// Places shown where a leaking process has opened its sockets, and functions of each.
const STACKS: usize = 3;
const FUNCTIONS: usize = 5;
/// Addresses shown of a leaking process: in its row, and in its details.
const ADDRESSES: (usize, usize) = (1, 5);

/// The section.
pub(super) fn close_wait(report: &Report) -> String {
    let close_wait = &report.close_wait;
    if close_wait.live == 0 {
        return String::new();
    }
    let mut title = format!(
        "CLOSE_WAIT: the peer closed, the program did not: {} now, {} of them for over {}",
        count(close_wait.live),
        count(close_wait.lingering),
        duration(Some(close_wait.after_ns)).replace(".00 s", " s")
    );
    if close_wait.lingering == 0 {
        return format!("{title}\n");
    }
    let uncertain = |socket: &Socket| {
        socket.age_exact != Some(true) && socket.age_ns.is_none_or(|age| age <= close_wait.after_ns)
    };
    if close_wait.processes.iter().flat_map(|row| &row.sockets).any(uncertain) {
        title += "\n  or for a time that is not known (≥: at least)";
    }
    let rows = close_wait
        .processes
        .iter()
        .map(|row| {
            let CloseWaitProcess {
                process, count: sockets, oldest_ns, oldest_exact, listeners, peers, ..
            } = row;
            let listeners = addresses(listeners, ADDRESSES.0, |listener| match listener.port {
                Some(port) => std::net::SocketAddr::new(listener.address, port).to_string(),
                None => listener.address.to_string(),
            });
            let peers = addresses(peers, ADDRESSES.0, peer);
            [who(process.as_ref()), count(*sockets), least(*oldest_ns, *oldest_exact), listeners, peers]
        })
        .collect();
    let table =
        section(&title, [("PROCESS", L), ("SOCKETS", R), ("OLDEST", R), ("LISTENER", L), ("PEERS", L)], rows);
    table + &close_wait.processes.iter().take(LEAKS).map(oldest_sockets).collect::<String>()
}

fn addresses(ends: &[PeerCount], max: usize, text: impl Fn(&PeerCount) -> String) -> String {
    let mut shown: Vec<_> = ends.iter().take(max).map(text).collect();
    if ends.len() > max {
        shown.push(format!("+{}", count((ends.len() - max) as u64)));
    }
    if shown.is_empty() { "-".to_owned() } else { shown.join(", ") }
}

fn peer(peer: &PeerCount) -> String {
    format!("{} ×{}", peer.address, count(peer.count))
}

/// Whose fault it is, and the oldest sockets.
fn oldest_sockets(row: &CloseWaitProcess) -> String {
    let rows: Vec<_> = row
        .sockets
        .iter()
        .take(SOCKETS)
        .map(|socket| {
            let fds: Vec<_> = socket.fds.iter().flatten().map(u32::to_string).collect();
            [
                format!("  {} ← {}", socket.local, socket.peer),
                least(socket.age_ns, socket.age_exact),
                if fds.is_empty() { "-".to_owned() } else { fds.join(" ") },
                socket.kind.map_or("-", short).to_owned(),
                note(socket).to_owned(),
            ]
        })
        .collect();
    let omitted = row.count.saturating_sub(rows.len() as u64);
    let mut title = wrapped(&format!("{}{}", who(row.process.as_ref()), person(row)), "  ", WIDTH);
    if row.peers.len() > ADDRESSES.0 {
        let peers = format!("from {}", addresses(&row.peers, ADDRESSES.1, peer));
        title += &wrapped(&peers, "    ", WIDTH);
    }
    if let Some(kinds) = &row.kinds {
        title += &wrapped(&self::kinds(kinds), "    ", WIDTH);
    }
    if let Some(stacks) = &row.stacks {
        title += &self::stacks(stacks, row.count);
    }
    let columns = [("  LOCAL ← PEER", L), ("AGE", R), ("FD", L), ("KIND", L), ("", L)];
    section(title.trim_end(), columns, rows) + &more(omitted, "    ", "")
}

/// `all accepted at handle_upload server.c:88 ← worker_main server.c:120`, and what is to be known of that.
fn stacks(stacks: &[StackCount], sockets: u64) -> String {
    let mut text = String::new();
    for StackCount { count: number, opened_at } in stacks.iter().take(STACKS) {
        text += &wrapped(&stack(*number, sockets, opened_at.as_ref(), FUNCTIONS), "    ", WIDTH);
        if let Some(reason) = opened_at.as_ref().and_then(|opened_at| opened_at.trace.cut_off.as_deref()) {
            text += &wrapped(&format!("stack cut off: {}", printable(reason)), "      ", WIDTH);
        }
    }
    let omitted = stacks.len().saturating_sub(STACKS) as u64;
    text + &more(omitted, "    ", " stacks")
}

/// One of them, with at most `functions`.
pub(in crate::sink) fn stack(
    number: u64,
    sockets: u64,
    opened_at: Option<&OpenedAt>,
    functions: usize,
) -> String {
    let number = if number == sockets { "all".to_owned() } else { count(number) };
    let Some(opened_at) = opened_at else { return format!("{number}: where they were opened is not known") };
    let trace = &opened_at.trace;
    let mut line = match trace.frames.is_empty() {
        true => format!("{number} {} a place that is not known", opened_at.kind.phrase()),
        false => format!("{number} {}", opened_at.text(functions)),
    };
    if let Some(interpreter) = &trace.interpreter {
        line += &format!(" (functions of {interpreter}, not of what it runs)");
    }
    printable(&line).into_owned()
}

/// `, /usr/bin/server, user www, in web (docker 0123456789ab), 40 of 1,024 descriptors`.
fn person(row: &CloseWaitProcess) -> String {
    let Some(process) = &row.process else { return String::new() };
    let mut words = Vec::new();
    words.extend(process.exe.as_deref().map(|exe| printable(exe).into_owned()));
    words.extend(process.user.as_deref().map(|user| format!("user {}", printable(user))));
    words.extend(process.container.as_ref().map(|container| format!("in {}", container_name(container))));
    if let (Some(fds), Some(nofile)) = (process.fds, process.nofile) {
        words.push(format!("{} of {} descriptors", count(fds), count(nofile)));
    }
    words.iter().map(|word| format!(", {word}")).collect()
}

pub(in crate::sink) fn kinds(kinds: &CloseWaitKinds) -> String {
    let CloseWaitKinds { forgot_close, never_looked, unread_data, never_accepted } = *kinds;
    [
        (forgot_close, CloseWaitKind::ForgotClose),
        (never_looked, CloseWaitKind::NeverLooked),
        (unread_data, CloseWaitKind::UnreadData),
        (never_accepted, CloseWaitKind::NeverAccepted),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, what)| format!("{} {}", count(number), short(what)))
    .collect::<Vec<_>>()
    .join(", ")
}

/// The kind in a column's width.
pub(in crate::sink) fn short(kind: CloseWaitKind) -> &'static str {
    match kind {
        CloseWaitKind::NeverLooked => "not read since",
        kind => kind.phrase(),
    }
}

pub(in crate::sink) fn note(socket: &Socket) -> &'static str {
    match (socket.owner_state, socket.owner_source) {
        // Its kind says so, and that it is the listener's follows.
        (Some(OwnerState::NeverAccepted), _) => "",
        (Some(OwnerState::Shared), _) => "shared",
        (Some(OwnerState::InFlight), _) => "no holder",
        (_, OwnerSource::Listen) => "owner inferred from the listener",
        _ => "",
    }
}
