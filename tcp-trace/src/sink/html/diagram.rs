//! The state diagram: which states and transitions there are and what they say is the core's (`core/src/diagram.rs`), where
//! they stand on the page is ours. Widths of arrows grow with the number of digits, so that ten million and ten are told
//! apart and both are seen.

use maud::{Markup, PreEscaped, html};
use tcp_trace_core::{
    diagram::{self, Edge, Kind, NODES, Node, WaitsFor},
    report::{Report, TransitionCount},
    state::TcpState::{self, *},
};

use super::head::{clock, day};
use crate::sink::{
    report_table::balance,
    units::{count, duration},
};

const WIDTH: u16 = 1000;
const HEIGHT: u16 = 850;
/// Half a box.
const HALF: (i32, i32) = (92, 34);
/// Where columns and rows have their middles.
const COLUMNS: [i32; 3] = [165, 500, 835];
const ROWS: [i32; 7] = [48, 168, 292, 416, 544, 672, 798];
/// Where CLOSE stands again, as the end.
const END: (i32, i32) = (500, 798);
/// Transitions that are not in the diagram and yet told under it.
const STRANGE: usize = 5;

const STYLE: &str = include_str!("diagram.css");

/// An arrow's way, and where its number stands.
struct Way {
    path: &'static str,
    label: (i32, i32),
}

const fn way(path: &'static str, x: i32, y: i32) -> Option<Way> {
    Some(Way { path, label: (x, y) })
}

/// `None` for an arrow that nobody has found a way for yet: its number is told under the diagram.
fn way_of(old: TcpState, new: TcpState) -> Option<Way> {
    match (old, new) {
        (Close, Listen) => way("M408,62 C300,66 208,84 198,132", 292, 88),
        (Listen, Close) => way("M122,134 C116,44 260,28 406,36", 168, 62),
        (Close, SynSent) => way("M592,62 C700,66 792,84 802,132", 708, 88),
        (SynSent, Close) => way("M878,134 C884,44 740,28 594,36", 832, 62),
        (Listen, SynReceived) => way("M257,176 C360,184 424,214 446,256", 372, 200),
        (SynSent, SynReceived) => way("M743,176 C640,184 576,214 554,256", 628, 200),
        (SynReceived, Close) => way("M500,258 L500,84", 500, 150),
        (Listen, NewSynReceived) => way("M165,202 L165,256", 165, 228),
        (NewSynReceived, SynReceived) => way("M257,292 L406,292", 331, 286),
        (SynSent, Established) => way("M852,202 C852,340 740,404 594,408", 794, 344),
        (SynReceived, Established) => way("M500,326 L500,380", 500, 356),
        (SynReceived, FinWait1) => way("M408,308 C200,336 112,420 128,508", 190, 384),
        (SynReceived, CloseWait) => way("M592,308 C800,322 896,410 880,508", 884, 424),
        (Established, FinWait1) => way("M408,424 C290,428 176,444 166,508", 262, 448),
        (Established, CloseWait) => way("M592,424 C710,428 824,444 834,508", 738, 448),
        (FinWait1, FinWait2) => way("M165,578 L165,636", 165, 608),
        (FinWait1, Closing) => way("M257,556 C366,566 436,592 450,636", 384, 586),
        (FinWait1, Close) => way("M244,578 C322,640 352,712 436,762", 318, 654),
        (FinWait2, Close) => way("M246,706 C270,750 330,784 406,788", 292, 744),
        (FinWait2, TimeWait) => way("M165,706 L165,762", 165, 734),
        (Closing, TimeWait) => way("M424,706 C390,760 330,804 259,808", 368, 780),
        (TimeWait, Close) => way("M257,822 L406,822", 331, 840),
        (Closing, Close) => way("M500,706 L500,762", 500, 734),
        (Established, Close) => way("M562,450 C652,560 656,680 574,762", 640, 588),
        (CloseWait, Close) => way("M760,578 C690,640 672,724 594,786", 716, 640),
        (CloseWait, LastAck) => way("M835,578 L835,636", 835, 608),
        (LastAck, Close) => way("M800,706 C790,772 690,800 594,804", 740, 776),
        _ => None,
    }
}

/// The diagram, to stand in a page. Its style is the page's.
pub(super) fn diagram(report: &Report) -> Markup {
    html! {
        svg.diagram viewBox={ "0 0 " (WIDTH) " " (HEIGHT + strange_height(report)) } role="img" aria-labelledby="diagram-name" {
            title #diagram-name { "TCP state diagram: transitions on the arrows, sockets in the boxes; the tables below have the same numbers" }
            (drawing(report))
        }
    }
}

/// The diagram as a file of its own: with its style, whose it is, and what is lost.
pub(super) fn standalone(report: &Report) -> Markup {
    let Report { host, window, loss, .. } = report;
    let height = HEIGHT + strange_height(report) + 60;
    html! {
        (PreEscaped("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"))
        svg.diagram.alone xmlns="http://www.w3.org/2000/svg" viewBox={ "0 -60 " (WIDTH) " " (height) } width=(WIDTH) height=(height)
            role="img" aria-labelledby="diagram-name" {
            title #diagram-name { "TCP state diagram of " (host.name) }
            style { (PreEscaped(STYLE)) }
            rect.ground x="0" y="-60" width=(WIDTH) height=(height) {}
            text.heading x="20" y="-34" {
                (host.name) ", Linux " (host.kernel) ", " (day(window.start)) " " (clock(window.start)) " to " (clock(window.end)) " UTC"
            }
            text.balance.wrong[!loss.balanced || loss.lost > 0] x="20" y="-14" { (balance(loss)) }
            (drawing(report))
        }
    }
}

fn drawing(report: &Report) -> Markup {
    html! {
        defs {
            @for kind in ["normal", "rare", "anomalous", "none"] {
                marker id={ "head-" (kind) } viewBox="0 0 10 10" refX="8" refY="5" markerWidth="11" markerHeight="11"
                    markerUnits="userSpaceOnUse" orient="auto" { path.head.(kind) d="M0,0 L10,5 L0,10 z" {} }
            }
        }
        // Those that carry something over those that do not.
        g { @for edge in sorted(report) { (arrow(report, edge)) } }
        g { @for node in &NODES { (state_box(report, node)) } (end_box()) }
        g { @for edge in sorted(report) { (number(report, edge)) } }
        (strange(report))
        (legend())
    }
}

fn sorted(report: &Report) -> Vec<&'static Edge> {
    let mut edges: Vec<_> = diagram::edges().iter().collect();
    edges.sort_by_key(|edge| counted(report, edge).is_some_and(|count| count > 0));
    edges
}

/// How often it happened; `None` for arrows that no transition shows and that nothing else counts.
fn counted(report: &Report, edge: &Edge) -> Option<u64> {
    let cells = report.transitions.iter().filter(|cell| (cell.old, cell.new) == (edge.old, edge.new));
    edge.counted.then(|| cells.map(|cell| cell.count).sum())
}

fn class(kind: Kind, count: Option<u64>) -> &'static str {
    match (kind, count) {
        (_, Some(0)) => "none",
        (Kind::Normal, _) => "normal",
        (Kind::Rare, _) => "rare",
        (Kind::Anomalous, _) => "anomalous",
    }
}

fn arrow(report: &Report, edge: &Edge) -> Markup {
    let count = counted(report, edge);
    let class = class(edge.kind, count);
    let head = if edge.counted { class } else { "none" };
    // A digit more is a bit wider.
    let digits = count.filter(|count| *count > 0).map_or(0, |count| count.ilog10() + 1);
    let width = [1.2, 1.6, 2.0, 2.6, 3.2, 3.8, 4.4, 5.0].get(digits as usize).unwrap_or(&5.6);
    html! {
        @if let Some(way) = way_of(edge.old, edge.new) {
            path.edge.(class).small[!edge.counted] d=(way.path) stroke-width=(width) marker-end={ "url(#head-" (head) ")" } {
                title { (words(edge, count)) }
            }
        }
    }
}

/// `CLOSE_WAIT → CLOSE: cut off (…), 12 times`.
fn words(edge: &Edge, number: Option<u64>) -> String {
    let Edge { old, new, label, .. } = edge;
    match number {
        Some(1) => format!("{old} → {new}: {label}; once"),
        Some(number) => format!("{old} → {new}: {label}; {} times", count(number)),
        None => {
            format!("{old} → {new}: {label}; not among the transitions, as the kernel keeps no socket then")
        }
    }
}

fn number(report: &Report, edge: &Edge) -> Markup {
    let number = counted(report, edge).filter(|number| *number > 0);
    html! {
        @if let (Some(number), Some(way)) = (number, way_of(edge.old, edge.new)) {
            text.count.(class(edge.kind, Some(number))) x=(way.label.0) y=(way.label.1) {
                title { (words(edge, Some(number))) }
                (count(number))
            }
        }
    }
}

/// What stands in a state's box.
struct Contents {
    live: String,
    time: String,
    class: &'static str,
    title: String,
}

fn contents(report: &Report, node: &Node) -> Contents {
    let waits = match node.waits_for {
        WaitsFor::Program => "; the program here has to act",
        WaitsFor::Peer => "; the peer has to act",
        WaitsFor::Timer => "; a timer ends it",
        WaitsFor::Nobody => "",
    };
    let summary = report.states.get(&node.state);
    let live = match node.state {
        Close => None,
        NewSynReceived => report.half_open.live,
        TimeWait => report.time_wait.live,
        _ => summary.and_then(|summary| summary.live),
    };
    let time = match node.state {
        NewSynReceived => &report.half_open.completed,
        _ => &summary.map(|summary| summary.duration).unwrap_or_default(),
    };
    let time_text = match (time.p50_ns, time.p99_ns) {
        (Some(_), Some(_)) => format!("p50 {} · p99 {}", duration(time.p50_ns), duration(time.p99_ns)),
        _ => String::new(),
    };
    let lingers = node.state == CloseWait && report.close_wait.lingering > 0;
    let live_text = match (node.state, live) {
        (Close, _) => String::new(),
        (_, Some(live)) => format!("{} now", count(live)),
        (_, None) => "not known".to_owned(),
    };
    Contents {
        title: format!("{}: {live_text}{waits}", node.state),
        live: if lingers {
            format!("{live_text}, {} linger", count(report.close_wait.lingering))
        } else {
            live_text
        },
        time: time_text,
        class: match live {
            _ if lingers => "lingering",
            Some(live) if live > 0 => "live",
            _ => "empty",
        },
    }
}

fn state_box(report: &Report, node: &Node) -> Markup {
    let column = COLUMNS.get(usize::from(node.column)).copied().unwrap_or(END.0);
    let row = ROWS.get(usize::from(node.row)).copied().unwrap_or(END.1);
    let Contents { live, time, class, title } = contents(report, node);
    // A name alone stands in the middle.
    let [name, second, third] = match (live.is_empty(), time.is_empty()) {
        (false, false) => [-12, 7, 24],
        (true, true) => [6, 0, 0],
        _ => [-4, 16, 16],
    }
    .map(|offset| row + offset);
    html! {
        g.state.(class).small[!node.is_socket] {
            title { (title) }
            rect x=(column - HALF.0) y=(row - HALF.1) width=(2 * HALF.0) height=(2 * HALF.1) rx="9" {}
            text.name x=(column) y=(name) { (node.state) }
            @if !live.is_empty() { text.live x=(column) y=(second) { (live) } }
            @if !time.is_empty() { text.time x=(column) y=(third) { (time) } }
        }
    }
}

fn end_box() -> Markup {
    html! {
        g.state.empty {
            rect x=(END.0 - HALF.0) y=(END.1 - HALF.1) width=(2 * HALF.0) height=(2 * HALF.1) rx="9" {}
            text.name x=(END.0) y=(END.1 + 5) { (Close) }
        }
    }
}

/// Transitions that the diagram has no arrow for, most first.
fn unknown(report: &Report) -> Vec<&TransitionCount> {
    let drawn = |cell: &&TransitionCount| {
        let edge = diagram::edge(cell.old, cell.new).filter(|edge| edge.counted);
        edge.and(way_of(cell.old, cell.new)).is_some()
    };
    let mut cells: Vec<_> =
        report.transitions.iter().filter(|cell| !drawn(cell) && cell.old != cell.new).collect();
    cells.sort_by_key(|cell| std::cmp::Reverse(cell.count));
    cells
}

fn strange_height(report: &Report) -> u16 {
    let lines = u16::try_from(unknown(report).len().min(STRANGE + 1)).unwrap_or(0);
    if lines == 0 { 0 } else { 30 + 20 * lines }
}

fn strange(report: &Report) -> Markup {
    let cells = unknown(report);
    let top = i32::from(HEIGHT) + 16;
    html! {
        @if !cells.is_empty() {
            text.note x="20" y=(top) { "Seen, and no part of the diagram:" }
            @for (line, cell) in (1..).zip(cells.iter().take(STRANGE)) {
                text.note.anomalous x="40" y=(top + 20 * line) { (cell.old) " → " (cell.new) " ×" (count(cell.count)) }
            }
            @if let more @ 1.. = cells.len().saturating_sub(STRANGE) {
                text.note x="40" y=(top + 20 * (STRANGE as i32 + 1)) { "… and " (more) " more kinds: see the transitions" }
            }
        }
    }
}

fn legend() -> Markup {
    let lines = [
        ("normal", "as it should be"),
        ("rare", "seldom"),
        ("anomalous", "cut off"),
        ("normal small", "no socket then"),
    ];
    html! {
        g.legend {
            @for (row, (class, text)) in (0..).zip(lines) {
                path class={ "edge " (class) } d={ "M" (690 + row % 2 * 160) "," (826 + row / 2 * 16) " l24,0" } stroke-width="3" {}
                text.note x=(720 + row % 2 * 160) y=(830 + row / 2 * 16) { (text) }
            }
        }
    }
}
