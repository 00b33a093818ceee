//! redis, asked by its own benchmark with a connection for each request.

use anyhow::{Context as _, Result};

use super::stage::{Expected, Stage, find};
use crate::check::{Check, Outcome};

const PORT: u16 = 6379;

pub(crate) fn run(check: &Check, outcome: &mut Outcome) -> Result<()> {
    let programs =
        [("redis-server", "redis-server"), ("redis-benchmark", "redis-tools"), ("redis-cli", "redis-tools")];
    let Some([server, benchmark, cli]) = find(programs, outcome) else { return Ok(()) };
    let mut stage = Stage::new(check, "redis")?;
    let port = PORT.to_string();
    let mut redis = stage
        .start(&server, &["--port", &port, "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"])?;
    stage.wait_for(PORT, &mut redis)?;
    let requests = if check.quick { "500" } else { "20000" };
    let (client, _) = stage
        .run(&benchmark, &["-p", &port, "-k", "0", "-c", "10", "-n", requests, "-t", "ping_mbulk", "-q"])?;
    let (asker, told) = stage.run(&cli, &["-p", &port, "info", "stats"])?;
    let text = told.stdout()?;
    let received = text.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
    let received: u64 =
        received.and_then(|number| number.trim().parse().ok()).context("total_connections_received")?;
    let seen = stage.end(outcome)?;
    let servers = [redis.pid()];
    let own = |what, role, pids, comm, count| Expected { what, role, port: PORT, pids, comm, count };
    seen.expect(
        &own(
            "connections of redis, total_connections_received",
            "server",
            &servers,
            "redis-server",
            received,
        ),
        outcome,
    );
    let of = |comm: &str| {
        seen.at("client", PORT).filter(|closed| closed["process"]["comm"] == comm).collect::<Vec<_>>()
    };
    // The benchmark opens one more connection than it has answers to, for each of its clients, and one to ask for settings.
    let (benchmark, cli) = (of("redis-benchmark"), of("redis-cli"));
    outcome.equal(
        "connections of redis-benchmark and redis-cli",
        (benchmark.len() + cli.len()) as u64,
        received,
    );
    outcome.holds(
        "each of them is its process's own",
        benchmark.iter().all(|closed| closed["process"]["pid"] == client)
            && cli.iter().all(|closed| closed["process"]["pid"] == asker),
    );
    Ok(())
}
