//! `/proc/net/snmp` and `netstat`, which `nstat` reads too: what the kernel counts itself, over the same window.

use std::{collections::HashMap, net::SocketAddr, process::Command, thread, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tcp_trace_testkit::{
    ConnOptions, ListenOptions, World,
    peer::clients_of,
    sock,
    workload::{ChurnPlan, churn},
    world::{PEER, SERVER},
};

use super::tcpstates::count;
use crate::{
    check::{self, Check, Outcome, is_whole},
    child::{self, Running},
};

/// SYNs of the flood.
const FLOOD: u8 = 60;

pub(crate) fn run(check: &Check, outcome: &mut Outcome) -> Result<()> {
    let world = World::new()?;
    let ns = &world.ns;
    ns.sysctl("net.ipv4.tcp_syncookies", 1)?;
    // A namespace that no process lives in is not found.
    let _inhabitant = Running::start_in(ns, Command::new("sleep").arg("1000000"))?;
    let report =
        check.tcp_trace(&["report", "--json", "--mode", "stream", "--netns", &ns.inum().to_string()])?;
    // The first survey has read the counters by then.
    thread::sleep(Duration::from_millis(700));
    let before = sock::counters(ns)?;
    let made = churn(ns, check.transitions.min(200_000) / 10, &ChurnPlan::default())?.connections;
    let _open = odd_ends(&world)?;
    // What is open at the end has to be still.
    thread::sleep(Duration::from_millis(300));
    let after = sock::counters(ns)?;
    let nstat = nstat(ns)?;
    let report = check::stop(report)?.json()?;
    is_whole(&report, outcome);
    outcome.figure("connections of the churn", made);
    compare(&report, &Window { before, after }, outcome);
    if let Some(nstat) = nstat {
        let of = |name: &str| report["half_open"]["namespaces"][0][name].as_u64().unwrap_or(0);
        for (theirs, ours) in [("TcpPassiveOpens", "passive_opens"), ("TcpActiveOpens", "active_opens")] {
            outcome.equal(
                &format!("half_open.namespaces: {ours}, nstat {theirs}"),
                of(ours),
                nstat.get(theirs).copied().unwrap_or(0),
            );
        }
    } else {
        outcome.lack("nstat is not installed (apt-get install iproute2)");
    }
    Ok(())
}

struct Window {
    before: HashMap<String, i64>,
    after: HashMap<String, i64>,
}

impl Window {
    fn of(&self, name: &str) -> u64 {
        let [before, after] =
            [&self.before, &self.after].map(|counters| counters.get(name).copied().unwrap_or(0));
        u64::try_from(after - before).unwrap_or(0)
    }
}

/// Refused, reset, never accepted, a flood, cookies, an accept queue that is full; what is left open.
fn odd_ends(world: &World) -> Result<Vec<Box<dyn std::any::Any>>> {
    let mut open: Vec<Box<dyn std::any::Any>> = Vec::new();
    let ns = &world.ns;
    let nobody: SocketAddr = "127.0.0.1:1".parse()?;
    for _ in 0..7 {
        ns.run(|| sock::connect(None, nobody)).err().context("somebody listens on port 1")?;
    }
    let listener = world.listen(&ListenOptions::default())?;
    for number in 0..9_u16 {
        let from = SocketAddr::new(PEER.ip(), PEER.port() + number);
        let mut client = world.peer.connect_from(from, SERVER, ConnOptions::default());
        client.handshake()?;
        let (server, _) = listener.accept()?;
        match number % 3 {
            0 => _ = client.send_rst()?,
            1 => sock::abort_on_close(&server)?,
            _ => open.push(Box::new((client, server))),
        }
    }
    drop(listener);
    // More SYNs than the queue of requests has room for: the kernel answers the others with cookies.
    let listener = world.listen(&ListenOptions { backlog: 4, ..ListenOptions::default() })?;
    let flood = world.peer.flood(SERVER, clients_of(9, FLOOD))?;
    open.push(Box::new((flood, listener)));
    Ok(open)
}

fn compare(report: &Value, window: &Window, outcome: &mut Outcome) {
    let steps = |steps: &[(&str, &str)]| steps.iter().map(|(old, new)| count(report, old, new)).sum::<u64>();
    let rows: [(&str, u64, &str); 4] = [
        ("CLOSE > SYN_SENT", steps(&[("CLOSE", "SYN_SENT")]), "Tcp.ActiveOpens"),
        ("LISTEN > SYN_RECV", steps(&[("LISTEN", "SYN_RECV")]), "Tcp.PassiveOpens"),
        (
            "ESTABLISHED, CLOSE_WAIT > CLOSE",
            steps(&[("ESTABLISHED", "CLOSE"), ("CLOSE_WAIT", "CLOSE")]),
            "Tcp.EstabResets",
        ),
        (
            "SYN_SENT, SYN_RECV > CLOSE",
            steps(&[("SYN_SENT", "CLOSE"), ("SYN_RECV", "CLOSE")]),
            "Tcp.AttemptFails",
        ),
    ];
    for (what, ours, theirs) in rows {
        outcome.equal(&format!("{what}, {theirs}"), ours, window.of(theirs));
    }
    let live = |state: &str| report["states"][state]["live"].as_u64().unwrap_or(0);
    // Since 6.11 the gauge has those in CLOSE_WAIT, too (`tcp_set_state` in net/ipv4/tcp.c).
    let current = u64::try_from(window.after.get("Tcp.CurrEstab").copied().unwrap_or(0)).unwrap_or(0);
    outcome.equal(
        "live ESTABLISHED and CLOSE_WAIT, Tcp.CurrEstab",
        live("ESTABLISHED") + live("CLOSE_WAIT"),
        current,
    );
    let theirs = [
        ("listen_overflows", "TcpExt.ListenOverflows"),
        ("listen_drops", "TcpExt.ListenDrops"),
        ("syncookies_sent", "TcpExt.SyncookiesSent"),
        ("syncookies_received", "TcpExt.SyncookiesRecv"),
        ("syncookies_failed", "TcpExt.SyncookiesFailed"),
        ("request_queue_full_cookies", "TcpExt.TCPReqQFullDoCookies"),
        ("request_queue_full_drops", "TcpExt.TCPReqQFullDrop"),
        ("embryonic_resets", "TcpExt.EmbryonicRsts"),
        ("passive_opens", "Tcp.PassiveOpens"),
        ("active_opens", "Tcp.ActiveOpens"),
        ("attempt_fails", "Tcp.AttemptFails"),
    ];
    let told = &report["half_open"]["namespaces"][0];
    for (ours, theirs) in theirs {
        outcome.equal(
            &format!("half_open.namespaces: {ours}, {theirs}"),
            told[ours].as_u64().unwrap_or(0),
            window.of(theirs),
        );
    }
    outcome.holds("the flood was answered with cookies", told["syncookies_sent"].as_u64() > Some(0));
}

/// What nstat says of the whole life of the namespace.
fn nstat(ns: &tcp_trace_testkit::NetNs) -> Result<Option<HashMap<String, u64>>> {
    let Some(nstat) = child::find("nstat") else { return Ok(None) };
    // It reads its own namespace's files, of which /proc/net is one.
    let ended = Running::start_in(ns, Command::new(nstat).args(["-a", "-s", "-z"]))?.wait()?.succeeded()?;
    let text = ended.stdout()?;
    let read = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    Ok(Some(text.lines().filter_map(read).collect()))
}
