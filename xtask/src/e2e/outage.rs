//! `outage`: one sink cannot get rid of anything for ten minutes, while connections come and go.
//!
//! The others get everything, the agent's memory stays where it is, what the dead sink loses is counted, and it works again
//! by itself when the other side is back.

use std::{
    env, fs,
    net::SocketAddr,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Scenario, http,
    need::Need,
    shop::{Habit, Shop},
    stage::{self, Stage},
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "outage",
    about: "an endpoint that is dead for ten minutes under churn costs its own sink only (TT_E2E_OUTAGE_SECONDS for less)",
    needs: &[Need::Root, Need::Program("ip", "iproute2")],
    run,
};

const NETNS: &str = "tt-e2e-outage";
/// Where nobody listens, until somebody does.
const ENDPOINT: u16 = 21_900;
const HTTP: u16 = 21_901;
/// More than the agent may grow by, in bytes.
const GROWTH: u64 = 24 << 20;

fn run(stage: &Stage) -> Result<()> {
    let seconds = env::var("TT_E2E_OUTAGE_SECONDS").map_or(Ok(600), |text| text.parse())?;
    let mut shop = Shop::new(NETNS)?;
    let _served = [
        shop.serve(stage, "orders-api", 8080, Habit::Close)?,
        shop.serve(stage, "billing", 8081, Habit::Close)?,
    ];
    let config = format!(
        "[source]\nnetns = \"{NETNS}\"\n[report]\ninterval = \"2s\"\n[http]\nlisten = \"127.0.0.1:{HTTP}\"\n\
         [sinks.dead]\nlevel = \"all\"\nqueue = 1000\nrate = 10000\n[sinks.dead.otlp]\nendpoint = \"http://127.0.0.1:{ENDPOINT}\"\n\
         [sinks.alive]\nlevel = \"all\"\nrate = 10000\n[sinks.alive.stdout]\n"
    );
    let config = stage.write("agent.toml", config)?;
    let mut agent = Command::new(&stage.program);
    let mut agent = stage.start("agent", agent.arg("agent").arg("--config").arg(config))?;
    let address = SocketAddr::from(([127, 0, 0, 1], HTTP));
    stage::until(Duration::from_secs(60), || http::get(address, "/readyz"))?;
    let calls = u32::try_from((seconds + 60) * 10)?;
    let _callers = shop.call(stage, "checkout", calls, &[8080, 8081, 8080, 8081])?;
    let began = Instant::now();
    // What it takes to have everything at work is not growth.
    thread::sleep(Duration::from_secs(20));
    let before = resident(agent.id())?;
    let mut most = before;
    while began.elapsed() < Duration::from_secs(seconds) {
        thread::sleep(Duration::from_secs(5));
        most = most.max(resident(agent.id())?);
        http::get(address, "/healthz").context("the agent is not well")?;
    }
    let lost = dropped(address, "dead")?;
    ensure!(lost > 0.0, "nothing was lost, though nothing was taken");
    ensure!(dropped(address, "alive")? == 0.0, "the other sink has lost documents");
    ensure!(most < before + GROWTH, "memory grew from {before} to {most} bytes");
    eprintln!("   {seconds} s: {lost} documents lost and counted; memory {before} to {most} bytes at most");
    let back = http::Sink::at(SocketAddr::from(([127, 0, 0, 1], ENDPOINT)))?;
    stage::until(Duration::from_secs(90), || {
        ensure!(!back.received("/v1/logs").is_empty(), "nothing has come since the endpoint is back");
        Ok(())
    })?;
    ensure!(agent.stop()?.success(), "the agent ended badly: {}", agent.last_words());
    whole(&stage.read("agent.out")?)
}

/// The living sink has told of every transition that was delivered.
fn whole(text: &str) -> Result<()> {
    let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let of = |event: &str| lines.iter().filter(move |line| line["event"] == event).collect::<Vec<_>>();
    let reports = of("tcp.report");
    let sum = |key: &str| reports.iter().filter_map(|report| report["loss"][key].as_u64()).sum::<u64>();
    let told = of("tcp.state_change").len() as u64;
    let delivered = sum("delivered");
    eprintln!("   the other sink: {told} of {delivered} transitions, {} reports", reports.len());
    ensure!(told == delivered && sum("lost") == 0, "{told} of {delivered} were told, {} lost", sum("lost"));
    Ok(())
}

/// Memory that a process has, in bytes.
fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// What a sink has lost, as the agent's own metrics say.
fn dropped(address: SocketAddr, sink: &str) -> Result<f64> {
    let metrics = http::get(address, "/metrics")?;
    let (name, sink) = ("tcp_trace_sink_documents_total{", format!("\"{sink}\""));
    let mut of_sink = metrics.lines().filter(|line| {
        line.starts_with(name) && line.contains(&sink) && line.contains("outcome=\"dropped\"")
    });
    let value = of_sink.next().map_or(Some("0"), |line| line.rsplit(' ').next());
    Ok(value.unwrap_or_default().parse()?)
}
