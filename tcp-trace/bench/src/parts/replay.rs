//! How fast recorded events go through decoder, tracker and printer, on one CPU.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::{
    bench::{Bench, Budget, Outcome, say},
    child::{Options, Running},
    stats::Summary,
    table::{Table, number},
    tape::Tape,
};

/// What is done with a recording: a name, the arguments, what it makes of each event.
const WAYS: [(&str, &[&str], &str); 4] = [
    (REPORT, &["report", "--json"], "events"),
    (LINES, &["stream", "--json"], "lines"),
    ("stream", &["stream"], "lines"),
    ("stream --closed --json", &["stream", "--closed", "--json"], "events"),
];
const REPORT: &str = "report: decode + track";
const LINES: &str = "stream --json: decode + track + print";

pub(crate) fn run(bench: &Bench) -> Result<Outcome> {
    let tape = Tape::record(bench, bench.seconds(5))?;
    ensure!(tape.events > 0, "nothing was recorded");
    let path = tape.path.to_string_lossy().into_owned();
    let mut rates: Vec<Vec<f64>> = WAYS.iter().map(|_| Vec::new()).collect();
    for round in 0..bench.rounds {
        say(&format!("replay: round {} of {}", round + 1, bench.rounds));
        for ((_, arguments, _), rates) in WAYS.iter().zip(&mut rates) {
            let arguments = [arguments, &["--from", path.as_str()][..]].concat();
            let options = Options { one_cpu: true, ..Options::default() };
            let ended = Running::start(&bench.program, &arguments, options)?.wait()?;
            ensure!(ended.status.success(), "{arguments:?}: {}", ended.stderr.join("; "));
            rates.push(tape.events as f64 / ended.cpu.as_secs_f64());
        }
    }
    let mut table = Table::new("A recording read on one CPU", &["what", "millions/s", "min–max", "ns each"]);
    let mut outcome = Outcome::default();
    let mut figures = Vec::new();
    for ((name, _, of), rates) in WAYS.iter().zip(&rates) {
        let Some(summary) = Summary::of(rates.iter().map(|rate| rate / 1e6)) else { continue };
        let range = format!("{}–{}", number(summary.min), number(summary.max));
        table.row([(*name).to_owned(), number(summary.median), range, number(1e3 / summary.median)]);
        let budget = match *name {
            REPORT => Some(("decode + track on one core", 3.0, "M events/s")),
            LINES => Some(("JSON lines on one core", 1.0, "M lines/s")),
            _ => None,
        };
        let budget = budget.map(|(what, limit, unit)| Budget::at_least(what, limit, summary.median, unit));
        outcome.budgets.extend(budget);
        figures.push(json!({"what": name, "of": of, "millions_per_second": summary, "rounds": rates}));
    }
    table.note(format!(
        "{} events of churn; events per second of processor time, reading the file included.",
        number(tape.events as f64)
    ));
    outcome.tables.push(table);
    outcome.figures = json!({"events": tape.events, "ways": figures});
    Ok(outcome)
}
