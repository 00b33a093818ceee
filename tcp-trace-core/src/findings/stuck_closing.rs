//! `stuck_closing`: connections that a program has closed and that wait for their peers.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::{
    Evidence, Finding, Severity, Subject, ends,
    memory::Case,
    subject::{same, who},
};
use crate::{
    report::{ClosingGroup, ProcessIdentity},
    state::TcpState,
};

/// The id of its findings.
pub(super) const ID: &str = "stuck_closing";

/// `[findings.stuck_closing]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// One that waits for longer than this is stuck.
    pub after_s: u64,
    /// Stuck sockets of one process in FIN_WAIT1, CLOSING or LAST_ACK: a warning.
    pub min_sockets: NonZeroU64,
    /// Stuck sockets of one process in FIN_WAIT2: an information. Idle peers that notice late are common.
    pub min_fin_wait2: NonZeroU64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            after_s: 30,
            min_sockets: NonZeroU64::MIN.saturating_add(9),
            min_fin_wait2: NonZeroU64::MIN.saturating_add(99),
        }
    }
}

/// The stuck sockets of one process in one state.
struct Stuck<'a> {
    group: &'a ClosingGroup,
    count: u64,
    oldest_ns: u64,
    /// There are more than are listed one by one.
    more: bool,
}

/// Looks at each process with sockets that wait.
pub(super) fn judge(case: &mut Case<'_>) -> Vec<Finding> {
    let report = case.report;
    let after_ns = case.thresholds.stuck_closing.after_s.saturating_mul(1_000_000_000);
    let mut owners: Vec<Option<&ProcessIdentity>> = Vec::new();
    for group in &report.closing.groups {
        if !owners.iter().any(|known| same(*known, group.process.as_ref())) {
            owners.push(group.process.as_ref());
        }
    }
    let of = |owner: Option<&ProcessIdentity>| {
        let groups = report.closing.groups.iter().filter(|group| same(owner, group.process.as_ref()));
        groups.filter_map(|group| stuck(group, after_ns)).collect::<Vec<_>>()
    };
    owners.iter().filter_map(|owner| finding(case, *owner, &of(*owner))).collect()
}

fn stuck(group: &ClosingGroup, after_ns: u64) -> Option<Stuck<'_>> {
    let old = group.sockets.iter().filter_map(|socket| socket.age_ns).filter(|age| *age >= after_ns);
    let count = old.clone().count();
    let more = count == group.sockets.len() && group.count > count as u64;
    old.max().map(|oldest_ns| Stuck { group, count: count as u64, oldest_ns, more })
}

fn finding(case: &Case<'_>, owner: Option<&ProcessIdentity>, all: &[Stuck<'_>]) -> Option<Finding> {
    let thresholds = case.thresholds.stuck_closing;
    let subject = Subject::process(owner);
    let is_too_many = |stuck: &&Stuck<'_>| {
        let threshold = match stuck.group.state {
            TcpState::FinWait2 => thresholds.min_fin_wait2,
            _ => thresholds.min_sockets,
        };
        // Of more than are listed it is only known that they are at least so many.
        let measure = if stuck.more { stuck.group.count } else { stuck.count };
        case.reaches(&subject, measure as f64, threshold.get() as f64)
    };
    let many: Vec<_> = all.iter().filter(is_too_many).collect();
    // A peer that does not answer is worse than one that does not close.
    let worst = many.iter().max_by_key(|stuck| (stuck.group.state != TcpState::FinWait2, stuck.count))?;
    let fin_wait2 = worst.group.state == TcpState::FinWait2;
    let oldest = many.iter().map(|stuck| stuck.oldest_ns).max();
    let (cause, advice) = sentences(owner, worst);
    Some(Finding {
        id: ID,
        severity: if fin_wait2 { Severity::Info } else { Severity::Warning },
        subject: subject.clone(),
        since: oldest.map(|ns| case.report.window.end.minus(ns)),
        cause,
        advice,
        evidence: evidence(&many),
    })
}

fn sentences(owner: Option<&ProcessIdentity>, stuck: &Stuck<'_>) -> (String, String) {
    let (who, state) = (who(owner), stuck.group.state);
    let at_least = if stuck.more { "at least " } else { "" };
    let peer = stuck.group.peers.first().map_or_else(|| "PEER".to_owned(), |peer| peer.address.to_string());
    let full = stuck.group.zero_window.is_some_and(|zero| zero * 2 > stuck.count);
    let lacks = match state {
        TcpState::FinWait2 => "have acknowledged its FIN and do not close their own side",
        _ if full => "do not read what was sent before its FIN (their receive window is closed)",
        TcpState::LastAck => "closed first, and do not acknowledge its FIN; they are gone, or cut off",
        TcpState::Closing => {
            "closed at the same time, and do not acknowledge its FIN; they are gone, or cut off"
        }
        _ => "do not acknowledge its FIN; they are gone, or cut off",
    };
    let count = stuck.count;
    let cause = format!(
        "{at_least}{count} connections that {who} has closed are stuck in {state}: the peers {lacks}."
    );
    let advice = match state {
        TcpState::FinWait2 => format!(
            "Ask the peers: on {peer}, `ss -tnp state close-wait` shows the program that does not close; here the kernel gives those that nobody holds up after `sysctl net.ipv4.tcp_fin_timeout` seconds."
        ),
        _ if full => format!(
            "Find out why the program on {peer} does not read; here, set TCP_USER_TIMEOUT on such sockets, or give up sooner with `sysctl -w net.ipv4.tcp_orphan_retries=3`."
        ),
        _ => format!(
            "See whether the peers answer: `ping -c 3 {peer}`; to give up sooner, set TCP_USER_TIMEOUT on such sockets, or `sysctl -w net.ipv4.tcp_orphan_retries=3`."
        ),
    };
    (capitalised(&cause), advice)
}

/// A sentence begins with a capital letter, unless it begins with a number.
fn capitalised(text: &str) -> String {
    text.strip_prefix("at least").map_or_else(|| text.to_owned(), |rest| format!("At least{rest}"))
}

fn evidence(many: &[&Stuck<'_>]) -> Vec<Evidence> {
    let mut evidence = Vec::new();
    for stuck in many {
        let name = match stuck.group.state {
            TcpState::FinWait1 => "in FIN_WAIT1",
            TcpState::FinWait2 => "in FIN_WAIT2",
            TcpState::LastAck => "in LAST_ACK",
            _ => "in CLOSING",
        };
        let source = "closing.groups[].sockets[].age_ns: older than after_s";
        evidence.push(Evidence::new(name, stuck.count, "sockets", source));
        evidence.push(Evidence::new("oldest", stuck.oldest_ns, "ns", "closing.groups[].sockets[].age_ns"));
        let orphans = stuck.group.orphans;
        evidence.push(Evidence::new("held by nobody", orphans, "sockets", "closing.groups[].orphans"));
        let peers = ends::common(&stuck.group.peers, stuck.group.count);
        evidence.extend(peers.map(|peers| Evidence::new("peers", peers, "", "closing.groups[].peers")));
    }
    evidence
}
