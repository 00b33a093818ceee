//! The fleet's question in SQL, as it is shipped, of the table that the Collector's ClickHouse exporter writes.

use std::{collections::BTreeSet, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Host;
use crate::e2e::{
    chdb::{self, ClickHouse},
    collector,
    http::Sink,
    rows::LogRow,
    stage::{self, Stage},
};

/// The same of findings alone: from how many hosts, which deploy was the first, and of how many.
const FINDINGS: &str = "
SELECT service, uniqExact(host) AS hosts, argMin(deploy, time) AS first, uniqExact(deploy) AS deploys
FROM tcp_findings WHERE finding = 'close_wait_leak' AND step != 'closed'
GROUP BY service ORDER BY hosts DESC";

/// A service, on so many hosts, since a deploy.
type Leak = (String, u64, String);

pub(super) fn ask(stage: &Stage, hosts: &[Host], onward: &Sink) -> Result<()> {
    let rows = stage::until(Duration::from_secs(60), || {
        let rows = collector::logs(onward)?;
        let reporting = reporting(&rows);
        ensure!(reporting == hosts.len(), "{reporting} of {} hosts are heard of", hosts.len());
        Ok(rows)
    })?;
    let mut statements = chdb::statements("deploy/clickhouse/otel_logs.sql")?;
    statements.extend(chdb::statements("deploy/clickhouse/views.sql")?);
    let lines: Vec<String> = rows.iter().map(|row| row.to_json(true).to_string()).collect();
    statements.push(format!("INSERT INTO otel_logs FORMAT JSONEachRow\n{}", lines.join("\n")));
    let first = statements.len();
    statements.push(shipped("leaking_services")?);
    statements.push(shipped("leak_by_deploy")?);
    statements.push(FINDINGS.to_owned());
    let answers = ClickHouse::new(stage).run("question", &statements)?;
    let [services, deploys, findings] = answers.get(first..).unwrap_or_default() else {
        anyhow::bail!("ClickHouse has not answered each question");
    };
    eprintln!("   ClickHouse, of {} rows: {}", rows.len(), serde_json::to_string(services)?);
    let expected: BTreeSet<Leak> =
        ["orders-api", "billing"].map(|service| super::truth(hosts, service)).into();
    for (name, answer, columns) in [
        ("leaking_services", services, [0, 2, 7]),
        ("leak_by_deploy", deploys, [0, 4, 2]),
        ("findings", findings, [0, 1, 2]),
    ] {
        let told: BTreeSet<Leak> = answer.iter().map(|row| leak(row, columns)).collect::<Result<_>>()?;
        ensure!(
            told == expected && answer.len() == expected.len(),
            "{name}: {answer:?}, but put in was {expected:?}"
        );
    }
    ensure!(
        findings.iter().all(|row| text(row, 3) == "1"),
        "more deploys leak than were put in: {findings:?}"
    );
    Ok(())
}

fn reporting(rows: &[LogRow]) -> usize {
    rows.iter().filter_map(|row| row.resource.get("host.name")).collect::<BTreeSet<_>>().len()
}

/// A question of `deploy/clickhouse/questions.sql`, of all times.
fn shipped(name: &str) -> Result<String> {
    let file = fs::read_to_string(Stage::repository("deploy/clickhouse/questions.sql"))?;
    let begin = format!("-- name: {name}\n");
    let (_, rest) = file.split_once(&begin).with_context(|| format!("there is no question {name}"))?;
    let (question, _) = rest.split_once(';').context("a question without an end")?;
    let times = [
        ("{from:DateTime}", "toDateTime('2020-01-01 00:00:00')"),
        ("{to:DateTime}", "toDateTime('2100-01-01 00:00:00')"),
    ];
    Ok(times.iter().fold(question.to_owned(), |text, (name, time)| text.replace(name, time)))
}

/// Service, hosts and deploy, from these columns.
fn leak(row: &[Value], [service, hosts, deploy]: [usize; 3]) -> Result<Leak> {
    Ok((text(row, service), text(row, hosts).parse()?, text(row, deploy)))
}

/// 64-bit numbers are texts in ClickHouse's JSON, and others are not.
fn text(row: &[Value], column: usize) -> String {
    let value = row.get(column).unwrap_or(&Value::Null);
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
