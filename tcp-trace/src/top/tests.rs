//! The committed recording, on screens of three sizes, against committed texts (`BLESS=1` writes them anew); and keys.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ratatui::{
    buffer::Buffer,
    crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind},
    layout::Rect,
    style::Color,
};
use tcp_trace_core::{
    filter::FilterSpec,
    findings::{Judge, Thresholds},
    tracker::{self, Tracker},
};

use super::{
    frame::Frame,
    inbox::{self, Inbox},
    model::{Action, Model, Overlay, Request, Screen, Timeline},
    palette::{Depth, Palette},
    recorded::Recorded,
    rows::{Sort, Who},
    view::view,
};
use crate::{
    engine::{Cadence, Engine},
    source::Replay,
};

#[path = "../../tests/shared/poison.rs"]
mod poison;

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];

fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// A report of every five seconds of the committed recording, as `top --from` makes them.
fn frames() -> Vec<Arc<Frame>> {
    frames_of(&data().join("incident.tctrace"))
}

fn frames_of(recording: &Path) -> Vec<Arc<Frame>> {
    let (mut replay, session) = Replay::open(recording).unwrap();
    let settings = tracker::Settings { changes: true, ..tracker::Settings::default() };
    let cadence = Cadence::new(session.started, 5_000_000_000);
    let tracker = Tracker::new(session, &FilterSpec::default(), settings).unwrap();
    let inbox = Inbox::default();
    let outlet = inbox::Recorded::new(inbox.clone());
    let mut engine = Engine::new(tracker, Judge::new(Thresholds::default()), Some(cadence), outlet, None);
    while let Some(batch) = replay.next_batch().unwrap() {
        engine.batch(&batch).unwrap();
    }
    inbox.take().frames
}

/// As if it happened now.
fn live() -> Model {
    live_of(frames())
}

fn live_of(frames: Vec<Arc<Frame>>) -> Model {
    let mut model = Model::live(Palette { depth: Depth::Many });
    for frame in frames {
        model.take_changes(frame.changes.clone(), 0);
        model.take(frame);
    }
    model
}

fn recorded() -> Model {
    let mut recorded = Recorded::new("incident.tctrace".to_owned());
    recorded.progress = None;
    let mut model = Model::recorded(Palette { depth: Depth::Many }, recorded);
    frames().into_iter().for_each(|frame| model.take(frame));
    model
}

fn draw(model: &mut Model, (width, height): (u16, u16)) -> Buffer {
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    let drawn = view(model, &mut buffer);
    model.drew(drawn);
    buffer
}

fn text(buffer: &Buffer) -> String {
    let row = |y| (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..buffer.area.height).map(|y| row(y).trim_end().to_owned() + "\n").collect()
}

fn shown(model: &mut Model) -> String {
    text(&draw(model, SIZES[0]))
}

fn press(model: &mut Model, code: KeyCode) {
    model.event(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    draw(model, SIZES[0]);
}

fn types(model: &mut Model, text: &str) {
    text.chars().for_each(|letter| press(model, KeyCode::Char(letter)));
}

fn assert_committed(name: &str, text: &str) {
    let path = data().join("top").join(format!("{name}.txt"));
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "{} differs (BLESS=1 writes it anew); now:\n{text}", path.display());
}

#[test]
fn every_view_at_three_sizes() {
    for screen in Screen::ALL {
        for (width, height) in SIZES {
            let mut model = live();
            model.show(screen);
            let name = format!("{}-{width}x{height}", screen.name());
            assert_committed(&name, &text(&draw(&mut model, (width, height))));
        }
    }
}

#[test]
fn names_that_others_have_chosen_are_only_names() {
    let path = std::env::temp_dir().join(format!("tcp-trace-top-names-{}.tctrace", std::process::id()));
    let endless = poison::endless();
    for (what, name) in poison::HOSTILE.iter().copied().chain([("long", &*endless)]) {
        fs::write(&path, poison::poisoned(&data().join("incident.tctrace"), name)).unwrap();
        let mut model = live_of(frames_of(&path));
        let mut seen = String::new();
        for screen in Screen::ALL {
            for overlay in [None, Some(Overlay::Findings), Some(Overlay::Missing)] {
                model.show(screen);
                model.overlay = overlay;
                for size in SIZES {
                    seen += &text(&draw(&mut model, size));
                }
            }
        }
        poison::assert_harmless(what, &seen);
        assert!(seen.contains(poison::MARK), "{what}: {seen}");
    }
    fs::remove_file(&path).unwrap();
}

#[test]
fn what_lies_over_a_view() {
    for (overlay, name) in
        [(Overlay::Help, "help"), (Overlay::Findings, "findings"), (Overlay::Missing, "missing")]
    {
        let mut model = live();
        model.overlay = Some(overlay);
        assert_committed(&format!("{name}-80x24"), &shown(&mut model));
    }
}

#[test]
fn a_recording_has_a_timeline() {
    let mut model = recorded();
    press(&mut model, KeyCode::End);
    assert_committed("recording-80x24", &shown(&mut model));
}

/// The pictures of the documentation are these.
#[test]
fn the_documentation_shows_what_is_drawn() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/top.md");
    let page = fs::read_to_string(&path).unwrap();
    let mut parts = page.split("<!-- screen: ");
    let mut made = parts.next().unwrap().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(" -->\n```text\n").unwrap();
        let (_, rest) = rest.split_once("```\n").unwrap();
        let picture = fs::read_to_string(data().join("top").join(format!("{name}.txt"))).unwrap();
        made += &format!("<!-- screen: {name} -->\n```text\n{picture}```\n{rest}");
    }
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &made).unwrap();
        return;
    }
    assert!(page == made, "docs/top.md has old pictures (BLESS=1 writes them anew)");
}

#[test]
fn nothing_of_others_reaches_the_terminal_as_it_is() {
    for screen in Screen::ALL {
        let mut model = live();
        model.show(screen);
        let buffer = draw(&mut model, SIZES[2]);
        for cell in buffer.content() {
            assert!(!cell.symbol().chars().any(char::is_control), "{screen:?}: {cell:?}");
        }
    }
    let mut model = live();
    assert!(
        text(&draw(&mut model, SIZES[2])).contains("\\u{1b}"),
        "the recording's evil name is shown, escaped"
    );
}

#[test]
fn without_colours_none_is_used_and_marks_say_it() {
    for screen in Screen::ALL {
        let mut model = live();
        model.palette.depth = Depth::None;
        model.show(screen);
        let buffer = draw(&mut model, SIZES[1]);
        assert!(buffer.content().iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    }
    let mut model = live();
    assert!(shown(&mut model).contains("▲ WARNING"));
}

#[test]
fn every_size_can_be_drawn_in() {
    for width in (1..240).step_by(13) {
        for height in 1..70 {
            for screen in Screen::ALL {
                let mut model = live_cached();
                model.show(screen);
                draw(&mut model, (width, height));
            }
        }
    }
}

fn live_cached() -> Model {
    thread_local!(static MODEL: Model = live());
    MODEL.with(Clone::clone)
}

#[test]
fn before_the_first_report_nothing_is_claimed() {
    let mut model = Model::live(Palette::default());
    let text = shown(&mut model);
    assert!(text.contains("waiting for the first report") && !text.contains(" 0 "), "{text}");
}

#[test]
fn keys_change_views_and_order() {
    let mut model = live();
    draw(&mut model, SIZES[0]);
    press(&mut model, KeyCode::Char('2'));
    assert_eq!(model.screen, Screen::States);
    press(&mut model, KeyCode::Tab);
    assert_eq!(model.screen, Screen::Process);
    press(&mut model, KeyCode::Esc);
    press(&mut model, KeyCode::Char('s'));
    assert_eq!((model.screen, model.sort), (Screen::Overview, Sort::CloseWait));
    press(&mut model, KeyCode::Char('q'));
    assert_eq!(model.request, Some(Request::Quit));
    model.event(&Event::Key(KeyEvent::new(KeyCode::Char('z'), KeyModifiers::CONTROL)));
    assert_eq!(model.request, Some(Request::Suspend));
}

#[test]
fn enter_opens_the_selected_process_and_no_other() {
    let mut model = live();
    draw(&mut model, SIZES[0]);
    press(&mut model, KeyCode::Down);
    let second = model.rows()[1].who.clone();
    press(&mut model, KeyCode::Enter);
    assert_eq!((model.screen, model.focus.clone()), (Screen::Process, Some(second)));
}

#[test]
fn a_filter_is_typed_in_words_and_refused_in_words() {
    let mut model = live();
    let pid = model.rows().iter().find_map(|row| match row.who {
        Who::Process(pid, _) => Some(pid),
        _ => None,
    });
    types(&mut model, "/-p x");
    press(&mut model, KeyCode::Enter);
    assert!(shown(&mut model).contains("invalid value 'x'"));
    press(&mut model, KeyCode::Backspace);
    types(&mut model, &pid.unwrap().to_string());
    press(&mut model, KeyCode::Enter);
    assert_eq!(model.rows().len(), 1);
    assert!(shown(&mut model).contains("filter: -p "), "a filter stands in the header");
    press(&mut model, KeyCode::Esc);
    assert!(model.filter.is_empty() && model.rows().len() > 1);
}

#[test]
fn what_is_frozen_stands_still_and_says_so() {
    let all = frames();
    let mut model = Model::live(Palette::default());
    model.take(Arc::clone(&all[0]));
    press(&mut model, KeyCode::Char(' '));
    let before = model.frame().unwrap().report.window.end;
    model.take(Arc::clone(&all[1]));
    assert_eq!(model.frame().unwrap().report.window.end, before);
    assert!(shown(&mut model).contains("FROZEN"));
    press(&mut model, KeyCode::Char(' '));
    assert_ne!(model.frame().unwrap().report.window.end, before);
}

#[test]
fn a_recording_is_played_and_sought_in() {
    let mut model = recorded();
    let at = |model: &Model| match &model.timeline {
        Timeline::Recorded(recorded) => (recorded.at(), recorded.playing, recorded.frames().len()),
        Timeline::Live { .. } => panic!("not a recording"),
    };
    let (start, playing, length) = at(&model);
    assert!(start == 0 && !playing && length > 2, "{length} reports");
    press(&mut model, KeyCode::Right);
    assert!(at(&model).0 > 0);
    press(&mut model, KeyCode::Left);
    press(&mut model, KeyCode::Left);
    assert_eq!(at(&model).0, 0);
    press(&mut model, KeyCode::End);
    assert_eq!(at(&model).0, length - 1);
    press(&mut model, KeyCode::Char(' '));
    types(&mut model, "+++");
    assert_eq!(at(&model), (0, true, length), "played from its end it begins anew");
    let end = |at: usize| frames()[at].report.window.end.0;
    let step = Duration::from_nanos((end(1) - end(0)).div_ceil(10));
    assert!(!model.tick(step / 2), "ten times as fast, half of the way");
    assert!(model.tick(step * 6 / 10));
    assert_eq!(at(&model).0, 1);
    assert!(model.tick(Duration::from_secs(1_000)));
    assert_eq!(at(&model), (length - 1, false, length));
}

#[test]
fn the_mouse_selects_sorts_and_opens() {
    let mut model = live();
    draw(&mut model, SIZES[1]);
    let click = |model: &mut Model, wanted: Action| {
        let hit = model.drawn.hits.iter().find(|(_, action)| *action == wanted).map(|(area, _)| *area);
        let area = hit.unwrap_or_else(|| panic!("{wanted:?} is nowhere"));
        let kind = MouseEventKind::Down(MouseButton::Left);
        let mouse = MouseEvent { kind, column: area.x, row: area.y, modifiers: KeyModifiers::NONE };
        model.event(&Event::Mouse(mouse));
        draw(model, SIZES[1]);
    };
    click(&mut model, Action::Sort(Sort::Live));
    assert_eq!(model.sort, Sort::Live);
    click(&mut model, Action::Select(1));
    assert_eq!((model.selected(), model.screen), (1, Screen::Overview));
    click(&mut model, Action::Select(1));
    assert_eq!(model.screen, Screen::Process);
    click(&mut model, Action::Show(Screen::HalfOpen));
    assert_eq!(model.screen, Screen::HalfOpen);
}

#[test]
fn transitions_beyond_the_room_are_counted() {
    let mut model = live();
    model.show(Screen::Stream);
    model.take_changes(Vec::new(), 1_234);
    assert!(shown(&mut model).contains("1,234 came faster than they can be shown"));
}
