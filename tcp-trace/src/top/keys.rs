//! Keys and the mouse.

use ratatui::{
    crossterm::event::{
        Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
    },
    layout::Position,
};

use super::{
    filter,
    model::{Action, Model, Overlay, Prompt, Request, Screen, Timeline},
    rows::{self, Sort, Who},
};

/// Every key, by what it is for; the help shows these.
pub(super) const KEYS: &[(&str, &[(&str, &str)])] = &[
    (
        "Views",
        &[
            ("1 … 5, Tab", "overview, states, process, half-open, stream"),
            ("f", "findings in full"),
            ("d", "what this run lacks, lost or only counted"),
            ("?", "this help"),
        ],
    ),
    (
        "Tables",
        &[
            ("↑ ↓ j k", "select; the mouse wheel too"),
            ("Enter", "open what is selected: a process, a container's processes"),
            ("Esc", "back; no filter any more"),
            ("s S r", "sort by the next column, the one before, the other way round"),
            ("c", "containers, or processes"),
            ("/", "filter, in the words of the command line, or part of a name"),
        ],
    ),
    (
        "Time",
        &[
            ("Space", "freeze; of a recording: play, pause"),
            ("← →", "recording: 10 s back, on"),
            ("PgUp PgDn", "recording: a minute back, on; live: a page up, down"),
            ("Home End", "recording: its beginning, its end"),
            ("+ -", "recording: faster, slower (1× to 100×)"),
        ],
    ),
    (
        "Program",
        &[("q Ctrl-C", "end"), ("Ctrl-Z", "suspend; `fg` goes on"), ("Ctrl-L", "draw everything anew")],
    ),
];

impl Model {
    /// Something was typed, clicked, or the window has another size. Returns whether to draw.
    pub fn event(&mut self, event: &Event) -> bool {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.key(*key),
            Event::Mouse(mouse) => return self.mouse(*mouse),
            Event::Resize(..) => {}
            _ => return false,
        }
        true
    }

    fn key(&mut self, key: KeyEvent) {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            match key.code {
                KeyCode::Char('c') => self.request = Some(Request::Quit),
                KeyCode::Char('z') => self.request = Some(Request::Suspend),
                KeyCode::Char('l') => self.request = Some(Request::Redraw),
                _ => {}
            }
        } else if self.prompt.is_some() {
            self.typed(key.code);
        } else if self.overlay.is_some() {
            self.overlay_key(key.code);
        } else {
            self.view_key(key.code);
        }
    }

    fn typed(&mut self, code: KeyCode) {
        let Some(prompt) = &mut self.prompt else { return };
        match code {
            KeyCode::Enter => match filter::View::parse(&prompt.text) {
                Ok(view) => {
                    self.set_filter(view);
                    self.prompt = None;
                }
                Err(error) => prompt.error = Some(error),
            },
            KeyCode::Esc => self.prompt = None,
            KeyCode::Backspace => {
                prompt.text.pop();
                prompt.error = None;
            }
            KeyCode::Char(letter) if !letter.is_control() && prompt.text.len() < 200 => {
                prompt.text.push(letter);
                prompt.error = None;
            }
            _ => {}
        }
    }

    fn overlay_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Up | KeyCode::Char('k') => self.overlay_move(-1),
            KeyCode::Down | KeyCode::Char('j') => self.overlay_move(1),
            KeyCode::PageUp => self.overlay_move(-(self.drawn.page as isize)),
            KeyCode::PageDown => self.overlay_move(self.drawn.page as isize),
            KeyCode::Enter if self.overlay == Some(Overlay::Findings) => self.open_finding(),
            KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q') => self.overlay = None,
            KeyCode::Char(letter @ ('1'..='5' | '?' | 'h' | 'f' | 'd' | ' ')) => self.letter(letter),
            KeyCode::Left | KeyCode::Right | KeyCode::Home | KeyCode::End => self.view_key(code),
            _ => {}
        }
    }

    fn overlay_move(&mut self, by: isize) {
        if self.overlay == Some(Overlay::Findings) {
            let count = self.frame().map_or(0, |frame| frame.report.findings.iter().flatten().count());
            let next = self.overlay_selected.saturating_add_signed(by.signum());
            self.overlay_selected = next.min(count.saturating_sub(1));
        } else {
            self.scroll_by(by);
        }
    }

    fn view_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(letter) => self.letter(letter),
            KeyCode::Tab => self.show(self.screen.step(1)),
            KeyCode::BackTab => self.show(self.screen.step(-1)),
            KeyCode::Up => self.moves(-1),
            KeyCode::Down => self.moves(1),
            KeyCode::Enter => self.open(),
            KeyCode::Esc => self.back(),
            KeyCode::Left => self.seek(-10),
            KeyCode::Right => self.seek(10),
            KeyCode::PageUp | KeyCode::PageDown => {
                let sign = if code == KeyCode::PageUp { -1 } else { 1 };
                match &mut self.timeline {
                    Timeline::Recorded(recorded) => recorded.seek(60 * sign as i64),
                    Timeline::Live { .. } => self.moves(sign * self.drawn.page.max(1) as isize),
                }
            }
            KeyCode::Home | KeyCode::End => {
                let end = code == KeyCode::End;
                match &mut self.timeline {
                    Timeline::Recorded(recorded) => recorded.seek_to(if end { 1000 } else { 0 }),
                    Timeline::Live { .. } => self.moves(if end { isize::MAX } else { isize::MIN }),
                }
            }
            _ => {}
        }
    }

    fn letter(&mut self, letter: char) {
        match letter {
            '1'..='5' => {
                let at = (letter as usize).saturating_sub('1' as usize);
                self.show(Screen::ALL.get(at).copied().unwrap_or_default());
            }
            'q' => self.request = Some(Request::Quit),
            '?' | 'h' => self.overlay(Overlay::Help),
            'f' => self.overlay(Overlay::Findings),
            'd' => self.overlay(Overlay::Missing),
            'j' => self.moves(1),
            'k' => self.moves(-1),
            's' => self.sort = self.sort.step(1),
            'S' => self.sort = self.sort.step(-1),
            'r' => self.reverse = !self.reverse,
            'c' if self.screen == Screen::Overview => self.by_container = !self.by_container,
            '/' => self.prompt = Some(Prompt { text: self.filter.text.clone(), error: None }),
            ' ' | 'p' => self.freeze(),
            '+' | '=' | '-' => {
                if let Timeline::Recorded(recorded) = &mut self.timeline {
                    recorded.change_speed(if letter == '-' { -1 } else { 1 });
                }
            }
            _ => {}
        }
    }

    fn overlay(&mut self, overlay: Overlay) {
        self.overlay = if self.overlay == Some(overlay) { None } else { Some(overlay) };
        (self.scroll, self.overlay_selected) = (0, 0);
    }

    fn moves(&mut self, by: isize) {
        match self.screen {
            Screen::Process => self.scroll_by(by),
            // The newest are at the bottom, and scrolled away from.
            Screen::Stream => self.scroll_by(by.saturating_neg()),
            _ => self.select(self.selected().saturating_add_signed(by)),
        }
    }

    fn scroll_by(&mut self, by: isize) {
        let last = self.drawn.rows.saturating_sub(self.drawn.page);
        self.scroll = self.scroll.saturating_add_signed(by).min(last);
    }

    fn seek(&mut self, seconds: i64) {
        if let Timeline::Recorded(recorded) = &mut self.timeline {
            recorded.seek(seconds);
        }
    }

    fn open(&mut self) {
        match self.screen {
            Screen::Overview => {
                let Some(row) = self.rows().into_iter().nth(self.selected()) else { return };
                match row.who {
                    Who::Container(_) => {
                        let words = format!("--container {}", row.name);
                        if let Ok(view) = filter::View::parse(&words) {
                            self.set_filter(view);
                            self.by_container = false;
                        }
                    }
                    Who::Host => self.by_container = false,
                    who => self.open_process(who),
                }
            }
            Screen::HalfOpen => {
                let who = self.listeners().get(self.selected()).map(|row| Who::of(row.process.as_ref()));
                if let Some(who) = who {
                    self.open_process(who);
                }
            }
            Screen::States | Screen::Process | Screen::Stream => {}
        }
    }

    fn open_process(&mut self, who: Who) {
        self.focus = Some(who);
        self.scroll = 0;
        self.show(Screen::Process);
    }

    fn open_finding(&mut self) {
        let Some(frame) = self.frame() else { return };
        let finding = frame.report.findings.iter().flatten().nth(self.overlay_selected);
        let who =
            finding.and_then(|finding| rows::subject(&finding.subject)).map(|process| Who::of(Some(process)));
        self.overlay = None;
        if let Some(who) = who {
            self.open_process(who);
        }
    }

    fn back(&mut self) {
        if self.screen != Screen::Overview {
            self.show(Screen::Overview);
        } else if !self.filter.is_empty() {
            self.set_filter(filter::View::default());
        }
    }

    fn mouse(&mut self, mouse: MouseEvent) -> bool {
        match mouse.kind {
            MouseEventKind::ScrollUp | MouseEventKind::ScrollDown => {
                let by = if mouse.kind == MouseEventKind::ScrollUp { -3 } else { 3 };
                if self.overlay.is_some() {
                    self.overlay_move(by);
                } else {
                    self.moves(by);
                }
                true
            }
            MouseEventKind::Down(MouseButton::Left) => {
                let at = Position { x: mouse.column, y: mouse.row };
                let hit = self
                    .drawn
                    .hits
                    .iter()
                    .rev()
                    .find(|(area, _)| area.contains(at))
                    .map(|(_, action)| *action);
                hit.map(|action| self.act(action)).is_some()
            }
            _ => false,
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Show(screen) => self.show(screen),
            Action::Select(row) if row == self.selected() => self.open(),
            Action::Select(row) => self.select(row),
            Action::Sort(by) if self.sort == by && by != Sort::Trouble => self.reverse = !self.reverse,
            Action::Sort(by) => (self.sort, self.reverse) = (by, false),
            Action::Overlay(overlay) => self.overlay(overlay),
            Action::Seek(thousandths) => {
                if let Timeline::Recorded(recorded) = &mut self.timeline {
                    recorded.seek_to(thousandths);
                }
            }
        }
    }
}
