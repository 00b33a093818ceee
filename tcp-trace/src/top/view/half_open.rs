//! Listeners: how full their queues are, how long handshakes took, and where requests come from.

use ratatui::layout::Rect;
use tcp_trace_core::report::{HalfOpen, HalfOpenCause, Listener, Queue};

use super::{
    super::{
        frame::{BUCKETS, Frame},
        model::Model,
        palette::Tone,
        words::{NONE, UNKNOWN, bar, count, end, maybe, queue, time, who},
    },
    pen::{Line, Pen, Piece, Table, left, piece, right},
};
use tcp_trace_core::process::printable;

/// Rows of the drawing of durations, at the most.
const TALL: u16 = 8;

pub(super) fn draw(pen: &mut Pen<'_>, area: Rect, model: &Model, frame: &Frame) {
    let half_open = &frame.report.half_open;
    pen.title(area, 0, "HALF-OPEN: from the SYN to the last ACK", "⏎ opens the listener's process");
    pen.line(area, 1, &summary(half_open, area.width));
    let listeners = model.listeners();
    let selected = model.selected().min(listeners.len().saturating_sub(1));
    let details = if area.height >= 18 { (area.height - 4) * 6 / 10 } else { 0 };
    let above = area.height.saturating_sub(2 + details);
    let wanted = (listeners.len() as u16 + 1).max(3);
    let above = if details > 0 { above.min(wanted.max(4)) } else { above };
    let rows = listeners.iter().map(|listener| cells(listener, area.width)).collect();
    let table = Rect { y: area.y + 2, height: above, ..area };
    Table { columns: columns(), rows, selected: Some(selected) }.draw(pen, table);
    let counts = (pen.drawn.rows, pen.drawn.page);
    if listeners.is_empty() {
        pen.text(
            area.x,
            area.y + 3,
            area.width,
            "No listener has been asked for anything in this window.",
            Tone::Dim,
        );
    }
    let rest = Rect { y: table.bottom(), height: area.bottom().saturating_sub(table.bottom()), ..area };
    if let Some(listener) = listeners.get(selected)
        && details > 0
    {
        detail(pen, rest, model, frame, listener);
    }
    (pen.drawn.rows, pen.drawn.page) = counts;
}

fn summary(half_open: &HalfOpen, width: u16) -> Line {
    let HalfOpen { completed, unknown, expired, reset, dead, live, cookies, .. } = half_open;
    let waiting = if live.is_some_and(|live| live > 0) { Tone::Strong } else { Tone::Plain };
    let wide = width >= 100;
    let median = if wide { format!(", p50 {}", time(completed.p50_ns)) } else { String::new() };
    vec![
        piece(maybe(*live), waiting),
        piece(" half-open │ ", Tone::Plain),
        piece(count(completed.count + unknown), Tone::Strong),
        piece(
            format!(" done{median}, p99 {}, max {} │ ", time(completed.p99_ns), time(completed.max_ns)),
            Tone::Plain,
        ),
        piece(format!("{} expired  ", maybe(*expired)), died(*expired)),
        piece(format!("{} reset  ", maybe(*reset)), died(*reset)),
        piece(
            format!("{} {}  ", maybe(*dead), if wide { "of one of the two" } else { "either" }),
            died(*dead),
        ),
        piece(format!("{} by cookie", maybe(*cookies)), died(*cookies)),
    ]
}

fn died(count: Option<u64>) -> Tone {
    if count.is_some_and(|count| count > 0) { Tone::Warning } else { Tone::Dim }
}

fn columns() -> Vec<super::pen::Column> {
    vec![
        left("LISTENER").flexible(),
        left("PROCESS").flexible(),
        right("LIVE"),
        right("≥1 s"),
        left("SYN QUEUE"),
        left("ACCEPT QUEUE"),
        right("DROPPED").from(84),
        right("EXPIRED").from(76),
        right("RESET").from(104),
        right("SOURCES").from(128),
        right("DONE").from(112),
        right("P50").from(130),
        right("P99").from(140),
        left("WHY").from(92),
    ]
}

fn cells(listener: &Listener, width: u16) -> Vec<Piece> {
    let time_of = |ns: Option<u64>| if listener.completed.count > 0 { time(ns) } else { NONE.to_owned() };
    let number = |number: Option<u64>, tone| {
        piece(maybe(number), if number.is_some_and(|number| number > 0) { tone } else { Tone::Dim })
    };
    let bars = if width >= 140 { 12 } else { 5 };
    vec![
        piece(end(listener.local), Tone::Strong),
        piece(who(listener.process.as_ref()), Tone::Plain),
        number(listener.live, Tone::Strong),
        number(listener.overdue, Tone::Critical),
        filled(listener.syn_queue, bars),
        filled(listener.accept_queue, bars),
        number(listener.drops, Tone::Critical),
        number(listener.expired, Tone::Warning),
        number(listener.reset, Tone::Warning),
        piece(maybe(listener.sources), Tone::Plain),
        piece(count(listener.completed.count + listener.unknown), Tone::Plain),
        piece(time_of(listener.completed.p50_ns), Tone::Plain),
        piece(time_of(listener.completed.p99_ns), Tone::Plain),
        match listener.cause {
            Some(HalfOpenCause::AcceptQueueFull) => piece("accepts too slowly", Tone::Critical),
            Some(HalfOpenCause::SilentClients) => piece("silent clients", Tone::Warning),
            None => piece(NONE, Tone::Dim),
        },
    ]
}

/// A queue against its limit. `len > limit` is what the kernel calls full (`sk_acceptq_is_full`).
fn filled(of: Option<Queue>, width: usize) -> Piece {
    let Some(Queue { length, limit }) = of else { return piece(UNKNOWN, Tone::Dim) };
    let share = if limit > 0 { length as f64 / limit as f64 } else { 1.0 };
    let tone = match share {
        _ if length == 0 => Tone::Dim,
        share if share >= 1.0 => Tone::Critical,
        share if share >= 0.5 => Tone::Warning,
        _ => Tone::Plain,
    };
    piece(format!("{} {}", bar(share, width), queue(of)), tone)
}

/// The selected listener.
fn detail(pen: &mut Pen<'_>, area: Rect, model: &Model, frame: &Frame, listener: &Listener) {
    let beside = area.width >= 130;
    let half = if beside { area.width * 68 / 130 } else { area.width };
    let height = if beside { area.height } else { area.height * 6 / 10 };
    let spot = Rect { width: half, height, ..area };
    durations(pen, spot, model, listener);
    let below = if beside {
        Rect { x: area.x + half + 2, width: area.width - half - 2, ..area }
    } else {
        Rect { y: area.y + height, height: area.height - height, ..area }
    };
    sources(pen, below, frame, listener);
}

/// How long handshakes took, by power of two.
fn durations(pen: &mut Pen<'_>, area: Rect, model: &Model, listener: &Listener) {
    let title = format!("TIME HALF-OPEN at {}, last reports", end(listener.local));
    pen.title(area, 0, &title, "");
    let mut sum = [0_u64; BUCKETS];
    if let Some(local) = listener.local {
        for handshakes in model.handshakes() {
            for (all, count) in sum.iter_mut().zip(handshakes.of(listener.netns, local)) {
                *all += u64::from(count);
            }
        }
    }
    let most = sum.iter().copied().max().unwrap_or(0);
    let rows = area.height.saturating_sub(2).min(TALL);
    if most == 0 || rows < 2 {
        let text = "No handshake of known duration was seen one by one.";
        pen.text(area.x + 1, area.y + 1, area.width.saturating_sub(1), text, Tone::Dim);
        return;
    }
    let step = ((area.width.saturating_sub(10)) / BUCKETS as u16).clamp(1, 4);
    let x0 = area.x + 9;
    for row in 0..rows {
        let y = area.y + 1 + row;
        let label = if row == 0 { count(most) } else { String::new() };
        pen.text(area.x, y, 8, &format!("{label:>8}"), Tone::Dim);
        for (place, number) in (0_u16..).zip(sum) {
            let eighths = (number as f64 / most as f64 * f64::from(rows) * 8.0).ceil() as u16;
            let here = eighths.saturating_sub((rows - 1 - row) * 8).min(8);
            let symbol =
                [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"].get(usize::from(here)).copied().unwrap_or(" ");
            // A second and more is a retransmission at least.
            let tone = if place >= 20 { Tone::Warning } else { Tone::Flow };
            pen.text(
                x0 + place * step,
                y,
                step,
                &symbol.repeat(usize::from(step.saturating_sub(1).max(1))),
                tone,
            );
        }
    }
    let y = area.y + 1 + rows;
    for (place, text) in [(0_u16, "1µs"), (5, "32µs"), (10, "1ms"), (15, "33ms"), (20, "1s"), (25, "34s")] {
        pen.text(x0 + place * step, y, 5, text, Tone::Dim);
    }
}

/// Where its requests come from, and what the kernel counted.
fn sources(pen: &mut Pen<'_>, area: Rect, frame: &Frame, listener: &Listener) {
    let number =
        listener.sources.map_or_else(|| UNKNOWN.to_owned(), |sources| format!("~{}", count(sources)));
    pen.title(area, 0, &format!("SOURCES: {number} addresses"), "");
    let rows: Vec<_> = listener
        .prefixes
        .iter()
        .map(|prefix| {
            vec![
                piece(printable(&prefix.prefix).into_owned(), Tone::Plain),
                piece(count(prefix.requests), Tone::Strong),
                piece(count(prefix.completed), Tone::Plain),
                piece(maybe(prefix.live), Tone::Warning),
                piece(maybe(prefix.expired), died(prefix.expired)),
                piece(maybe(prefix.reset), died(prefix.reset)),
            ]
        })
        .collect();
    let columns = vec![
        left("FROM").flexible(),
        right("REQUESTS"),
        right("DONE"),
        right("LIVE"),
        right("EXPIRED"),
        right("RESET"),
    ];
    let length = rows.len() as u16;
    Table { columns, rows, selected: None }
        .draw(pen, Rect { y: area.y + 1, height: area.height.saturating_sub(1).min(length + 1), ..area });
    let Some(netns) = frame.report.half_open.namespaces.iter().find(|row| Some(row.netns) == listener.netns)
    else {
        return;
    };
    let counters = [
        ("ListenOverflows", netns.listen_overflows),
        ("ListenDrops", netns.listen_drops),
        ("SyncookiesSent", netns.syncookies_sent),
        ("SyncookiesFailed", netns.syncookies_failed),
        ("TCPReqQFullDoCookies", netns.request_queue_full_cookies),
        ("TCPReqQFullDrop", netns.request_queue_full_drops),
        ("EmbryonicRsts", netns.embryonic_resets),
    ];
    let mut line: Line = vec![piece("its network namespace: ", Tone::Dim)];
    for (name, number) in counters.into_iter().filter(|(_, number)| *number > 0) {
        line.push(piece(format!("{name} "), Tone::Plain));
        line.push(piece(format!("{}  ", count(number)), Tone::Critical));
    }
    let cookies = netns.syncookies.map_or_else(|| UNKNOWN.to_owned(), |value| value.to_string());
    let backlog = netns.somaxconn.map_or_else(|| UNKNOWN.to_owned(), count);
    line.push(piece(format!("tcp_syncookies {cookies}, somaxconn {backlog}"), Tone::Dim));
    pen.line(area, length + 2, &line);
}
