//! A zoo of small programs, each with one fault: the report on each yields exactly its finding, with the right subject,
//! and that on healthy programs none.
//!
//! An animal is a function that plays in a namespace of its own, with a hand-made peer behind a device; a report of the
//! program watches that namespace alone. Animals live side by side. Waiting times are short, by a configuration file;
//! counts are those of the defaults.

mod closing;
mod connects;
mod cut;
mod floods;
mod healthy;
mod leaks;
mod listeners;

use std::{
    any::Any,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tcp_trace_testkit::{Helper, TunConfig, World, scale::is_slow};

use crate::{
    Test,
    tracer::{PATIENCE, Tracer, text},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("the_comparison_finds_every_fault", the_comparison_finds_every_fault),
    ("every_finding_has_an_animal", every_finding_has_an_animal),
    ("faulty_programs_yield_their_findings", || {
        tour(&[
            leaks::ANIMALS,
            closing::ANIMALS,
            connects::ANIMALS,
            cut::ANIMALS,
            listeners::ANIMALS,
            floods::ANIMALS,
        ]);
    }),
    ("healthy_programs_yield_none", || tour(&[healthy::ANIMALS])),
    ("nginx_under_wrk_yields_none", healthy::nginx_under_wrk),
];

/// Animals that live at the same time: they wait most of it, but a machine has only so many processors.
const AT_ONCE: usize = 6;

/// A program with a fault, or without.
struct Animal {
    name: &'static str,
    /// The configuration file's `[findings…]`.
    config: &'static str,
    /// More arguments of the report.
    arguments: &'static [&'static str],
    /// The findings that it must yield.
    yields: &'static [&'static str],
    play: fn(&World) -> Seen,
}

/// What has been played.
#[derive(Default)]
struct Seen {
    /// What the subjects of its findings must say, in the order of `yields`.
    subjects: Vec<Value>,
    /// What must live until the report is made.
    alive: Vec<Box<dyn Any>>,
}

impl Seen {
    fn of(subject: Value) -> Self {
        Self { subjects: vec![subject], alive: Vec::new() }
    }

    fn nothing() -> Self {
        Self::default()
    }

    fn alive(mut self, what: impl Any) -> Self {
        self.alive.push(Box::new(what));
        self
    }
}

/// A process as the subject of a finding.
fn process(helper: &Helper) -> Value {
    json!({"kind": "process", "process": {"pid": helper.pid(), "comm": helper.comm()}})
}

/// A listener of a process.
fn listener(helper: &Helper, at: SocketAddr) -> Value {
    json!({"kind": "listener", "local": end(at), "process": {"pid": helper.pid()}})
}

fn end(at: SocketAddr) -> Value {
    json!({"address": at.ip().to_string(), "port": at.port()})
}

/// Starts a process of the zoo; it has said the first line that is expected of it.
fn start(world: &World, role: &str, first: &str, arguments: &[&str]) -> Helper {
    let mut helper = Helper::spawn(&world.ns, role, arguments).unwrap();
    helper.expect(first, PATIENCE).unwrap();
    helper
}

fn pause(ms: u64) {
    thread::sleep(Duration::from_millis(ms));
}

/// All of 198.18.0.0/15 is behind the device.
fn wide() -> TunConfig {
    TunConfig { v4: (Ipv4Addr::new(198, 18, 0, 1), 15), ..TunConfig::default() }
}

/// Shows every animal, and fails with all faults of all of them.
fn tour(groups: &[&[Animal]]) {
    let animals: Vec<&Animal> = groups.iter().copied().flatten().collect();
    let (next, told) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        // An emulated machine has no time to spare.
        let at_once = if is_slow() { 1 } else { AT_ONCE };
        for _ in 0..at_once.min(animals.len()) {
            scope.spawn(|| {
                // Its processes die with the thread that started them.
                while let Some(animal) = animals.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begun = Instant::now();
                    let findings = watch(animal);
                    told.lock().unwrap().push((animal.name, findings, begun.elapsed()));
                }
            });
        }
    });
    let told = told.into_inner().unwrap();
    assert_eq!(told.len(), animals.len());
    for (name, (seen, _), time) in &told {
        eprintln!("{name:34} {:5.1} s  {}", time.as_secs_f64(), seen.join(", "));
    }
    let faults: Vec<_> = told.into_iter().flat_map(|(_, (_, faults), _)| faults).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The findings on an animal, and what is wrong with them.
fn watch(animal: &Animal) -> (Vec<String>, Vec<String>) {
    let world = World::with(&wide()).unwrap();
    let config = Config::write(animal);
    let netns = world.ns.inum().to_string();
    let mut arguments = vec!["report", "--json", "--buffer", "1M", "--netns", &netns];
    arguments.extend(["--config", config.0.to_str().unwrap()]);
    arguments.extend(animal.arguments);
    let tracer = Tracer::start(&arguments);
    let seen = (animal.play)(&world);
    let output = tracer.stop();
    assert!(output.status.success(), "{}: {}", animal.name, text(&output.stderr));
    let lines = text(&output.stdout);
    // With `--interval`, the last report.
    let report: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    drop(seen.alive);
    judge(animal, &seen.subjects, &report)
}

/// The names of what was found, and what is wrong with it.
fn judge(animal: &Animal, subjects: &[Value], report: &Value) -> (Vec<String>, Vec<String>) {
    let mut faults = Vec::new();
    let findings = report["findings"].as_array().unwrap_or_else(|| panic!("{}: no findings", animal.name));
    let mut left: Vec<&Value> = findings.iter().collect();
    for (id, subject) in animal.yields.iter().zip(subjects) {
        let is_it = |finding: &&Value| finding["id"] == *id && holds(&finding["subject"], subject);
        match left.iter().position(is_it) {
            Some(at) => drop(left.remove(at)),
            None => faults.push(format!("{}: no {id} of {subject}", animal.name)),
        }
    }
    let others = left.iter().map(|finding| format!("{}: not expected: {finding}", animal.name));
    faults.extend(others);
    if !faults.is_empty() {
        faults.push(format!("{}: {}", animal.name, extract(report)));
    }
    (findings.iter().map(|finding| finding["id"].as_str().unwrap().to_owned()).collect(), faults)
}

/// What of the report findings are made of.
fn extract(report: &Value) -> Value {
    let mut some = serde_json::Map::new();
    let keys =
        ["loss", "window", "closing", "endings", "listeners_changed", "inherited", "half_open", "connect"];
    for key in keys {
        some.insert(key.to_owned(), report[key].clone());
    }
    some.insert("close_wait".to_owned(), report["close_wait"]["lingering"].clone());
    some.insert("time_wait".to_owned(), report["time_wait"].clone());
    some.into()
}

/// Whether `found` says all that `expected` says.
fn holds(found: &Value, expected: &Value) -> bool {
    match expected {
        Value::Object(fields) => fields.iter().all(|(key, value)| holds(&found[key], value)),
        expected => found == expected,
    }
}

/// A configuration file; it goes with the value.
struct Config(PathBuf);

impl Config {
    fn write(animal: &Animal) -> Self {
        let name = format!("tcp-trace-zoo-{}-{}.toml", std::process::id(), animal.name.replace(' ', "-"));
        let path = std::env::temp_dir().join(name);
        fs::write(&path, animal.config).unwrap();
        Self(path)
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn the_comparison_finds_every_fault() {
    let animal = Animal {
        name: "dodo",
        config: "",
        arguments: &[],
        yields: &["reset_storm"],
        play: |_| Seen::nothing(),
    };
    let subject = json!({"kind": "process", "process": {"pid": 7}});
    let finding = |id: &str, pid: u32| json!({"id": id, "subject": {"kind": "process", "process": {"pid": pid, "comm": "a"}}});
    let faults = |findings: Value| {
        judge(&animal, std::slice::from_ref(&subject), &json!({"findings": findings})).1.len()
    };
    assert_eq!(faults(json!([finding("reset_storm", 7)])), 0);
    assert!(faults(json!([])) > 0, "nothing found");
    assert!(faults(json!([finding("reset_storm", 8)])) > 0, "another process");
    assert!(faults(json!([finding("reset_storm", 7), finding("fork_leak", 7)])) > 0, "one too many");
}

fn every_finding_has_an_animal() {
    let groups = [
        leaks::ANIMALS,
        closing::ANIMALS,
        connects::ANIMALS,
        cut::ANIMALS,
        listeners::ANIMALS,
        floods::ANIMALS,
    ];
    let yielded: Vec<&str> =
        groups.iter().copied().flatten().flat_map(|animal| animal.yields).copied().collect();
    for id in tcp_trace_core::findings::ids() {
        assert!(yielded.contains(&id), "no animal yields {id}");
    }
    for id in yielded {
        assert!(tcp_trace_core::findings::ids().any(|known| known == id), "nothing finds {id}");
    }
}
