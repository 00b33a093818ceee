//! How long it takes until tcp-trace is attached, and until its first report; how large it is.

use std::{collections::BTreeMap, fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tcp_trace_testkit::{NetNs, leak::crowd};

use crate::{
    bench::{ATTACHED, Bench, Budget, Outcome, say},
    child::find,
    programs,
    stats::Summary,
    table::{Table, UNKNOWN, grouped, number},
};

/// Sockets that are there already.
const SOCKETS: [u64; 3] = [0, 10_000, 100_000];
/// The shortest run that makes a full report.
const SHORTEST: &str = "1ms";

pub(crate) fn run(bench: &Bench) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let columns = ["sockets there before", "attached", "min–max", "first full report", "min–max"];
    let mut table = Table::new("From exec", &columns);
    let mut figures = Vec::new();
    for &sockets in bench.pick(&SOCKETS[..], &[0, 1_000]) {
        say(&format!("startup: {sockets} sockets"));
        let ns = NetNs::new()?;
        // Each connection has two.
        let _crowd = if sockets > 0 { crowd(&ns, sockets / 2, 900)? } else { Vec::new() };
        let (attached, report) = measure(bench, &ns, sockets)?;
        let shown = |summary: Summary| {
            let range = format!("{}–{} ms", number(summary.min), number(summary.max));
            [format!("{} ms", number(summary.median)), range]
        };
        let cells = [grouped(sockets as f64)].into_iter().chain(shown(attached)).chain(shown(report));
        table.row(cells);
        if sockets == 0 {
            outcome.budgets.push(Budget::at_most("exec to attached", 100.0, attached.median, "ms"));
        }
        if sockets == SOCKETS[2] {
            let what = "exec to the first full report of 100,000 sockets";
            outcome.budgets.push(Budget::at_most(what, 300.0, report.median, "ms"));
        }
        figures.push(json!({"sockets": sockets, "attached_ms": attached, "first_report_ms": report}));
    }
    let (size, stripped) = sizes(bench)?;
    let mut size_table = Table::new("The program", &["what", "bytes"]);
    size_table.row(["release build".into(), grouped(size as f64)]);
    size_table.row(["stripped".into(), stripped.map_or(UNKNOWN.into(), |bytes| grouped(bytes as f64))]);
    let verified = verified(bench)?;
    let mut verified_table = Table::new("Work of the verifier at the start", &["program", "instructions"]);
    verified.iter().for_each(|(name, count)| verified_table.row([name.clone(), grouped(*count as f64)]));
    outcome.tables = vec![table, verified_table, size_table];
    outcome.figures = json!({
        "runs": figures, "bytes": size, "stripped_bytes": stripped, "verified_instructions": verified
    });
    Ok(outcome)
}

/// How many instructions the verifier goes through for each program: most of the time until it is attached.
fn verified(bench: &Bench) -> Result<BTreeMap<String, u64>> {
    let running = bench.tcp_trace(&["report", "--json"])?;
    let counts = programs::verified(running.pid())?;
    let names = programs::names();
    running.stop()?;
    let name = |id: &u32| names.get(id).cloned().unwrap_or_else(|| format!("program {id}"));
    Ok(counts.iter().map(|(id, count)| (name(id), *count)).collect())
}

/// Milliseconds until it is attached, and until it has ended with a full report.
fn measure(bench: &Bench, ns: &NetNs, sockets: u64) -> Result<(Summary, Summary)> {
    let netns = ns.inum().to_string();
    let (mut attached, mut report) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let mut running = bench.begin(&["report", "--json", "--duration", SHORTEST, "--netns", &netns])?;
        attached.push(running.wait_for(ATTACHED)?.as_secs_f64() * 1e3);
        let ended = running.wait()?;
        report.push(ended.wall.as_secs_f64() * 1e3);
        let live = ended.json()?["states"]["ESTABLISHED"]["live"].clone();
        ensure!(live == sockets, "{live} sockets in the report, in truth {sockets}");
    }
    Summary::of(attached).zip(Summary::of(report)).context("no round")
}

/// How large the program is, and how large without symbols, if there is a program to strip it.
fn sizes(bench: &Bench) -> Result<(u64, Option<u64>)> {
    let size = fs::metadata(&bench.program)?.len();
    let Some(strip) = find("strip") else { return Ok((size, None)) };
    let copy = std::env::temp_dir().join(format!("tcp-trace-bench-{}.stripped", std::process::id()));
    let status = Command::new(strip).arg("-o").arg(&copy).arg(&bench.program).status();
    let stripped = fs::metadata(&copy).ok().filter(|_| status.is_ok_and(|status| status.success()));
    // It may not have come to be.
    let _ = fs::remove_file(&copy);
    Ok((size, stripped.map(|file| file.len())))
}
