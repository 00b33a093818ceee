//! `port_exhaustion`: no local port will be left for new connections to a destination.

use serde::{Deserialize, Serialize};

use super::{
    Evidence, Finding, Severity, Share, Subject,
    memory::{Case, Rate},
    subject::{boxed, who},
};
use crate::report::{Connect, ProcessIdentity, TimeWaitDestination};

/// The id of its findings.
pub(super) const ID: &str = "port_exhaustion";

/// `[findings.port_exhaustion]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// The share of the ports between a local address and a destination that are taken: a warning.
    pub min_share: Share,
    /// So many: critical. So is any attempt that finds no port, and a rate at which none will be left.
    pub critical_share: Share,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { min_share: Share::new(0.5), critical_share: Share::new(0.9) }
    }
}

/// Spans of ten seconds in a minute, which is how long a socket is in TIME_WAIT.
const SPANS: u64 = 6;

/// The ports between a local address and a destination.
#[derive(Clone, Copy, Debug)]
struct Ports<'a> {
    row: &'a TimeWaitDestination,
    /// All that there are.
    all: u64,
    /// By sockets in TIME_WAIT and live ones.
    taken: u64,
    /// Attempts that found none.
    refused: u64,
}

impl Ports<'_> {
    fn share(&self) -> f64 {
        self.taken as f64 / self.all.max(1) as f64
    }

    /// What will be taken in a minute if sockets go on to enter TIME_WAIT as they did in the last ten seconds.
    fn projected(&self) -> u64 {
        self.row.arrived * SPANS + self.row.live.unwrap_or(0)
    }

    fn rate(&self) -> Rate {
        let per_min = (self.row.arrived as f64 - self.row.leaving as f64) * SPANS as f64;
        Rate { per_min, reports: 1 }
    }

    /// How long until none is left; `None` if the present rate does not take that many.
    fn time_left(&self, slope: Option<Rate>) -> Option<u64> {
        let left = self.all.saturating_sub(self.taken) as f64;
        if self.projected() >= self.all {
            return self.rate().time_for(left);
        }
        // Live connections become more; sockets in TIME_WAIT alone would level off.
        let live_grows = self.row.live.unwrap_or(0) > self.row.count;
        slope.filter(|_| live_grows).and_then(|slope| slope.time_for(left))
    }
}

/// Looks at each destination; attempts that found no port are told also where nobody has counted the ports.
pub(super) fn judge(case: &mut Case<'_>) -> Vec<Finding> {
    let report = case.report;
    let mut told = Vec::new();
    let mut findings = Vec::new();
    for row in report.time_wait.destinations.iter().flatten() {
        let Some(all) = row.ports else { continue };
        let refused = if told.contains(&row.peer) { 0 } else { refused(&report.connect, row) };
        let ports = Ports { row, all, taken: row.count + row.live.unwrap_or(0), refused };
        if let Some(finding) = exhausted(case, &ports) {
            told.push(row.peer);
            findings.push(finding);
        }
    }
    let untold = report.connect.iter().filter(|row| row.peer.is_none_or(|peer| !told.contains(&peer)));
    findings.extend(untold.flat_map(without_ports));
    findings
}

fn refused(connects: &[Connect], row: &TimeWaitDestination) -> u64 {
    let here = connects.iter().filter(|connect| connect.peer == Some(row.peer));
    here.flat_map(|connect| &connect.failing).map(|failing| failing.no_port).sum()
}

fn exhausted(case: &mut Case<'_>, ports: &Ports<'_>) -> Option<Finding> {
    let Ports { row, all, taken, refused } = *ports;
    let thresholds = case.thresholds.port_exhaustion;
    // The one that closed most of them, if it closed most of all.
    let closer = row.closers.first().filter(|closer| closer.count * 2 > row.count);
    let closer = closer.and_then(|closer| closer.process.as_ref());
    let subject =
        Subject::LocalPorts { netns: row.netns, local: row.local, peer: row.peer, process: boxed(closer) };
    let slope = (taken > 0).then(|| case.slope(&subject, "taken", taken as f64)).flatten();
    // Such ports are given out again when they are needed.
    let reused = row.reuse == Some(true) && row.count >= row.live.unwrap_or(0);
    if refused == 0 && (reused || !case.reaches(&subject, ports.share(), thresholds.min_share.get())) {
        return None;
    }
    let full = ports.share() >= thresholds.critical_share.get();
    let severity =
        if refused > 0 || full || ports.projected() >= all { Severity::Critical } else { Severity::Warning };
    let time_left = ports.time_left(slope);
    Some(Finding {
        id: ID,
        severity,
        subject,
        since: case.since_this_window(),
        cause: cause(ports, closer),
        advice: advice(ports, closer),
        evidence: evidence(ports, slope, time_left),
    })
}

fn cause(ports: &Ports<'_>, closer: Option<&ProcessIdentity>) -> String {
    let Ports { row, all, taken, refused } = *ports;
    let TimeWaitDestination { local, peer, count, live, .. } = row;
    let closes = match closer {
        Some(_) => format!(", since {} closes its connections first", who(closer)),
        None if row.closers.len() > 1 => {
            ", since processes of this host close their connections first".to_owned()
        }
        None => ", since this host closes its connections first".to_owned(),
    };
    let by = match live.unwrap_or(0) {
        live if live > *count => format!("{live} of them by live connections"),
        _ => format!("{count} of them by sockets in TIME_WAIT{closes}"),
    };
    let refused = if refused > 0 {
        format!("; {refused} attempts found none and failed (EADDRNOTAVAIL)")
    } else {
        String::new()
    };
    format!("{taken} of the {all} local ports from {local} to {peer} are taken, {by}{refused}.")
}

fn advice(ports: &Ports<'_>, closer: Option<&ProcessIdentity>) -> String {
    let program = closer.map_or_else(|| "the client".to_owned(), |closer| who(Some(closer)));
    let meanwhile = "`sysctl -w net.ipv4.ip_local_port_range='1024 65535'`";
    if ports.row.live.unwrap_or(0) > ports.row.count {
        return format!(
            "Give {program} a pool with a limit, or more addresses to connect to; until then: {meanwhile}."
        );
    }
    let reuse = if ports.row.reuse == Some(false) { " and `sysctl -w net.ipv4.tcp_tw_reuse=1`" } else { "" };
    format!(
        "Let {program} keep connections open: HTTP keep-alive or a pool (nginx: `keepalive 32;` in the upstream, \
         `proxy_http_version 1.1;`); until then: {meanwhile}{reuse}."
    )
}

fn evidence(ports: &Ports<'_>, slope: Option<Rate>, time_left: Option<u64>) -> Vec<Evidence> {
    let Ports { row, all, refused, .. } = *ports;
    let timers = "time_wait.destinations[]: arrived and leaving, within ten seconds, by their timers";
    let mut evidence = vec![
        Evidence::new("taken", ports.share(), "share", "time_wait.destinations[]: (count + live) / ports"),
        Evidence::new("TIME_WAIT", row.count, "ports", "time_wait.destinations[].count"),
        Evidence::new("live", row.live, "ports", "time_wait.destinations[].live"),
        Evidence::new("ip_local_port_range", all, "ports", "time_wait.destinations[].ports"),
        Evidence::new("growth", ports.rate().per_min, "ports/min", timers),
    ];
    if let Some(Rate { per_min, reports }) = slope {
        evidence.push(Evidence::new(
            "growth of all",
            per_min,
            "ports/min",
            "findings: from report to report",
        ));
        evidence.push(Evidence::new("growth over", reports, "reports", "findings"));
    }
    let inferred = "inferred: six times those that arrived in ten seconds, and the live ones";
    evidence.push(Evidence::new("heading for", ports.projected(), "ports", inferred));
    if let Some(left) = time_left {
        evidence.push(Evidence::new("none left in", left, "ns", "inferred: ports left / growth"));
    }
    if refused > 0 {
        evidence.push(Evidence::new("EADDRNOTAVAIL", refused, "attempts", "connect[].failing[].no_port"));
    }
    evidence
}

/// Attempts that found no port, where the ports are not counted.
fn without_ports(connect: &Connect) -> Vec<Finding> {
    let peer = connect.peer;
    let place = peer.map_or_else(|| "destinations beyond those listed".to_owned(), |peer| peer.to_string());
    let failing = connect.failing.iter().filter(|failing| failing.no_port > 0);
    failing
        .map(|failing| {
            let process = failing.process.as_ref();
            let (count, who) = (failing.no_port, who(process));
            Finding {
                id: ID,
                severity: Severity::Critical,
                subject: Subject::Destination { peer, process: boxed(process) },
                since: Some(failing.first),
                cause: format!("{count} attempts of {who} to connect to {place} found no free local port (EADDRNOTAVAIL)."),
                advice: format!(
                    "Let {who} keep connections open (keep-alive, a pool) or close those that it does not need; \
                     until then: `sysctl -w net.ipv4.ip_local_port_range='1024 65535'`."
                ),
                evidence: vec![Evidence::new("EADDRNOTAVAIL", count, "attempts", "connect[].failing[].no_port")],
            }
        })
        .collect()
}
