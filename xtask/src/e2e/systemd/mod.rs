//! `systemd`: the unit as it is shipped, run by a real service manager.
//!
//! Machines for tests have no systemd as their first process. Its other form, the manager of a user's services
//! (`systemd --user`), started by root, makes the same namespaces, filters and capabilities; it only knows no dynamic
//! users, so that `nobody` stands in for one.

mod manager;

use std::{
    fs,
    net::SocketAddr,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use self::manager::Manager;
use super::{
    Scenario, http,
    need::Need,
    stage::{self, Running, Stage},
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "systemd",
    about: "the agent by its unit: nobody's process, with only the unit's capabilities, watched, reloaded, stopped",
    needs: &[Need::Root, Need::Program("systemctl", "systemd"), Need::Program("unshare", "util-linux")],
    run,
};

const UNIT: &str = "tcp-trace.service";
/// What the unit permits to take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(60);
const LEAK: u16 = 18_080;

fn run(stage: &Stage) -> Result<()> {
    let http = stage::free_port()?;
    let manager = Manager::start(stage, UNIT, &config(http, "41"))?;
    let began = Instant::now();
    manager.systemctl(&["start", UNIT])?;
    eprintln!("   ready {:.2} s after the start", began.elapsed().as_secs_f64());
    let pid = manager.pid(UNIT)?;
    permissions(pid)?;
    let _shop = leak(stage)?;
    told(&manager, http)?;
    reload(&manager, http, pid)?;
    watchdog(&manager, pid)?;
    let began = Instant::now();
    manager.systemctl(&["stop", UNIT])?;
    ensure!(began.elapsed() < STOP_WITHIN, "it took {:?} to stop", began.elapsed());
    let result = manager.show(UNIT, "Result")?;
    ensure!(result == "success", "it stopped with the result `{result}`");
    eprintln!("   stopped after {:.2} s", began.elapsed().as_secs_f64());
    Ok(())
}

fn config(http: SocketAddr, deploy: &str) -> String {
    format!(
        "[agent]
host = \"e2e\"
labels = {{ deploy = \"{deploy}\" }}
[report]
interval = \"1s\"
close_wait_after = \"1s\"
[http]
listen = \"{http}\"
[sinks.lines.stdout]
"
    )
}

/// Nobody's process, which could have the capabilities that the unit names and no others, and whose first thread keeps the
/// one that it needs to read its configuration again; behind a filter of system calls.
fn permissions(pid: i32) -> Result<()> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.map(str::trim).with_context(|| format!("no `{key}` in {status}"))
    };
    ensure!(!field("Uid:")?.split_whitespace().any(|uid| uid == "0"), "it runs as root");
    let wanted = unit_capabilities()?;
    let kept = 1 << DAC_READ_SEARCH;
    for (set, wanted) in [("CapBnd:", wanted), ("CapEff:", kept), ("CapPrm:", kept), ("CapAmb:", 0)] {
        let held = u64::from_str_radix(field(set)?, 16)?;
        ensure!(held == wanted, "{set} {held:x}, and not {wanted:x}");
    }
    ensure!(field("NoNewPrivs:")? == "1" && field("Seccomp:")? == "2", "it is not confined: {status}");
    eprintln!(
        "   uid {}, of the capabilities {wanted:x} its first thread keeps {kept:x}",
        field("Uid:")?.split_whitespace().next().unwrap_or_default()
    );
    Ok(())
}

/// CAP_DAC_READ_SEARCH (`include/uapi/linux/capability.h`).
const DAC_READ_SEARCH: u64 = 2;

/// The mask of the capabilities that the unit names.
fn unit_capabilities() -> Result<u64> {
    let unit = fs::read_to_string(Stage::repository("deploy/systemd/tcp-trace.service"))?;
    let line = unit.lines().find_map(|line| line.strip_prefix("AmbientCapabilities="));
    let names = line.context("the unit names no capabilities")?;
    // include/uapi/linux/capability.h
    let numbers = [
        ("CAP_DAC_READ_SEARCH", DAC_READ_SEARCH),
        ("CAP_NET_ADMIN", 12),
        ("CAP_SYS_PTRACE", 19),
        ("CAP_PERFMON", 38),
        ("CAP_BPF", 39),
    ];
    names.split_whitespace().try_fold(0, |mask, name| {
        let number = numbers.iter().find(|(known, _)| *known == name).map(|(_, number)| number);
        number
            .map(|number| mask | 1 << number)
            .with_context(|| format!("the unit has {name}, which nothing needs"))
    })
}

/// A program of another user that leaks.
fn leak(stage: &Stage) -> Result<[Running; 2]> {
    let program = Stage::repository("xtask/src/e2e/shop.py");
    let port = LEAK.to_string();
    let start = |name: &str, arguments: &[&str]| {
        stage.start(name, Command::new("python3").arg(&program).arg(name).args(arguments))
    };
    let mut server = start("orders-api", &["serve", &port, "leak"])?;
    server.listens(SocketAddr::from(([127, 0, 0, 1], LEAK)))?;
    Ok([server, start("checkout", &["call", "400", &port])?])
}

/// The main job: the leak is reported under its program, and what cannot be had is said.
fn told(manager: &Manager, http: SocketAddr) -> Result<()> {
    stage::until(PATIENCE, || {
        let lines = manager.lines()?;
        let finding = lines
            .iter()
            .find(|line| line["event"] == "tcp.finding" && line.to_string().contains("close_wait_leak"));
        let finding = finding.context("no leak is found")?;
        ensure!(finding.to_string().contains("\"orders-api\""), "the leak is not orders-api's: {finding}");
        Ok(())
    })?;
    let lines = manager.lines()?;
    let degradations: Vec<&Value> = lines.iter().filter(|line| line["event"] == "tcp.degradation").collect();
    for degradation in &degradations {
        eprintln!("   {}", degradation["message"].as_str().unwrap_or_default());
    }
    let metrics = stage::until(PATIENCE, || {
        let metrics = http::get(http, "/metrics")?;
        ensure!(metrics.contains("orders-api"), "no metric has the program's name");
        Ok(metrics)
    })?;
    ensure!(metrics.contains("tcp_trace_build_info"), "no build in the metrics");
    http::get(http, "/healthz")?;
    http::get(http, "/readyz")?;
    Ok(())
}

/// A new file is taken up by the same process; a wrong one is refused, and the old one goes on.
fn reload(manager: &Manager, http: SocketAddr, pid: i32) -> Result<()> {
    manager.write_config(&config(http, "42"))?;
    manager.systemctl(&["reload", UNIT])?;
    stage::until(PATIENCE, || {
        let lines = manager.lines()?;
        let has = |deploy: &str| {
            lines.iter().any(|line| line.to_string().contains(&format!("\"deploy\":\"{deploy}\"")))
        };
        ensure!(has("41") && has("42"), "the new label is not there");
        Ok(())
    })?;
    manager.write_config("[sinks.x]\nlevle = 1\n")?;
    ensure!(manager.systemctl(&["reload", UNIT]).is_err(), "a wrong file was taken");
    http::get(http, "/healthz")?;
    ensure!(manager.pid(UNIT)? == pid, "it is another process after a reload");
    manager.write_config(&config(http, "42"))?;
    eprintln!("   reloaded; a wrong file was refused");
    Ok(())
}

/// One that does not turn any more is replaced.
fn watchdog(manager: &Manager, pid: i32) -> Result<()> {
    let process = Pid::from_raw(pid).context("a pid")?;
    let began = Instant::now();
    kill_process(process, Signal::STOP)?;
    stage::until(PATIENCE, || {
        ensure!(manager.show(UNIT, "ActiveState")? == "active", "it is not at work");
        ensure!(manager.pid(UNIT)? != pid, "it was not replaced");
        Ok(())
    })?;
    ensure!(manager.show(UNIT, "NRestarts")? == "1", "it was not the watchdog's doing");
    eprintln!("   stopped turning, and was replaced after {:.1} s", began.elapsed().as_secs_f64());
    // The one in its place has to have told something, and lost nothing that it could not count.
    thread::sleep(Duration::from_secs(3));
    Ok(())
}
