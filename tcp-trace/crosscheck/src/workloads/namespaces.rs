//! Network namespaces by the hundred, with a listener and a connection in each.

use std::{collections::HashMap, time::Duration};

use anyhow::Result;
use serde_json::Value;
use tcp_trace_testkit::{Helper, NetNs};

use crate::{
    check::{self, Check, Outcome},
    child::Ended,
};

/// The same in each, so that nothing but the namespace tells them apart.
const PORT: u16 = 31_800;
const PATIENCE: Duration = Duration::from_secs(30);
/// What a listener, a connection, and the end of all three sockets are.
const EVENTS: usize = 5;

pub(crate) fn run(check: &Check, outcome: &mut Outcome) -> Result<()> {
    let number = if check.quick { 40 } else { 200 };
    // Of all namespaces of this host.
    let stream = check.tcp_trace(&["stream", "--json", "--strict", "--mode", "stream"])?;
    let mut inhabited = Vec::new();
    for _ in 0..number {
        let ns = NetNs::new()?;
        let mut helper = Helper::spawn(&ns, "crowd", &["count=1", &format!("port={PORT}")])?;
        helper.expect("ready", PATIENCE)?;
        inhabited.push((ns, helper));
    }
    let snapshot = check.document(&["snapshot", "--sockets", "--json"])?;
    std::thread::sleep(Duration::from_millis(500));
    let stream = check::stop(stream)?;
    let owners: HashMap<u64, u32> =
        inhabited.iter().map(|(ns, helper)| (ns.inum().into(), helper.pid())).collect();
    outcome.figure("network namespaces, each with a listener and a connection", owners.len());
    judge_stream(&stream, &owners, outcome)?;
    judge_snapshot(&snapshot, &owners, outcome);
    Ok(())
}

/// Each namespace has its own transitions, under its own process or none.
fn judge_stream(stream: &Ended, owners: &HashMap<u64, u32>, outcome: &mut Outcome) -> Result<()> {
    let mut events: HashMap<u64, usize> = HashMap::new();
    let (mut right, mut unknown) = (0_u64, 0_u64);
    stream.each_line(|line| {
        let event: Value = serde_json::from_str(line)?;
        let Some((netns, owner)) =
            event["netns"].as_u64().and_then(|netns| Some((netns, owners.get(&netns)?)))
        else {
            return Ok(());
        };
        *events.entry(netns).or_default() += 1;
        match event["process"]["pid"].as_u64() {
            None => unknown += 1,
            Some(pid) if pid == u64::from(*owner) => right += 1,
            Some(_) => outcome.difference(format!("namespace {netns} has process {owner} alone: {event}")),
        }
        Ok(())
    })?;
    outcome.equal(
        "namespaces with exactly their own transitions",
        events.values().filter(|count| **count == EVENTS).count() as u64,
        owners.len() as u64,
    );
    outcome.figure("  owners of these transitions", format!("{right} right, {unknown} not known"));
    Ok(())
}

/// The survey finds every namespace, and the three sockets in it.
fn judge_snapshot(snapshot: &Value, owners: &HashMap<u64, u32>, outcome: &mut Outcome) {
    let mut found: HashMap<u64, usize> = HashMap::new();
    for socket in snapshot["sockets"].as_array().into_iter().flatten() {
        let Some((netns, owner)) =
            socket["netns"].as_u64().and_then(|netns| Some((netns, owners.get(&netns)?)))
        else {
            continue;
        };
        let holders = socket["holders"].as_array().map_or(&[][..], Vec::as_slice);
        if holders.len() == 1 && holders.iter().all(|holder| holder["pid"] == *owner) {
            *found.entry(netns).or_default() += 1;
        } else {
            outcome.difference(format!("held by process {owner} alone: {socket}"));
        }
    }
    let complete = found.values().filter(|count| **count == 3).count() as u64;
    outcome.equal(
        "namespaces of which a snapshot has all three sockets and who holds them",
        complete,
        owners.len() as u64,
    );
}
