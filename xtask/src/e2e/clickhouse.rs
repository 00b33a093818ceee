//! `clickhouse`: the questions that a fleet is asked, answered by ClickHouse from what agents sent.
//!
//! Several hosts replay a recording. What they send goes through a real Collector, becomes rows as its ClickHouse exporter
//! makes them, and is asked with the very files that users get. What the answers have to be is added up from the same
//! agents' JSON Lines, which have taken another way.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{
    Scenario, chdb,
    collector::{self, RECORDING},
    http::Sink,
    need::Need,
    rows::{self, LogRow},
    stage::{self, Stage},
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "clickhouse",
    about: "ClickHouse answers the questions of a fleet from the exporter's own table",
    needs: &[Need::Collector, Need::Python("chdb")],
    run,
};

const HOSTS: [&str; 5] = ["node-1", "node-2", "node-3", "node-4", "node-5"];

/// The recording is of this time.
const WINDOW: (&str, &str) = ("2026-01-15 00:00:00", "2026-01-16 00:00:00");

fn run(stage: &Stage) -> Result<()> {
    let onward = Sink::new()?;
    let (mut agents, address) = collector::start(stage, onward.address)?;
    let mut told = Vec::new();
    for host in HOSTS {
        collector::replay(stage, address, host, Path::new(RECORDING))?;
        told.extend(documents(&stage.read(&format!("{host}.out"))?)?);
    }
    let rows = stage::until(Duration::from_secs(30), || {
        let rows = collector::logs(&onward)?;
        ensure!(rows.len() >= told.len(), "{} of {} records have arrived", rows.len(), told.len());
        Ok(rows)
    })?;
    agents.stop()?;
    let bytes = onward.received("/v1/logs").iter().map(|request| request.body.len()).sum::<usize>();
    eprintln!("   {} records of {} hosts, {bytes} bytes as JSON", rows.len(), HOSTS.len());
    let database = fill(stage, &rows)?;
    let answers = ask(&database, &questions("deploy/clickhouse/questions.sql")?)?;
    check(&told, &answers)?;
    eprintln!("   {} questions answered, as the agents' own lines have it", answers.len());
    Ok(())
}

/// Makes the tables with the files of the repository, and inserts the rows: half before the views are made.
fn fill<'a>(stage: &'a Stage, rows: &[LogRow]) -> Result<chdb::ClickHouse<'a>> {
    let database = chdb::ClickHouse::new(stage);
    let lines =
        |rows: &[LogRow]| rows.iter().map(|row| format!("{}\n", row.to_json(true))).collect::<String>();
    let (before, after) = rows.split_at(rows.len() / 2);
    let insert = |name: &str, rows: &[LogRow]| -> Result<String> {
        let file = stage.write(&format!("{name}.jsonl"), lines(rows))?;
        Ok(format!(
            "INSERT INTO otel_logs (Timestamp, SeverityText, SeverityNumber, ServiceName, Body, ResourceSchemaUrl, \
             ResourceAttributes, ScopeSchemaUrl, ScopeName, ScopeVersion, LogAttributes, EventName) \
             SELECT Timestamp, SeverityText, SeverityNumber, ServiceName, Body, ResourceSchemaUrl, ResourceAttributes, \
             ScopeSchemaUrl, ScopeName, ScopeVersion, LogAttributes, EventName FROM file('{}', 'JSONEachRow', \
             'Timestamp DateTime64(9), SeverityText String, SeverityNumber UInt8, ServiceName String, Body String, \
             ResourceSchemaUrl String, ResourceAttributes Map(String, String), ScopeSchemaUrl String, ScopeName String, \
             ScopeVersion String, LogAttributes Map(String, String), EventName String') \
             SETTINGS date_time_input_format = 'best_effort'",
            file.display()
        ))
    };
    let mut statements = vec!["CREATE DATABASE IF NOT EXISTS fleet".to_owned(), "USE fleet".to_owned()];
    statements.extend(chdb::statements("deploy/clickhouse/otel_logs.sql")?);
    // The recording is older than the time that logs are kept for.
    statements.push("ALTER TABLE otel_logs REMOVE TTL".to_owned());
    statements.push(insert("before", before)?);
    statements.extend(chdb::statements("deploy/clickhouse/views.sql")?);
    statements.push("ALTER TABLE tcp_close_wait_per_minute REMOVE TTL".to_owned());
    statements.push(insert("after", after)?);
    // Twice, which changes nothing.
    statements.extend(chdb::statements("deploy/clickhouse/backfill.sql")?);
    statements.extend(chdb::statements("deploy/clickhouse/backfill.sql")?);
    database.run("fill", &statements)?;
    Ok(database)
}

/// Rows of each answer, by the name of its question.
type Answers = BTreeMap<String, Vec<Vec<Value>>>;

fn ask(database: &chdb::ClickHouse<'_>, questions: &[(String, String)]) -> Result<Answers> {
    let (from, to) = WINDOW;
    let mut statements =
        vec!["USE fleet".to_owned(), format!("SET param_from = '{from}'"), format!("SET param_to = '{to}'")];
    let preparations = statements.len();
    statements.extend(questions.iter().map(|(_, statement)| statement.clone()));
    let answers = database.run("questions", &statements)?;
    let names = questions.iter().map(|(name, _)| name.clone());
    Ok(names.zip(answers.into_iter().skip(preparations)).collect())
}

/// The named statements of a file.
fn questions(path: &str) -> Result<Vec<(String, String)>> {
    let text = fs::read_to_string(Stage::repository(path)).with_context(|| format!("reading {path}"))?;
    let parts = text.split("-- name: ").skip(1);
    parts
        .map(|part| {
            let (name, rest) = part.split_once('\n').context("a question without a statement")?;
            let code = |line: &&str| !line.trim_start().starts_with("--");
            let statement = rest.lines().filter(code).collect::<Vec<_>>().join("\n");
            Ok((name.trim().to_owned(), statement.trim().trim_end_matches(';').to_owned()))
        })
        .collect()
}

/// The lines of an agent.
fn documents(text: &str) -> Result<Vec<Value>> {
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("reading {line}"))).collect()
}

/// What the answers have to be.
fn check(told: &[Value], answers: &Answers) -> Result<()> {
    let answer = |name: &str| answers.get(name).with_context(|| format!("there is no question {name}"));
    transitions(told, answer("transitions")?)?;
    leaks(told, answer("leaking_services")?)?;
    by_deploy(told, answer("leak_by_deploy")?)?;
    let lost = told.iter().filter(|line| line["event"] == "tcp.report").map(|line| &line["loss"]["lost"]);
    let lost: u64 = lost.filter_map(Value::as_u64).sum();
    let trust: u64 = answer("trust")?.iter().filter_map(|row| number(row.get(2)?)).sum();
    ensure!(lost > 0 && trust == lost, "lost: {trust} by ClickHouse, {lost} by the agents");
    let endings: u64 = answer("endings")?.iter().filter_map(|row| number(row.get(2)?)).sum();
    let closed = told.iter().filter(|line| line["event"] == "tcp.connection_closed").count() as u64;
    ensure!(closed > 0 && endings == closed, "connections: {endings} by ClickHouse, {closed} by the agents");
    let refused: u64 = answer("failing_destinations")?.iter().filter_map(|row| number(row.get(2)?)).sum();
    let expected: u64 = lists(told, "destinations").filter_map(|row| row["refused"].as_u64()).sum();
    ensure!(
        expected > 0 && refused == expected,
        "refused: {refused} by ClickHouse, {expected} by the agents"
    );
    let open: u64 = answer("open_findings")?.iter().filter_map(|row| number(row.get(2)?)).sum();
    ensure!(open == still_open(told), "open: {open} by ClickHouse, {} by the agents", still_open(told));
    for name in ["leaking_processes", "busiest_services", "listeners", "local_ports"] {
        ensure!(!answer(name)?.is_empty(), "nothing answers {name}");
    }
    Ok(())
}

/// 64-bit integers are texts in ClickHouse's JSON, unless it was told otherwise.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// Rows of one list of every report.
fn lists<'a>(told: &'a [Value], list: &'a str) -> impl Iterator<Item = &'a Value> {
    told.iter().filter(|line| line["event"] == "tcp.report").flat_map(move |line| rows::each(&line[list]))
}

fn transitions(told: &[Value], answer: &[Vec<Value>]) -> Result<()> {
    let cells = lists(told, "transitions").filter_map(|cell| cell["count"].as_u64());
    let (expected, kinds) =
        (cells.sum::<u64>(), lists(told, "transitions").map(|cell| (&cell["old"], &cell["new"])));
    let kinds: BTreeSet<_> = kinds.map(|(old, new)| (old.to_string(), new.to_string())).collect();
    let found: u64 = answer.iter().filter_map(|row| number(row.get(1)?)).sum();
    ensure!(
        found == expected && answer.len() == kinds.len(),
        "{found} transitions, not {expected}: {answer:?}"
    );
    Ok(())
}

/// The most that lingered at once in a service, added up over hosts; and the hosts.
fn leaks(told: &[Value], answer: &[Vec<Value>]) -> Result<()> {
    let mut most: BTreeMap<(String, String), u64> = BTreeMap::new();
    for report in told.iter().filter(|line| line["event"] == "tcp.report") {
        let mut here: BTreeMap<String, u64> = BTreeMap::new();
        for row in rows::each(&report["close_wait"]) {
            *here.entry(service(&row["process"])).or_default() += row["count"].as_u64().unwrap_or_default();
        }
        for (service, count) in here {
            let known = most.entry((service, report["host"].to_string())).or_default();
            *known = (*known).max(count);
        }
    }
    let mut expected: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for ((service, _host), count) in most {
        let (hosts, sockets) = expected.entry(service).or_default();
        (*hosts, *sockets) = (*hosts + 1, *sockets + count);
    }
    let column = |row: &[Value], place: usize| row.get(place).and_then(number).unwrap_or_default();
    let name = |row: &[Value]| row.first().and_then(Value::as_str).unwrap_or_default().to_owned();
    let found: BTreeMap<_, _> =
        answer.iter().map(|row| (name(row), (column(row, 2), column(row, 3)))).collect();
    ensure!(found == expected, "services that leak: {found:?}, not {expected:?}");
    ensure!(
        found.get("orders").is_some_and(|(hosts, _)| *hosts == HOSTS.len() as u64),
        "no leak of orders: {found:?}"
    );
    Ok(())
}

/// As `service.name` has it.
fn service(process: &Value) -> String {
    let container = &process["container"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match container["runtime"].as_str() {
        None => text(&process["comm"]),
        Some("systemd") => text(&container["id"]).trim_end_matches(".service").to_owned(),
        Some(_) => text(&container["name"]),
    }
}

/// Every deploy is there, with the tag of the image.
fn by_deploy(told: &[Value], answer: &[Vec<Value>]) -> Result<()> {
    let deploys: BTreeSet<_> = told.iter().map(|line| line["labels"]["deploy"].clone().to_string()).collect();
    let orders = answer.iter().filter(|row| row.first() == Some(&json!("orders")));
    let found: BTreeSet<_> =
        orders.filter_map(|row| Some((row.get(1)?.to_string(), row.get(2)?.to_string()))).collect();
    let expected: BTreeSet<_> = deploys.into_iter().map(|deploy| ("\"7\"".to_owned(), deploy)).collect();
    ensure!(found == expected, "deploys of orders: {found:?}, not {expected:?}");
    Ok(())
}

fn still_open(told: &[Value]) -> u64 {
    let mut open = BTreeSet::new();
    for line in told.iter().filter(|line| line["event"] == "tcp.finding") {
        let key = (line["host"].to_string(), line["key"].to_string());
        if line["step"] == "closed" {
            open.remove(&key)
        } else {
            open.insert(key)
        };
    }
    open.len() as u64
}
