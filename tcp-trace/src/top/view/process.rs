//! One process: what is wrong with it, its listeners, and its sockets as far as reports list them.

use ratatui::layout::Rect;
use tcp_trace_core::{
    process::{OwnerSource, printable},
    report::{CloseWaitProcess, OwnerState, PeerCount, ProcessIdentity, Report, Socket, StackCount},
    state::TcpState,
    survey::CloseWaitKind,
};

use super::{
    super::{
        frame::Frame,
        model::Model,
        palette::Tone,
        rows::{self, Who, cuts, failures_of},
        words::{
            NONE, UNKNOWN, age, bar, container, count, end, maybe, queue, short, sparkline, who, wrapped,
        },
    },
    findings, overview,
    pen::{Line, Pen, line, piece},
};

pub(super) fn draw(pen: &mut Pen<'_>, area: Rect, model: &Model, frame: &Frame) {
    let Some(focus) = model.focused() else {
        pen.text(area.x, area.y, area.width, "No process has done anything with TCP yet.", Tone::Dim);
        return;
    };
    let report = &frame.report;
    let width = usize::from(area.width);
    let identity = identity(report, &focus);
    let mut lines = head(report, &focus, identity, width);
    trouble(&mut lines, report, &focus, width);
    listeners(&mut lines, report, &focus);
    for leak in report.close_wait.processes.iter().filter(|row| Who::of(row.process.as_ref()) == focus) {
        close_wait(&mut lines, model, &focus, leak, width);
    }
    closing(&mut lines, report, &focus);
    sockets(&mut lines, model, &focus);
    connects(&mut lines, report, &focus);
    transitions(&mut lines, report, &focus);
    let name = identity.map_or_else(|| gone(&focus), |process| who(Some(process)));
    pen.title(area, 0, &format!("PROCESS {name}"), "Enter on another row of 1 opens that one");
    let below = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    pen.page(below, &lines, model.scroll);
}

/// Everything that a report says of who a process is; what knows most of it.
fn identity<'a>(report: &'a Report, focus: &Who) -> Option<&'a ProcessIdentity> {
    let parts = report.processes.iter().filter_map(|row| row.process.as_ref());
    let leaks = report.close_wait.processes.iter().filter_map(|row| row.process.as_ref());
    let listeners = report.half_open.listeners.iter().filter_map(|row| row.process.as_ref());
    let subjects = report.findings.iter().flatten().filter_map(|finding| rows::subject(&finding.subject));
    let all = parts.chain(leaks).chain(listeners).chain(subjects);
    all.filter(|process| Who::of(Some(process)) == *focus).max_by_key(|process| process.exe.is_some())
}

fn gone(focus: &Who) -> String {
    match focus {
        Who::Process(pid, _) => format!("{pid}: nothing in this window"),
        _ => "(unknown owners)".to_owned(),
    }
}

/// Who it is.
fn head(report: &Report, focus: &Who, identity: Option<&ProcessIdentity>, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(process) = identity {
        let text =
            |text: Option<&str>| text.map_or_else(|| UNKNOWN.to_owned(), |text| printable(text).into_owned());
        let command = process.cmdline.as_ref().map(|words| words.join(" "));
        lines.push(vec![
            piece("user ", Tone::Dim),
            piece(text(process.user.as_deref()), Tone::Plain),
            piece("  started ", Tone::Dim),
            piece(
                process.start_time.map_or_else(
                    || UNKNOWN.to_owned(),
                    |at| format!("{} UTC", at.timestamp().strftime("%Y-%m-%d %H:%M:%S")),
                ),
                Tone::Plain,
            ),
            piece("  container ", Tone::Dim),
            piece(process.container.as_ref().map_or_else(|| NONE.to_owned(), container), Tone::Plain),
        ]);
        let command = text(command.as_deref().or(process.exe.as_deref()));
        lines.push(vec![
            piece("runs ", Tone::Dim),
            piece(super::super::words::cut(&command, width.saturating_sub(5)), Tone::Plain),
        ]);
        if let (Some(fds), Some(nofile)) = (process.fds, process.nofile) {
            let share = if nofile > 0 { fds as f64 / nofile as f64 } else { 0.0 };
            let tone = if share > 0.8 { Tone::Critical } else { Tone::Plain };
            lines.push(vec![
                piece("descriptors ", Tone::Dim),
                piece(bar(share, 20), tone),
                piece(format!(" {} of {}", count(fds), count(nofile)), tone),
            ]);
        }
    }
    if let Some(part) = report.processes.iter().find(|row| Who::of(row.process.as_ref()) == *focus) {
        let rate = part.total as f64 / report.window.seconds.max(1e-9);
        let inferred =
            if part.inferred > 0 { format!(" ({} inferred)", count(part.inferred)) } else { String::new() };
        lines.push(vec![
            piece("sockets ", Tone::Dim),
            piece(count(part.live), Tone::Strong),
            piece("  transitions ", Tone::Dim),
            piece(format!("{}/s{inferred}", short(rate)), Tone::Strong),
        ]);
    }
    lines
}

fn section(lines: &mut Vec<Line>, title: &str) {
    lines.push(Line::new());
    lines.push(line(title, Tone::Title));
}

/// The findings about it.
fn trouble(lines: &mut Vec<Line>, report: &Report, focus: &Who, width: usize) {
    let about = report.findings.iter().flatten();
    for finding in
        about.filter(|finding| rows::subject(&finding.subject).is_some_and(|p| Who::of(Some(p)) == *focus))
    {
        lines.push(Line::new());
        lines.push(overview::head(finding));
        lines.extend(findings::text(finding, width.saturating_sub(6)));
    }
}

fn listeners(lines: &mut Vec<Line>, report: &Report, focus: &Who) {
    let own: Vec<_> =
        report.half_open.listeners.iter().filter(|row| Who::of(row.process.as_ref()) == *focus).collect();
    if own.is_empty() {
        return;
    }
    section(lines, "LISTENERS                   SYN QUEUE  ACCEPT QUEUE  HALF-OPEN      DROPPED");
    for row in own {
        let full = row.accept_queue.is_some_and(|queue| queue.length > queue.limit);
        lines.push(vec![
            piece(format!("{:<26}", end(row.local)), Tone::Plain),
            piece(format!("{:>11}", queue(row.syn_queue)), Tone::Plain),
            piece(
                format!("{:>14}", queue(row.accept_queue)),
                if full { Tone::Critical } else { Tone::Plain },
            ),
            piece(format!("{:>11}{:>13}", maybe(row.live), maybe(row.drops)), Tone::Plain),
        ]);
    }
}

/// `127.0.0.1 ×40, 10.0.0.3 ×2`.
fn ends(ends: &[PeerCount], most: usize) -> String {
    let one = |end: &PeerCount| match end.port {
        Some(port) => format!("{} ×{}", std::net::SocketAddr::new(end.address, port), count(end.count)),
        None => format!("{} ×{}", end.address, count(end.count)),
    };
    let mut texts: Vec<_> = ends.iter().take(most).map(one).collect();
    if ends.len() > most {
        texts.push(format!("+{}", ends.len() - most));
    }
    if texts.is_empty() { NONE.to_owned() } else { texts.join(", ") }
}

fn close_wait(lines: &mut Vec<Line>, model: &Model, focus: &Who, leak: &CloseWaitProcess, width: usize) {
    section(
        lines,
        &format!("CLOSE_WAIT: {} that the peer has closed and the program has not", count(leak.count)),
    );
    let samples = model.samples(60);
    let growth = samples.iter().map(|sample| {
        let found = sample.leaks.iter().find(|(process, _)| process == focus);
        Some(found.map_or(0.0, |(_, count)| *count as f64))
    });
    lines.push(vec![piece("growth ", Tone::Dim), piece(sparkline(growth, samples.len()), Tone::Warning)]);
    let kinds = leak.kinds.map_or_else(
        || UNKNOWN.to_owned(),
        |kinds| {
            let all = [
                (kinds.forgot_close, CloseWaitKind::ForgotClose),
                (kinds.never_looked, CloseWaitKind::NeverLooked),
                (kinds.unread_data, CloseWaitKind::UnreadData),
                (kinds.never_accepted, CloseWaitKind::NeverAccepted),
            ];
            let some = all.into_iter().filter(|(number, _)| *number > 0);
            some.map(|(number, kind)| format!("{} {}", count(number), kind.phrase()))
                .collect::<Vec<_>>()
                .join(", ")
        },
    );
    lines.push(vec![piece("kinds ", Tone::Dim), piece(kinds, Tone::Strong)]);
    lines.push(vec![piece("came in on ", Tone::Dim), piece(ends(&leak.listeners, 4), Tone::Plain)]);
    lines.push(vec![piece("peers ", Tone::Dim), piece(ends(&leak.peers, 4), Tone::Plain)]);
    stacks(lines, leak.stacks.as_deref(), width);
    let pair = |socket: &Socket| format!("{} ← {}", socket.local, socket.peer);
    let longest = leak.sockets.iter().map(|socket| pair(socket).chars().count()).max().unwrap_or(0).max(12);
    lines.push(line(format!("{:<longest$}{:>10}  {:<6}KIND", "LOCAL ← PEER", "AGE", "FD"), Tone::Dim));
    for socket in &leak.sockets {
        let fds: Vec<_> = socket.fds.iter().flatten().map(u32::to_string).collect();
        let fds = if socket.fds.is_none() { UNKNOWN.to_owned() } else { fds.join(" ") };
        lines.push(vec![
            piece(format!("{:<longest$}", pair(socket)), Tone::Plain),
            piece(format!("{:>10}", age(socket.age_ns, socket.age_exact)), Tone::Strong),
            piece(format!("  {fds:<6}"), Tone::Plain),
            piece(socket.kind.map_or(UNKNOWN, CloseWaitKind::phrase), Tone::Plain),
            piece(note(socket), Tone::Dim),
        ]);
    }
    let rest = leak.count.saturating_sub(leak.sockets.len() as u64);
    if rest > 0 {
        lines.push(line(format!("… and {} younger ones", count(rest)), Tone::Dim));
    }
}

fn note(socket: &Socket) -> String {
    let stack = socket.stack.map_or_else(String::new, |stack| format!("  stack {}", stack + 1));
    let held = match (socket.owner_state, socket.owner_source) {
        (Some(OwnerState::Shared), _) => "  shared",
        (Some(OwnerState::InFlight), _) => "  no holder",
        (Some(OwnerState::NeverAccepted), _) => "",
        (_, OwnerSource::Listen) => "  ~ owner inferred from the listener",
        _ => "",
    };
    format!("{held}{stack}")
}

/// Where they were opened.
fn stacks(lines: &mut Vec<Line>, stacks: Option<&[StackCount]>, width: usize) {
    let Some(stacks) = stacks else { return };
    for (number, stack) in (1..).zip(stacks.iter().take(8)) {
        let text = match &stack.opened_at {
            Some(opened_at) => printable(&opened_at.text(8)).into_owned(),
            None => "where they were opened is not known".to_owned(),
        };
        let text = format!("stack {number}: {} × {text}", count(stack.count));
        lines.extend(wrapped(&text, width).into_iter().map(|text| line(text, Tone::Info)));
    }
}

fn closing(lines: &mut Vec<Line>, report: &Report, focus: &Who) {
    let own: Vec<_> =
        report.closing.groups.iter().filter(|row| Who::of(row.process.as_ref()) == *focus).collect();
    if own.is_empty() {
        return;
    }
    section(lines, "CLOSING: waits for the peer");
    for group in own {
        lines.push(vec![
            piece(format!("{:<12}", group.state), Tone::Plain),
            piece(format!("{:>8}", count(group.count)), Tone::Strong),
            piece(
                format!("  orphans {}, window closed {}, ", maybe(group.orphans), maybe(group.zero_window)),
                Tone::Dim,
            ),
            piece(ends(&group.peers, 3), Tone::Plain),
        ]);
        for socket in group.sockets.iter().take(5) {
            lines.push(vec![
                piece(format!("  {:<52}", format!("{} → {}", socket.local, socket.peer)), Tone::Plain),
                piece(format!("{:>10}", age(socket.age_ns, socket.age_exact)), Tone::Plain),
            ]);
        }
    }
}

/// Every socket, of a live run.
fn sockets(lines: &mut Vec<Line>, model: &Model, focus: &Who) {
    let Some((_, all)) = model.sockets.as_ref().filter(|(who, _)| who == focus) else { return };
    let states = all.states.iter().map(|(state, number)| format!("{state} {}", count(*number)));
    section(lines, &format!("SOCKETS now: {}", states.collect::<Vec<_>>().join(", ")));
    let longest =
        |end: fn(&Socket) -> String| all.sockets.iter().map(|row| end(row).len()).max().unwrap_or(0).max(6);
    let (local, peer) = (longest(|row| row.local.to_string()), longest(peer_of));
    lines.push(line(
        format!("{:<local$} {:<peer$} {:<11} {:>9}  FD", "LOCAL", "PEER", "STATE", "AGE"),
        Tone::Dim,
    ));
    for row in &all.sockets {
        let fds: Vec<_> = row.fds.iter().flatten().map(u32::to_string).collect();
        let fds = if row.fds.is_none() { UNKNOWN.to_owned() } else { fds.join(" ") };
        let note = note(row);
        let text = format!(
            "{:<local$} {:<peer$} {:<11} {:>9}  {fds}{note}",
            row.local.to_string(),
            peer_of(row),
            row.state.to_string(),
            age(row.age_ns, row.age_exact)
        );
        lines.push(line(text, if row.state == TcpState::CloseWait { Tone::Warning } else { Tone::Plain }));
    }
    let rest = all.states.values().sum::<u64>().saturating_sub(all.sockets.len() as u64);
    if rest > 0 {
        lines.push(line(
            format!("… and {} that have been in their states for less long", count(rest)),
            Tone::Dim,
        ));
    }
}

fn peer_of(socket: &Socket) -> String {
    if socket.state == TcpState::Listen { NONE.to_owned() } else { socket.peer.to_string() }
}

/// What it could not connect to, and what was cut off.
fn connects(lines: &mut Vec<Line>, report: &Report, focus: &Who) {
    let failing =
        report.connect.iter().flat_map(|row| row.failing.iter().map(move |failing| (row.peer, failing)));
    let own: Vec<_> = failing.filter(|(_, row)| Who::of(row.process.as_ref()) == *focus).collect();
    if !own.is_empty() {
        section(lines, "CONNECTS THAT FAILED");
    }
    for (peer, row) in own {
        let words = [
            (row.refused, "refused"),
            (row.timed_out, "timed out"),
            (row.unreachable, "unreachable"),
            (row.reset, "reset"),
            (row.given_up, "given up"),
            (row.no_port, "without a free local port"),
            (row.failed, "other"),
        ];
        let words = words.into_iter().filter(|(number, _)| *number > 0);
        let words =
            words.map(|(number, what)| format!("{} {what}", count(number))).collect::<Vec<_>>().join(", ");
        lines.push(vec![
            piece(format!("{:<30}", end(peer)), Tone::Plain),
            piece(format!("{:>8}  ", count(failures_of(row))), Tone::Critical),
            piece(format!("{words}; {} answered", count(row.answered)), Tone::Plain),
        ]);
    }
    let cut = report.endings.iter().flatten();
    let cut: Vec<_> = cut.filter(|row| cuts(row.ending) && Who::of(row.process.as_ref()) == *focus).collect();
    if !cut.is_empty() {
        section(lines, "CUT OFF");
    }
    for row in cut {
        lines.push(vec![
            piece(format!("{:<16}", row.ending.name()), Tone::Warning),
            piece(format!("{:>8}", count(row.count)), Tone::Strong),
            piece(
                format!(
                    "  in {}, {} of them without data  {}",
                    row.state,
                    count(row.without_data),
                    ends(&row.peers, 2)
                ),
                Tone::Plain,
            ),
        ]);
    }
}

fn transitions(lines: &mut Vec<Line>, report: &Report, focus: &Who) {
    let Some(part) = report.processes.iter().find(|row| Who::of(row.process.as_ref()) == *focus) else {
        return;
    };
    if part.transitions.is_empty() {
        return;
    }
    section(lines, "TRANSITIONS in this window");
    let mut cells = part.transitions.clone();
    cells.sort_by_key(|cell| std::cmp::Reverse(cell.count));
    for cell in cells {
        let tone = match tcp_trace_core::diagram::classify(cell.old, cell.new) {
            tcp_trace_core::diagram::Kind::Anomalous => Tone::Critical,
            _ => Tone::Plain,
        };
        lines.push(line(format!("{:<12} → {:<12} {:>10}", cell.old, cell.new, count(cell.count)), tone));
    }
}
