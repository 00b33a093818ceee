//! The oldest lingering sockets as bars on one axis of time: who has been in CLOSE_WAIT since when.

use maud::{Markup, html};
use tcp_trace_core::{
    process::OwnerSource,
    report::{CloseWaitProcess, Report, Socket},
    survey::CloseWaitKind,
};

use super::scale::at;
use crate::sink::{
    report_table::{close_wait::short, least, who},
    units::duration,
};

/// Bars at most.
const BARS: usize = 40;
const WIDTH: f64 = 900.0;
const BAR: f64 = 18.0;
/// Where the bars are: left, top, right.
const FRAME: (f64, f64, f64) = (360.0, 24.0, 890.0);
/// Times on the axis.
const TIMES: u64 = 4;

/// The bars, oldest first; nothing where no age is known.
pub(super) fn waterfall(report: &Report) -> Markup {
    let mut sockets: Vec<(&CloseWaitProcess, &Socket, u64)> = report
        .close_wait
        .processes
        .iter()
        .flat_map(|row| row.sockets.iter().filter_map(move |socket| Some((row, socket, socket.age_ns?))))
        .collect();
    sockets.sort_by_key(|(_, socket, age)| (std::cmp::Reverse(*age), socket.cookie));
    let Some(&(_, _, oldest)) = sockets.first() else { return Markup::default() };
    let shown = sockets.len().min(BARS);
    let height = FRAME.1 + BAR * shown as f64 + 8.0;
    let x = |age: u64| {
        let share = if oldest == 0 { 0.0 } else { age as f64 / oldest as f64 };
        at(FRAME.2 - share.clamp(0.0, 1.0) * (FRAME.2 - FRAME.0))
    };
    let kinds: Vec<_> = sockets.iter().take(BARS).map(|(_, socket, _)| socket.kind).collect();
    let begun = (report.window.seconds * 1e9) as u64;
    html! {
        figure.chart.waterfall {
            figcaption { "The oldest lingering sockets: in CLOSE_WAIT from where a bar begins until the end of the run" }
            svg viewBox={ "0 0 " (WIDTH) " " (at(height)) } role="img" aria-label={ (shown) " sockets; the table below has them, too" } {
                @for tick in 0..=TIMES {
                    @let age = oldest / TIMES * tick;
                    path.grid d={ "M" (x(age)) "," (FRAME.1) " V" (at(height - 8.0)) } {}
                    text.tick.(place(tick)) x=(x(age)) y="14" {
                        @if tick == 0 { "end of run" } @else { "−" (duration(Some(age))) }
                    }
                }
                @if begun < oldest {
                    path.begun d={ "M" (x(begun)) "," (FRAME.1 - 4.0) " V" (at(height - 8.0)) } { title { "The run began here" } }
                }
                @for (line, (row, socket, age)) in (0..).zip(sockets.iter().take(BARS)) {
                    (bar(row, socket, x(*age), FRAME.1 + BAR * f64::from(line)))
                }
            }
            ul.key {
                @for kind in KINDS.into_iter().filter(|kind| kinds.contains(&Some(*kind))) { li { span.swatch.(class(Some(kind))) {} (short(kind)) } }
                @if kinds.contains(&None) { li { span.swatch.(class(None)) {} "no survey has looked at it" } }
                @if begun < oldest { li { span.swatch.begun {} "the run began" } }
            }
        }
    }
}

fn place(tick: u64) -> &'static str {
    match tick {
        0 => "end",
        TIMES => "start",
        _ => "middle",
    }
}

const KINDS: [CloseWaitKind; 4] = [
    CloseWaitKind::ForgotClose,
    CloseWaitKind::NeverLooked,
    CloseWaitKind::UnreadData,
    CloseWaitKind::NeverAccepted,
];

fn class(kind: Option<CloseWaitKind>) -> &'static str {
    match kind {
        Some(CloseWaitKind::ForgotClose) => "c0",
        Some(CloseWaitKind::NeverLooked) => "c1",
        Some(CloseWaitKind::UnreadData) => "c2",
        Some(CloseWaitKind::NeverAccepted) => "c3",
        None => "rest",
    }
}

fn bar(row: &CloseWaitProcess, socket: &Socket, from: f64, top: f64) -> Markup {
    let owner = who(row.process.as_ref());
    let age = least(socket.age_ns, socket.age_exact);
    let inferred = if socket.owner_source == OwnerSource::Listen { " (owner inferred)" } else { "" };
    let name = format!("{owner}: {} ← {}", socket.local, socket.peer);
    // Long names would run into the bars; the whole one is in the tooltip and in the table.
    let short_name = match name.char_indices().nth(56) {
        Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()),
        None => name.clone(),
    };
    html! {
        g {
            title { (name) (inferred) ", " (age) }
            text.who x=(FRAME.0 - 8.0) y=(at(top + 13.0)) { (short_name) }
            rect.bar.(class(socket.kind)).open[socket.age_exact != Some(true)] x=(from) y=(at(top + 2.0))
                width=(at((FRAME.2 - from).max(2.0))) height=(BAR - 4.0) rx="2" {}
            text.age x=(at((from + 6.0).min(FRAME.2 - 60.0))) y=(at(top + 13.0)) { (age) }
        }
    }
}
