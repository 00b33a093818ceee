//! The state diagram: how many sockets are where, and how many go which way.

use ratatui::layout::Rect;
use tcp_trace_core::{
    diagram::{self as core, Kind},
    findings::Severity,
    report::Report,
    state::TcpState::{self, *},
};

use super::{
    super::{
        frame::Frame,
        model::Model,
        palette::{self, Tone},
        words::{UNKNOWN, count, per_second, short, time},
    },
    diagram::{Point, Wires},
    pen::{Line, Pen, Table, left, piece, right},
};

/// Rows between the seven rows of boxes, at the least.
const GAPS: [u16; 6] = [1, 1, 2, 2, 2, 2];

pub(super) fn draw(pen: &mut Pen<'_>, area: Rect, _model: &Model, frame: &Frame) {
    let report = &frame.report;
    pen.title(area, 0, "STATES: sockets now, and transitions per second", "✖ ends without a proper close");
    let inner = Rect { y: area.y + 1, height: area.height.saturating_sub(2), ..area };
    let flows = Flows { report, seconds: report.window.seconds };
    match Layout::of(inner) {
        Some(layout) => layout.draw(pen, inner, &flows),
        None => table(pen, inner, &flows),
    }
    let rest = flows.others();
    pen.line(Rect { y: area.bottom() - 1, height: 1, ..area }, 0, &rest);
}

/// What a report says of states and transitions.
struct Flows<'a> {
    report: &'a Report,
    seconds: f64,
}

/// Transitions that the diagram draws, or shows as ends.
const DRAWN: [(TcpState, TcpState); 18] = [
    (Close, Listen),
    (Close, SynSent),
    (Listen, SynReceived),
    (SynReceived, Established),
    (SynSent, Established),
    (SynSent, SynReceived),
    (Established, FinWait1),
    (Established, CloseWait),
    (FinWait1, FinWait2),
    (FinWait1, Closing),
    (FinWait2, Close),
    (Closing, Close),
    (CloseWait, LastAck),
    (LastAck, Close),
    (SynSent, Close),
    (SynReceived, Close),
    (Established, Close),
    (FinWait1, Close),
];

impl Flows<'_> {
    fn count(&self, old: TcpState, new: TcpState) -> u64 {
        let found = self.report.transitions.iter().find(|cell| (cell.old, cell.new) == (old, new));
        found.map_or(0, |cell| cell.count)
    }

    fn rate(&self, old: TcpState, new: TcpState) -> String {
        if self.seconds > 0.0 {
            per_second(self.count(old, new) as f64 / self.seconds)
        } else {
            UNKNOWN.to_owned()
        }
    }

    /// Of an arrow.
    fn tone(&self, old: TcpState, new: TcpState) -> Tone {
        match (self.count(old, new), core::classify(old, new)) {
            (0, _) => Tone::Dim,
            (_, Kind::Normal) => Tone::Flow,
            (_, Kind::Rare) => Tone::Info,
            (_, Kind::Anomalous) => Tone::Critical,
        }
    }

    /// Sockets, requests or time-wait sockets that are there now.
    fn live(&self, state: TcpState) -> Option<u64> {
        match state {
            NewSynReceived => self.report.half_open.live,
            TimeWait => self.report.time_wait.live,
            state => self.report.states.get(&state).and_then(|summary| summary.live),
        }
    }

    /// Of a box: what is found about it, or whether anything is there.
    fn box_tone(&self, state: TcpState) -> Tone {
        let worst = self.report.findings.iter().flatten().filter(|finding| about(finding.id, state));
        let lingers = state == CloseWait && self.report.close_wait.lingering > 0;
        let least = lingers.then_some(Severity::Warning);
        let there = self.live(state).is_some_and(|live| live > 0);
        match worst.map(|finding| finding.severity).max().max(least) {
            Some(severity) if there || state == Listen => palette::severity(severity),
            _ if there => Tone::Flow,
            _ => Tone::Dim,
        }
    }

    /// Time spent in it.
    fn time_in(&self, state: TcpState) -> Option<(Option<u64>, Option<u64>)> {
        let summary = match state {
            NewSynReceived => &self.report.half_open.completed,
            state => &self.report.states.get(&state)?.duration,
        };
        (summary.count > 0).then_some((summary.p50_ns, summary.p99_ns))
    }

    /// Transitions that are not drawn.
    fn others(&self) -> Line {
        let shown = |old, new| DRAWN.contains(&(old, new)) || (old, new) == (CloseWait, Close);
        let cells =
            self.report.transitions.iter().filter(|cell| cell.count > 0 && !shown(cell.old, cell.new));
        let mut line = Line::new();
        for cell in cells {
            let tone = self.tone(cell.old, cell.new);
            let start = if line.is_empty() { " also " } else { ", " };
            line.push(piece(start, Tone::Dim));
            line.push(piece(format!("{} → {} {}", cell.old, cell.new, self.rate(cell.old, cell.new)), tone));
        }
        line
    }
}

/// Whether a finding shows in this state.
fn about(id: &str, state: TcpState) -> bool {
    match state {
        CloseWait => id == "close_wait_leak",
        NewSynReceived => matches!(id, "syn_flood" | "accept_queue_overflow" | "handshake_loss"),
        TimeWait => id == "port_exhaustion",
        SynSent => id == "connect_failures",
        FinWait1 | FinWait2 | LastAck | Closing => id == "stuck_closing",
        Listen => matches!(id, "listener_gone" | "listener_restarted" | "listener_backlog"),
        _ => false,
    }
}

/// Where everything stands.
struct Layout {
    /// Left edges of the columns.
    columns: [u16; 3],
    /// Upper edges of the rows.
    rows: [u16; 7],
    width: u16,
    height: u16,
    area: Rect,
}

impl Layout {
    /// `None` if there is no room.
    fn of(area: Rect) -> Option<Self> {
        let gaps: u16 = GAPS.iter().sum();
        let height = [5, 4, 3, 1].into_iter().find(|height| 7 * height + gaps <= area.height)?;
        if area.width < 78 {
            return None;
        }
        let spare = (area.height - 7 * height - gaps) / 6;
        let width = (area.width * 24 / 100).clamp(19, 44);
        let ends = (area.width / 8).max(11);
        let columns =
            [1, (area.width - width) / 2 - area.width * 3 / 80, area.width.saturating_sub(width + ends)];
        let mut rows = [0; 7];
        let mut y = 0;
        for (row, gap) in rows.iter_mut().zip(GAPS.iter().chain(&[0])) {
            *row = y;
            y += height + gap + spare.min(2);
        }
        Some(Self { columns, rows, width, height, area })
    }

    fn left(&self, column: usize) -> u16 {
        self.columns.get(column).copied().unwrap_or(0)
    }

    /// The column beyond a box.
    fn right(&self, column: usize) -> u16 {
        self.left(column) + self.width
    }

    /// The middle of a column.
    fn mid(&self, column: usize) -> u16 {
        self.left(column) + self.width / 2
    }

    fn top(&self, row: usize) -> u16 {
        self.rows.get(row).copied().unwrap_or(0)
    }

    /// The row below a box.
    fn below(&self, row: usize) -> u16 {
        self.top(row) + self.height
    }

    /// The middle of a row.
    fn middle(&self, row: usize) -> u16 {
        self.top(row) + self.height / 2
    }

    fn draw(&self, pen: &mut Pen<'_>, area: Rect, flows: &Flows<'_>) {
        self.wires(flows).draw(pen, area);
        for node in core::NODES {
            self.node(pen, flows, node.state, (node.column.into(), node.row.into()));
        }
        self.node(pen, flows, Close, (2, 6));
        for ((x, y), text, tone) in self.labels(flows) {
            if y < area.height {
                pen.text(area.x + x, area.y + y, area.width.saturating_sub(x), &text, tone);
            }
        }
    }

    /// The arrows.
    fn wires(&self, flows: &Flows<'_>) -> Wires {
        let mut wires = Wires::default();
        let [left, mid, right] = [self.mid(0), self.mid(1), self.mid(2)];
        let before = |row: usize| self.top(row).saturating_sub(1);
        let tone = |old, new| flows.tone(old, new);
        let mut down = |points: &[Point], tone| wires.path(points, tone, Some("▼"));
        down(
            &[(self.left(1) - 1, self.middle(0)), (left, self.middle(0)), (left, before(1))],
            tone(Close, Listen),
        );
        down(
            &[(self.right(1), self.middle(0)), (right, self.middle(0)), (right, before(1))],
            tone(Close, SynSent),
        );
        down(&[(left, self.below(1)), (left, before(2))], tone(Listen, SynReceived));
        down(&[(mid, self.below(2)), (mid, before(3))], tone(SynReceived, Established));
        let bend = before(3) - 1;
        let joins = mid + 6;
        down(
            &[(right, self.below(1)), (right, bend), (joins, bend), (joins, before(3))],
            tone(SynSent, Established),
        );
        down(
            &[(self.left(1) - 1, self.middle(3)), (left, self.middle(3)), (left, before(4))],
            tone(Established, FinWait1),
        );
        let bend = self.below(3);
        down(
            &[(mid, bend - 1), (mid, bend), (right, bend), (right, before(4))],
            tone(Established, CloseWait),
        );
        down(&[(left, self.below(4)), (left, before(5))], tone(FinWait1, FinWait2));
        let (bend, leaves) = (self.below(4), left + 5);
        down(&[(leaves, bend - 1), (leaves, bend), (mid, bend), (mid, before(5))], tone(FinWait1, Closing));
        down(&[(right, self.below(4)), (right, before(5))], tone(CloseWait, LastAck));
        down(&[(left, self.below(5)), (left, before(6))], tone(FinWait2, Close));
        down(&[(right, self.below(5)), (right, before(6))], tone(LastAck, Close));
        let bend = self.below(5);
        wires.path(&[(mid, bend - 1), (mid, bend), (left, bend)], tone(Closing, Close), None);
        let across = |row: usize, from: usize, to: usize| {
            [(self.right(from), self.middle(row)), (self.left(to) - 1, self.middle(row))]
        };
        wires.path(&across(2, 0, 1), tone(Listen, SynReceived), Some("►"));
        let waits = if flows.live(TimeWait).is_some_and(|live| live > 0) { Tone::Flow } else { Tone::Dim };
        wires.path(&across(6, 0, 2), waits, Some("►"));
        if flows.count(SynSent, SynReceived) > 0 {
            let row = self.middle(2);
            wires.path(&[(right, row), (self.right(1), row)], tone(SynSent, SynReceived), Some("◄"));
        }
        wires
    }

    /// What stands beside the arrows, and the ends that are no proper close.
    fn labels(&self, flows: &Flows<'_>) -> Vec<(Point, String, Tone)> {
        let beside = |column: usize, row: usize| (self.mid(column) + 2, self.top(row).saturating_sub(1));
        let flow = |what: &str, old, new| (format!("{what} {}", flows.rate(old, new)), flows.tone(old, new));
        let mut labels: Vec<(Point, (String, Tone))> = vec![
            (beside(0, 1), flow("listen()", Close, Listen)),
            (beside(2, 1), flow("connect()", Close, SynSent)),
            (beside(0, 2), ("SYN".to_owned(), Tone::Dim)),
            ((self.right(0) + 1, self.below(2)), flow("ACK", Listen, SynReceived)),
            ((self.mid(2) + 2, self.middle(2)), flow("SYN-ACK", SynSent, Established)),
            (beside(0, 4), flow("close()", Established, FinWait1)),
            (beside(2, 4), flow("peer's FIN", Established, CloseWait)),
            (beside(0, 5), flow("ACK", FinWait1, FinWait2)),
            (beside(1, 5), flow("both FIN", FinWait1, Closing)),
            (beside(2, 5), flow("close()", CloseWait, LastAck)),
            (beside(0, 6), flow("FIN", FinWait2, Close)),
            (beside(2, 6), flow("ACK", LastAck, Close)),
        ];
        let wait = (self.right(0) + self.left(2)) / 2 - 3;
        labels.push(((wait, self.middle(6)), (" 60 s ".to_owned(), Tone::Dim)));
        let ends =
            [(2, 1, SynSent), (1, 2, SynReceived), (1, 3, Established), (0, 4, FinWait1), (2, 4, CloseWait)];
        for (column, row, old) in ends {
            let place = (self.right(column), self.middle(row));
            let room = match (column, row) {
                (1, 2) => self.mid(2).saturating_sub(place.0 + 1),
                (0, _) => self.left(2).saturating_sub(place.0 + 1),
                _ => self.area.width.saturating_sub(place.0),
            };
            labels.push((place, Self::end(flows, old, room.into())));
        }
        labels.into_iter().map(|(place, (text, tone))| (place, text, tone)).collect()
    }

    /// `─✖ 35/s cut off: reset, timeout or abort`, as much as fits.
    fn end(flows: &Flows<'_>, old: TcpState, room: usize) -> (String, Tone) {
        let tone = flows.tone(old, Close);
        let mark = format!("─✖ {}", flows.rate(old, Close));
        let label = core::edge(old, Close).map_or("", |edge| edge.label);
        let whole = format!("{mark} {label}");
        let fits = |text: &str| text.chars().count() <= room;
        let text = if tone != Tone::Dim && fits(&whole) { whole } else { mark };
        (text, tone)
    }

    /// A box.
    fn node(&self, pen: &mut Pen<'_>, flows: &Flows<'_>, state: TcpState, (column, row): (usize, usize)) {
        let area = Rect {
            x: self.area.x + self.left(column),
            y: self.area.y + self.top(row),
            width: self.width,
            height: self.height,
        };
        let tone = flows.box_tone(state);
        let name = if state == NewSynReceived { "half-open".to_owned() } else { state.to_string() };
        let number = match (state, flows.live(state)) {
            (Close, _) => String::new(),
            (_, None) => UNKNOWN.to_owned(),
            (_, Some(live)) if self.width >= 24 => count(live),
            (_, Some(live)) => short(live as f64),
        };
        let room = usize::from(self.width) - 2;
        let text = format!("{name} {number:>width$}", width = room.saturating_sub(name.chars().count() + 1));
        let style = pen.palette.filled(tone);
        if self.height == 1 {
            pen.styled(area.x, area.y, area.width, &format!("{}{text} ", palette::sign(tone)), style);
            return;
        }
        frame(pen, area, tone);
        let line = Rect { x: area.x + 1, y: area.y + 1, width: area.width - 2, height: 1 };
        pen.styled(line.x, line.y, line.width, &text, style);
        pen.text(area.x + 2, area.y, 3, &format!(" {} ", palette::sign(tone)).replace("   ", "───"), tone);
        if self.height > 3
            && let Some((p50, p99)) = flows.time_in(state)
        {
            let text = format!("p50 {}  p99 {}", time(p50), time(p99));
            pen.text(line.x, line.y + 1, line.width, &super::super::words::cut(&text, room), Tone::Dim);
        }
        if self.height > 4
            && let Some(summary) = flows.report.states.get(&state)
            && state != Close
        {
            let rate = summary.entered as f64 / flows.seconds;
            let rate = if flows.seconds > 0.0 { per_second(rate) } else { UNKNOWN.to_owned() };
            pen.text(area.x + 1, area.y + 3, area.width - 2, &format!("entered {rate}"), Tone::Dim);
        }
    }
}

/// Its border.
fn frame(pen: &mut Pen<'_>, area: Rect, tone: Tone) {
    let rule = "─".repeat(usize::from(area.width - 2));
    pen.text(area.x, area.y, area.width, &format!("┌{rule}┐"), tone);
    for y in area.y + 1..area.bottom() - 1 {
        pen.text(
            area.x,
            y,
            area.width,
            &format!("│{:width$}│", "", width = usize::from(area.width - 2)),
            tone,
        );
    }
    pen.text(area.x, area.bottom() - 1, area.width, &format!("└{rule}┘"), tone);
}

/// Where there is no room for a drawing.
fn table(pen: &mut Pen<'_>, area: Rect, flows: &Flows<'_>) {
    let row = |node: &core::Node| {
        let tone = flows.box_tone(node.state);
        let ends = flows.count(node.state, Close);
        let anomalous = core::classify(node.state, Close) == Kind::Anomalous && ends > 0;
        let cut = if anomalous { format!("✖ {}", flows.rate(node.state, Close)) } else { String::new() };
        vec![
            piece(node.state.to_string(), tone),
            piece(flows.live(node.state).map_or_else(|| UNKNOWN.to_owned(), count), tone),
            piece(cut, Tone::Critical),
        ]
    };
    let rows = core::NODES.iter().filter(|node| node.state != Close).map(row).collect();
    let columns = vec![left("STATE"), right("NOW"), left("CUT OFF")];
    Table { columns, rows, selected: None }.draw(pen, area);
}
