//! What is shown, and how it changes: with a report, with transitions, with time, and with keys (`keys.rs`). Nothing here
//! draws, reads a clock or knows where reports come from.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use ratatui::layout::Rect;
use tcp_trace_core::report::{Listener, ProcessSockets, StateChange};

use super::{
    filter,
    frame::{Frame, Handshakes, Ring, Sample},
    palette::Palette,
    recorded::Recorded,
    rows::{self, Row, Sort, Who},
};

/// Reports whose numbers are kept: ten minutes at one a second.
const PAST: usize = 600;
/// Reports whose handshakes are kept, and summed up: a minute.
const HANDSHAKES: usize = 60;
/// Transitions kept.
pub const STREAM: usize = 10_000;

/// A view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Screen {
    /// Findings, and who hurts.
    #[default]
    Overview,
    /// The state diagram.
    States,
    /// One process.
    Process,
    /// Listeners and their requests.
    HalfOpen,
    /// Transitions as they come.
    Stream,
}

/// What lies over a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// Keys.
    Help,
    /// Every finding in full.
    Findings,
    /// What this run lacks, lost, or only counted.
    Missing,
}

impl Screen {
    /// Every view, in the order of its key.
    pub const ALL: [Self; 5] = [Self::Overview, Self::States, Self::Process, Self::HalfOpen, Self::Stream];

    /// On its tab.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::States => "states",
            Self::Process => "process",
            Self::HalfOpen => "half-open",
            Self::Stream => "stream",
        }
    }

    fn index(self) -> usize {
        Self::ALL.iter().position(|screen| *screen == self).unwrap_or(0)
    }

    /// The next view, or the one before.
    #[must_use]
    pub fn step(self, by: isize) -> Self {
        let next = (self.index() as isize + by).rem_euclid(Self::ALL.len() as isize);
        Self::ALL.get(next as usize).copied().unwrap_or_default()
    }
}

/// The reports of a live run.
#[derive(Clone, Debug)]
pub struct Past {
    /// The last one.
    pub latest: Option<Arc<Frame>>,
    samples: Ring<Sample>,
    handshakes: Ring<Handshakes>,
    /// Transitions lost since the start.
    lost: u64,
}

impl Default for Past {
    fn default() -> Self {
        Self { latest: None, samples: Ring::new(PAST), handshakes: Ring::new(HANDSHAKES), lost: 0 }
    }
}

/// Where reports come from.
#[derive(Clone, Debug)]
pub enum Timeline {
    /// The kernel, now; `frozen` is what is looked at meanwhile.
    Live {
        /// What there is.
        now: Box<Past>,
        /// What is shown instead.
        frozen: Option<Box<Past>>,
    },
    /// A recording.
    Recorded(Recorded),
}

/// A line that is being typed.
#[derive(Clone, Debug, Default)]
pub struct Prompt {
    /// So far.
    pub text: String,
    /// What is wrong with it.
    pub error: Option<String>,
}

/// What can be clicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Shows a view.
    Show(Screen),
    /// Selects a row, or opens the one that is selected.
    Select(usize),
    /// Sorts.
    Sort(Sort),
    /// Opens or closes what lies over the view.
    Overlay(Overlay),
    /// Goes to this share of a recording, in thousandths.
    Seek(u16),
}

/// What is to be done outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// End.
    Quit,
    /// Stop, as Ctrl-Z does.
    Suspend,
    /// Draw everything anew.
    Redraw,
}

/// Where something can be clicked, and how much there is to scroll: what drawing finds out.
#[derive(Clone, Debug, Default)]
pub struct Drawn {
    /// Areas, the uppermost last.
    pub hits: Vec<(Rect, Action)>,
    /// Rows that can be selected, or lines that can be scrolled through.
    pub rows: usize,
    /// Rows that are seen at once.
    pub page: usize,
}

/// Everything that decides what is on the screen.
#[derive(Clone, Debug)]
pub struct Model {
    /// Colours.
    pub palette: Palette,
    /// Which view.
    pub screen: Screen,
    /// What lies over it.
    pub overlay: Option<Overlay>,
    /// Reports.
    pub timeline: Timeline,
    /// Order of rows.
    pub sort: Sort,
    /// The other way round.
    pub reverse: bool,
    /// Containers instead of processes.
    pub by_container: bool,
    /// Which process the process view shows; `None`: the one that hurts most.
    pub focus: Option<Who>,
    /// What is shown of what there is.
    pub filter: filter::View,
    /// The sockets of the process that is looked at, of a live run.
    pub sockets: Option<(Who, ProcessSockets)>,
    /// What is being typed.
    pub prompt: Option<Prompt>,
    /// The last transitions that the filter wants.
    pub stream: Ring<StateChange>,
    /// Transitions that came faster than they are kept, since the filter was set.
    pub skipped: u64,
    /// Transitions that the stream view shows while it stands still.
    pub held: Option<Vec<StateChange>>,
    /// The last drawing.
    pub drawn: Drawn,
    /// What is to be done outside.
    pub request: Option<Request>,
    selected: [usize; 5],
    /// The first line of a page or overlay that is shown.
    pub scroll: usize,
    /// Where the pointer of an overlay stands.
    pub overlay_selected: usize,
}

impl Model {
    /// Of the live kernel.
    #[must_use]
    pub fn live(palette: Palette) -> Self {
        Self::new(palette, Timeline::Live { now: Box::default(), frozen: None })
    }

    /// Of a recording.
    #[must_use]
    pub fn recorded(palette: Palette, recorded: Recorded) -> Self {
        Self::new(palette, Timeline::Recorded(recorded))
    }

    fn new(palette: Palette, timeline: Timeline) -> Self {
        Self {
            palette,
            screen: Screen::default(),
            overlay: None,
            timeline,
            sort: Sort::default(),
            reverse: false,
            by_container: false,
            focus: None,
            filter: filter::View::default(),
            sockets: None,
            prompt: None,
            stream: Ring::new(STREAM),
            skipped: 0,
            held: None,
            drawn: Drawn::default(),
            request: None,
            selected: [0; 5],
            scroll: 0,
            overlay_selected: 0,
        }
    }

    /// A report has come.
    pub fn take(&mut self, frame: Arc<Frame>) {
        match &mut self.timeline {
            Timeline::Live { now, .. } => {
                now.lost = now.lost.saturating_add(frame.sample.lost);
                now.samples.push(frame.sample.clone());
                now.handshakes.push(frame.handshakes.clone());
                now.latest = Some(frame);
            }
            Timeline::Recorded(recorded) => recorded.take(frame),
        }
    }

    /// Transitions have come; of these `skipped` more there was no room for.
    pub fn take_changes(&mut self, changes: Vec<StateChange>, skipped: u64) {
        self.skipped = self.skipped.saturating_add(skipped);
        for change in changes {
            if self.filter.change(&change) {
                self.stream.push(change);
            }
        }
    }

    /// Time passes. Returns whether anything has changed by that.
    pub fn tick(&mut self, passed: Duration) -> bool {
        match &mut self.timeline {
            Timeline::Live { .. } => false,
            Timeline::Recorded(recorded) => recorded.tick(passed),
        }
    }

    /// What is shown now; `None` before the first report.
    #[must_use]
    pub fn frame(&self) -> Option<&Arc<Frame>> {
        match &self.timeline {
            Timeline::Live { now, frozen } => frozen.as_ref().unwrap_or(now).latest.as_ref(),
            Timeline::Recorded(recorded) => recorded.frame(),
        }
    }

    /// The numbers of the last reports, up to what is shown, oldest first; at most so many.
    #[must_use]
    pub fn samples(&self, most: usize) -> Vec<&Sample> {
        let all: Vec<&Sample> = match &self.timeline {
            Timeline::Live { now, frozen } => {
                frozen.as_ref().unwrap_or(now).samples.items().iter().rev().take(most).collect()
            }
            Timeline::Recorded(recorded) => {
                recorded.past().iter().rev().take(most).map(|frame| &frame.sample).collect()
            }
        };
        all.into_iter().rev().collect()
    }

    /// Transitions lost since the start, up to what is shown.
    #[must_use]
    pub fn lost(&self) -> u64 {
        match &self.timeline {
            Timeline::Live { now, frozen } => frozen.as_ref().unwrap_or(now).lost,
            Timeline::Recorded(recorded) => recorded.past().iter().map(|frame| frame.sample.lost).sum(),
        }
    }

    /// The handshakes of the last minute or so, up to what is shown.
    #[must_use]
    pub fn handshakes(&self) -> Vec<&Handshakes> {
        match &self.timeline {
            Timeline::Live { now, frozen } => {
                frozen.as_ref().unwrap_or(now).handshakes.items().iter().collect()
            }
            Timeline::Recorded(recorded) => {
                recorded.past().iter().rev().take(HANDSHAKES).map(|frame| &frame.handshakes).collect()
            }
        }
    }

    /// Whether the screen stands still.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        match &self.timeline {
            Timeline::Live { frozen, .. } => frozen.is_some(),
            Timeline::Recorded(recorded) => !recorded.playing,
        }
    }

    /// Stops what is shown, or lets it go on.
    pub fn freeze(&mut self) {
        match &mut self.timeline {
            Timeline::Live { now, frozen } => {
                *frozen = if frozen.is_some() { None } else { Some(now.clone()) };
                self.held = frozen.is_some().then(|| self.stream.items().iter().cloned().collect());
            }
            Timeline::Recorded(recorded) => recorded.play_or_pause(),
        }
    }

    /// The transitions that are shown, oldest first.
    pub fn changes(&self) -> Box<dyn DoubleEndedIterator<Item = &StateChange> + '_> {
        match (&self.timeline, &self.held) {
            (Timeline::Recorded(recorded), _) => {
                let changes = recorded.frame().map_or(&[][..], |frame| &frame.changes);
                Box::new(changes.iter().filter(|change| self.filter.change(change)))
            }
            (Timeline::Live { .. }, Some(held)) => {
                Box::new(held.iter().filter(|change| self.filter.change(change)))
            }
            (Timeline::Live { .. }, None) => Box::new(self.stream.items().iter()),
        }
    }

    /// Shows only what this wants.
    pub fn set_filter(&mut self, view: filter::View) {
        self.filter = view;
        self.skipped = 0;
        let kept: Vec<_> =
            self.stream.items().iter().filter(|change| self.filter.change(change)).cloned().collect();
        self.stream.clear();
        kept.into_iter().for_each(|change| self.stream.push(change));
    }

    /// The rows of the overview in their order.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let Some(frame) = self.frame() else { return Vec::new() };
        let mut rows = match self.by_container {
            true => rows::containers(&frame.report).unwrap_or_default(),
            false => rows::processes(&frame.report),
        };
        rows.retain(|row| self.filter.row(row));
        rows::sort(&mut rows, self.sort, self.reverse);
        rows
    }

    /// The listeners of the half-open view in their order: what waits longest first.
    #[must_use]
    pub fn listeners(&self) -> Vec<&Listener> {
        let all = self.frame().map(|frame| frame.report.half_open.listeners.as_slice()).unwrap_or_default();
        let mut listeners: Vec<_> = all.iter().filter(|listener| self.filter.listener(listener)).collect();
        listeners.sort_by_key(|listener| {
            let full =
                listener.accept_queue.is_some_and(|queue| queue.length > 0 && queue.length >= queue.limit);
            Reverse((
                listener.overdue > Some(0),
                full,
                listener.overdue,
                listener.live,
                listener.drops,
                listener.completed.count,
            ))
        });
        if self.reverse {
            listeners.reverse();
        }
        listeners
    }

    /// Whom the process view shows.
    #[must_use]
    pub fn focused(&self) -> Option<Who> {
        self.focus.clone().or_else(|| {
            let mut rows = rows::processes(&self.frame()?.report);
            rows::sort(&mut rows, Sort::Trouble, false);
            rows.into_iter().find(|row| row.who != Who::Unknown).map(|row| row.who)
        })
    }

    /// The selected row of the current view.
    #[must_use]
    pub fn selected(&self) -> usize {
        self.selected.get(self.screen.index()).copied().unwrap_or(0)
    }

    /// Selects a row of the current view.
    pub fn select(&mut self, row: usize) {
        let last = self.drawn.rows.saturating_sub(1);
        if let Some(selected) = self.selected.get_mut(self.screen.index()) {
            *selected = row.min(last);
        }
    }

    /// Shows a view.
    pub fn show(&mut self, screen: Screen) {
        if self.screen != screen {
            self.scroll = 0;
        }
        self.screen = screen;
        self.overlay = None;
    }

    /// Notes what was drawn.
    pub fn drew(&mut self, drawn: Drawn) {
        self.drawn = drawn;
        self.scroll = self.scroll.min(self.drawn.rows.saturating_sub(self.drawn.page));
        if self.overlay.is_none() && self.screen != Screen::Process {
            self.select(self.selected());
        }
    }
}
