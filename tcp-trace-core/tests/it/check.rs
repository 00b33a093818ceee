//! Runs a scenario: `check(input, expect)`.
//!
//! Besides events (`dsl.rs`) an input has these lines:
//!
//! * `session …` (first, optional): `half_open`, `tracepoint`, `closed` (obituaries are wanted), `programs=a,b`, `filter=…` (in force when it was recorded),
//!   `replay=…` (asked for by the reader), `max_connections=`, `max_rows=`, `max_sockets=`, `after=` (ms in
//!   CLOSE_WAIT), `close_wait_leak.min_sockets=3` (a threshold of `[findings]`). A filter is `pid:1,netns:2,cgroup:3,v4,local:80,peer:443`.
//! * `lost <event>` and `filtered <event>`: it happened, but the kernel could not, or would not, pass it on.
//! * `vanished <event>`: the kernel passed it on, and it never arrived. `uncounted <event>`: the reverse.
//! * `mode <time> stream|aggregate <reason>`: another mode begins. `sum <n> <OLD>NEW> …` (`dsl.rs`): a row of transitions that
//!   the kernel has counted, `unsummed <event>` one that no row had room for, `shown <event>` one that a row has.
//! * `missed <n>`: runs that the kernel skipped.
//! * `counters <time>`: the kernel's counters of everything so far.
//! * `end <time>`: the counters and the mark of a complete stream.
//! * `use accept|read <time> ck= task=`: a task used a socket. `request retransmit|expired|dropped <time> …`: a request.
//! * `survey`, `row`, `holder`, `died`, `facts`, `surveyed`: a survey (`surveys.rs`).
//! * `stacks <until> [<cookie>/<kind>/<time>/<function>,<function> …]`: where connections were opened before `until`.
//! * `report <part> …`: a report of the window so far, of which these parts are shown (`render.rs`).

use tcp_trace_common::{
    counters::{Counters, slot},
    event::{StateChange, flags},
};
use tcp_trace_core::{
    decode::decode,
    filter::FilterSpec,
    findings::{Judge, Thresholds},
    record::{CounterReading, Record, encode_counters, kind},
    report::Report,
    session::{Attach, Host, Session},
    survey::{encode_holders, encode_requests, encode_sockets},
    time::{ClockAnchor, Timestamp},
    tracker::{Output, Settings, Tracker},
};
use zerocopy::IntoBytes;

use crate::{dsl, render, stacks, surveys};

/// Compares the rows and reports that `input` makes with `expect`, whatever the spaces.
#[track_caller]
pub(crate) fn check(input: &str, expect: &str) {
    compare(input, expect, true);
}

/// [`check`] of the obituaries alone.
#[track_caller]
pub(crate) fn check_closed(input: &str, expect: &str) {
    compare(input, expect, false);
}

/// [`check`] without the rows, which are not even made.
#[track_caller]
pub(crate) fn check_report(input: &str, expect: &str) {
    compare(input, expect, false);
}

#[track_caller]
fn compare(input: &str, expect: &str, rows: bool) {
    let actual = run(input, rows).output;
    let normal = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
    };
    assert!(normal(expect) == normal(&actual), "\n--- expected\n{expect}\n--- actual\n{actual}");
}

/// The last report that `input` asks for.
pub(crate) fn last_report(input: &str) -> Report {
    reports(input).pop().unwrap()
}

/// The reports that `input` asks for.
pub(crate) fn reports(input: &str) -> Vec<Report> {
    run(input, false).reports
}

fn run(input: &str, rows: bool) -> Run {
    let mut lines = input.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).peekable();
    let words = lines.next_if(|line| line.starts_with("session")).unwrap_or("session");
    let mut run = Run::new(words, rows);
    for line in lines {
        run.line(line);
    }
    run
}

struct Run {
    tracker: Tracker,
    judge: Judge,
    bare: bool,
    counters: Box<Counters>,
    missed: u64,
    output: String,
    reports: Vec<Report>,
    /// When the next rows of a survey have been read.
    read: Timestamp,
    /// The stacks so far.
    stacks: Vec<String>,
}

enum Fate {
    Delivered,
    Filtered,
    Lost,
    Vanished,
    Uncounted,
    Unsummed,
    Shown,
}

impl Run {
    fn new(words: &str, rows: bool) -> Self {
        let (session, replay, settings) = setup(words, rows);
        let judge = Judge::new(thresholds(words));
        let bare = session.attach == Attach::Tracepoint;
        let tracker = Tracker::new(session, &replay, settings).unwrap();
        let counters = Box::new(Counters::ZERO);
        Self {
            tracker,
            judge,
            bare,
            counters,
            missed: 0,
            output: String::new(),
            reports: Vec::new(),
            read: Timestamp(0),
            stacks: Vec::new(),
        }
    }

    fn line(&mut self, line: &str) {
        let (first, rest) = dsl::word(line);
        match first {
            "lost" => self.event(rest, &Fate::Lost),
            "vanished" => self.event(rest, &Fate::Vanished),
            "uncounted" => self.event(rest, &Fate::Uncounted),
            "filtered" => self.event(rest, &Fate::Filtered),
            "missed" => self.missed += rest.parse::<u64>().unwrap(),
            "mode" => self.json(kind::MODE, &dsl::mode(rest)),
            "sum" => {
                let row = dsl::aggregate(rest);
                self.counters.seen[slot(row.key.old, row.key.new)] += row.count;
                self.record(kind::AGGREGATES, row.as_bytes());
            }
            "unsummed" => self.event(rest, &Fate::Unsummed),
            "shown" => self.event(rest, &Fate::Shown),
            "counters" => self.counters(dsl::time(rest)),
            "end" => {
                self.counters(dsl::time(rest));
                self.record(kind::END, &dsl::time(rest).to_le_bytes());
            }
            "report" => {
                let mut report = self.tracker.report();
                self.judge.judge(&mut report);
                for part in rest.split_whitespace() {
                    self.output += &render::part(&report, part);
                }
                self.reports.push(report);
            }
            "use" => self.record(kind::EVENT, dsl::socket_use(rest).as_bytes()),
            "request" => self.record(kind::EVENT, dsl::request_change(rest).as_bytes()),
            "facts" => self.json(kind::FACTS, &surveys::facts(rest)),
            "survey" => {
                self.read = Timestamp(dsl::time(rest));
                self.json(kind::SURVEY_BEGIN, &surveys::begin(rest));
            }
            "row" => self.record(kind::SOCKETS, &encode_sockets(self.read, &[surveys::row(rest)])),
            "holder" => self.record(kind::HOLDERS, &encode_holders(&[surveys::holder(rest)])),
            "stacks" => {
                let facts = stacks::facts(&mut self.stacks, rest);
                self.json(kind::STACKS, &facts);
            }
            "died" => self.record(kind::REQUESTS, &encode_requests(&[surveys::died(rest)])),
            "read" => self.read = Timestamp(dsl::time(rest)),
            "surveyed" => self.json(kind::SURVEY_END, &surveys::end(rest)),
            _ => self.event(line, &Fate::Delivered),
        }
    }

    fn json(&mut self, kind: u16, value: &impl serde::Serialize) {
        self.record(kind, &serde_json::to_vec(value).unwrap());
    }

    fn event(&mut self, line: &str, fate: &Fate) {
        let mut event: StateChange = dsl::event(line, self.bare);
        let slot = slot(event.old, event.new);
        if !matches!(fate, Fate::Uncounted | Fate::Shown) {
            self.counters.seen[slot] += 1;
        }
        match fate {
            Fate::Filtered => self.counters.filtered[slot] += 1,
            Fate::Lost => self.counters.lost[slot] += 1,
            Fate::Unsummed => self.counters.unaggregated[slot] += 1,
            Fate::Shown => {
                event.flags |= flags::AGGREGATED;
                self.record(kind::EVENT, event.as_bytes());
            }
            Fate::Vanished => {}
            Fate::Delivered | Fate::Uncounted => self.record(kind::EVENT, event.as_bytes()),
        }
    }

    fn counters(&mut self, time: u64) {
        let counters = self.counters.clone();
        let reading = CounterReading { time: Timestamp(time), missed: self.missed, counters };
        self.record(kind::COUNTERS, &encode_counters(&reading));
    }

    fn record(&mut self, kind: u16, bytes: &[u8]) {
        let mut output = Output::default();
        self.tracker.apply(&decode(Record { kind, bytes }).unwrap(), &mut output);
        for change in &output.changes {
            self.output += &render::row(change);
        }
        for obituary in &output.closed {
            self.output += &render::obituary(obituary);
        }
    }
}

/// A session that started at [`dsl::BASE`].
pub(crate) fn session() -> Session {
    Session {
        program: "0.1.0".to_owned(),
        pid: None,
        host: Host { name: "host".to_owned(), kernel: "6.18.0".to_owned(), boot_id: None },
        anchor: ClockAnchor {
            monotonic_ns: dsl::BASE,
            boottime_ns: dsl::BASE,
            unix_ns: 1_700_000_000_000_000_000,
        },
        started: Timestamp(dsl::BASE),
        attach: Attach::TpBtf,
        half_open: false,
        programs: Vec::new(),
        filter: FilterSpec::default(),
        buffer_bytes: 1 << 24,
        degradations: Vec::new(),
    }
}

fn setup(words: &str, rows: bool) -> (Session, FilterSpec, Settings) {
    let mut session = session();
    let mut replay = FilterSpec::default();
    let mut settings = Settings { changes: rows, ..Settings::default() };
    for word in words.split_whitespace().skip(1) {
        match word.split_once('=') {
            None if word == "half_open" => session.half_open = true,
            None if word == "tracepoint" => session.attach = Attach::Tracepoint,
            None if word == "closed" => settings.closed = true,
            Some(("programs", names)) => session.programs = names.split(',').map(str::to_owned).collect(),
            Some(("filter", spec)) => session.filter = filter(spec),
            Some(("replay", spec)) => replay = filter(spec),
            Some(("max_connections", number)) => settings.max_connections = number.parse().unwrap(),
            Some(("max_rows", number)) => settings.max_rows = number.parse().unwrap(),
            Some(("max_sockets", number)) => settings.max_sockets = number.parse().unwrap(),
            Some((threshold, _)) if threshold.contains('.') => {}
            Some(("after", ms)) => settings.close_wait_after_ns = dsl::nanoseconds(ms),
            _ => panic!("what is `{word}`?"),
        }
    }
    (session, replay, settings)
}

/// The words that have a dot: `close_wait_leak.min_sockets=3`.
fn thresholds(words: &str) -> Thresholds {
    let mut json = serde_json::to_value(Thresholds::default()).unwrap();
    for (key, value) in words.split_whitespace().filter_map(|word| word.split_once('=')) {
        if let Some((rule, key)) = key.split_once('.') {
            json[rule][key] = value.parse().unwrap();
        }
    }
    serde_json::from_value(json).unwrap()
}

fn filter(text: &str) -> FilterSpec {
    let mut spec = FilterSpec::default();
    for item in text.split(',') {
        match item.split_once(':') {
            None if item == "v4" => spec.ip_version = Some(4),
            None if item == "v6" => spec.ip_version = Some(6),
            Some(("pid", pid)) => spec.pid = Some(pid.parse().unwrap()),
            Some(("netns", netns)) => spec.netns = Some(netns.parse().unwrap()),
            Some(("cgroup", id)) => spec.cgroup_ids.push(id.parse().unwrap()),
            Some(("local", port)) => spec.local_ports.push(port.parse().unwrap()),
            Some(("peer", port)) => spec.peer_ports.push(port.parse().unwrap()),
            _ => panic!("what is `{item}`?"),
        }
    }
    spec
}
