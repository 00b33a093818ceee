//! `clickhouse`: the questions that a fleet is asked, answered by ClickHouse from what agents sent.

use anyhow::Result;

use super::{Scenario, chdb, need::Need, stage::Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "clickhouse",
    about: "ClickHouse answers the questions of a fleet from the exporter's own table",
    needs: &[Need::Collector, Need::Python("chdb")],
    run,
};

fn run(stage: &Stage) -> Result<()> {
    let database = chdb::ClickHouse::new(stage);
    database.run("probe", &["SELECT 1".to_owned()])?;
    let _ = chdb::statements("deploy/clickhouse/views.sql");
    Ok(())
}
