//! The fleet's question in SQL, of the table that the Collector's ClickHouse exporter writes.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::Host;
use crate::e2e::{
    chdb::{self, ClickHouse},
    collector,
    http::Sink,
    stage::{self, Stage},
};

/// Which service leaks, on how many hosts, with which deploy first, since when: one row for each service.
const QUESTION: &str = "
SELECT ServiceName, groupUniqArray(ResourceAttributes['deploy']) AS deploys,
       uniqExact(ResourceAttributes['host.name']) AS hosts,
       argMin(ResourceAttributes['deploy'], Timestamp) AS first, toString(min(Timestamp)) AS since
FROM otel_logs
WHERE EventName = 'tcp.finding' AND LogAttributes['tcp.finding.id'] = 'close_wait_leak'
  AND LogAttributes['tcp.finding.step'] != 'closed'
GROUP BY ServiceName ORDER BY hosts DESC";

pub(super) fn ask(stage: &Stage, hosts: &[Host], onward: &Sink) -> Result<()> {
    let reporting = |rows: &[crate::e2e::rows::LogRow]| {
        let from = rows.iter().filter_map(|row| row.resource.get("host.name").cloned());
        from.collect::<BTreeSet<_>>().len()
    };
    let rows = stage::until(Duration::from_secs(60), || {
        let rows = collector::logs(onward)?;
        let reporting = reporting(&rows);
        ensure!(reporting == hosts.len(), "{reporting} of {} hosts are heard of", hosts.len());
        Ok(rows)
    })?;
    let mut statements = chdb::statements("deploy/clickhouse/otel_logs.sql")?;
    let lines: Vec<String> = rows.iter().map(|row| row.to_json(true).to_string()).collect();
    statements.push(format!("INSERT INTO otel_logs FORMAT JSONEachRow\n{}", lines.join("\n")));
    statements.push(QUESTION.to_owned());
    statements.push("SELECT count(), uniqExact(ResourceAttributes['host.name']) FROM otel_logs".to_owned());
    let answers = ClickHouse::new(stage).run("question", &statements)?;
    let answer = answers.iter().rev().nth(1).context("no answer")?;
    eprintln!("   ClickHouse, of {} rows: {}", rows.len(), serde_json::to_string(answer)?);
    let leaking = |service| hosts.iter().filter(|host| host.leaks == Some(service)).count();
    let told: Vec<(String, String, usize)> = answer
        .iter()
        .map(|row| {
            let text = |index: usize| row.get(index).map_or_else(String::new, plain);
            Ok((text(0), text(1), text(2).parse()?))
        })
        .collect::<Result<_>>()?;
    let expected = [
        ("orders-api".to_owned(), "[\"42\"]".to_owned(), leaking("orders-api")),
        ("billing".to_owned(), "[\"41\"]".to_owned(), leaking("billing")),
    ];
    ensure!(told == expected, "ClickHouse says {told:?}, but put in was {expected:?}");
    Ok(())
}

/// 64-bit numbers are texts in ClickHouse's JSON.
fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
