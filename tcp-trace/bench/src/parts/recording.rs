//! What recordings cost: bytes on disk, processor time to write them.

use anyhow::Result;
use serde_json::json;

use crate::{
    bench::{Bench, Outcome, say},
    child::{Options, Running},
    stats::Summary,
    table::{Table, grouped, number},
    tape::Tape,
    truth::transitions,
};

/// One recording, written and read.
struct Sample {
    bytes_each: f64,
    /// Events per second that were recorded.
    live: f64,
    /// Events per second of the recorder's processor time.
    write: f64,
    /// Events per second of the reader's processor time.
    read: f64,
    lost: u64,
}

pub(crate) fn run(bench: &Bench) -> Result<Outcome> {
    let mut samples = Vec::new();
    for round in 0..bench.rounds.min(3) {
        say(&format!("recording: round {}", round + 1));
        samples.push(measure(bench)?);
    }
    let of = |pick: fn(&Sample) -> f64| Summary::of(samples.iter().map(pick));
    let mut table = Table::new("Recordings", &["what", "median", "min–max"]);
    let (bytes, live) = (of(|sample| sample.bytes_each), of(|sample| sample.live));
    let (write, read) = (of(|sample| sample.write), of(|sample| sample.read));
    for (what, summary) in [
        ("bytes per event", bytes),
        ("events/s recorded at full churn", live),
        ("events per second of processor time, written", write),
        ("events per second of processor time, read into a report", read),
    ] {
        if let Some(summary) = summary {
            let range = format!("{}–{}", number(summary.min), number(summary.max));
            table.row([what.to_owned(), number(summary.median), range]);
        }
    }
    let lost: u64 = samples.iter().map(|sample| sample.lost).sum();
    table.note(format!("{} lost.", grouped(lost as f64)));
    let figures = json!({
        "bytes_per_event": bytes, "recorded_per_second": live, "written_per_cpu_second": write,
        "read_per_cpu_second": read, "lost": lost
    });
    Ok(Outcome { tables: vec![table], figures, ..Outcome::default() })
}

fn measure(bench: &Bench) -> Result<Sample> {
    let tape = Tape::record(bench, bench.seconds(3))?;
    let path = tape.path.to_string_lossy().into_owned();
    let options = Options { one_cpu: true, ..Options::default() };
    let reader = Running::start(&bench.program, &["report", "--json", "--from", &path], options)?.wait()?;
    let events = tape.events as f64;
    Ok(Sample {
        bytes_each: tape.bytes as f64 / events,
        live: transitions(&tape.churn) as f64 / tape.churn.elapsed.as_secs_f64(),
        write: events / tape.recorder.cpu.as_secs_f64(),
        read: events / reader.cpu.as_secs_f64(),
        lost: tape.lost,
    })
}
