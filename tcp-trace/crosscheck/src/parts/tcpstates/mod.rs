//! libbpf-tools' tcpstates, on the same transitions at the same time.

mod comparison;
mod load;
mod transition;

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;
use tcp_trace_testkit::{NetNs, sock};

use self::{
    comparison::{Differences, Streams},
    transition::{End, Transition},
};
use crate::{
    check::{self, Check, Outcome, is_whole},
    child::{self, Running},
};

/// Nobody listens there, and nobody else connects to it: such a connection marks a moment in both streams.
const MARK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 198, 18, 1)), 9);
/// How long a program may take to be attached after its programs are loaded, and to print what it has seen.
const SETTLE: Duration = Duration::from_secs(2);

pub(crate) fn run(check: &Check, outcome: &mut Outcome) -> Result<()> {
    let Some(tcpstates) = child::find("tcpstates") else {
        outcome.lack("tcpstates is not installed (apt-get install libbpf-tools)");
        return Ok(());
    };
    let ns = NetNs::new()?;
    let netns = ns.inum().to_string();
    // The first is what is compared; the second has the counts of this namespace alone, to be held against the kernel's.
    let ours = check.tcp_trace(&["stream", "--csv", "--strict", "--mode", "stream"])?;
    let counts = check.tcp_trace(&["report", "--json", "--mode", "stream", "--netns", &netns])?;
    let mut command = Command::new(tcpstates);
    let mut theirs = Running::start(child::with_tracefs(command.arg("-w")))?;
    let pid = theirs.pid();
    theirs.until("its program", || Ok(child::skipped_programs(pid).is_some()))?;
    thread::sleep(SETTLE);
    mark(&ns)?;
    let made = load::run(&ns, check)?;
    thread::sleep(SETTLE);
    mark(&ns)?;
    thread::sleep(SETTLE);
    let skipped =
        child::skipped_programs(pid).context("the kernel does not tell how often it skips programs")?;
    let theirs = theirs.stop()?;
    let counts = check::stop(counts)?.json()?;
    let ours = check::stop(ours)?;

    let mut streams = Streams::default();
    theirs.each_line(|line| {
        Transition::of_tcpstates(line).into_iter().for_each(|transition| streams.add_theirs(transition));
        Ok(())
    })?;
    read_ours(&ours, &mut streams)?;
    let lost = lost(&theirs.stderr()?);
    outcome.figure("connections that the load counted", made.connections);
    outcome.figure("transitions printed by tcpstates", streams.theirs);
    outcome.figure(
        "transitions printed by tcp-trace, and of these in the window",
        format!("{}, {}", streams.ours, streams.inside),
    );
    judge(&streams.compare(), Losses { lost, skipped }, outcome);
    is_whole(&counts, outcome);
    hold_against_counters(&counts, &ns, made.connections, outcome)
}

/// A connection that is refused, on each CPU: whatever a program has lost on one it tells with its next event there.
fn mark(ns: &NetNs) -> Result<()> {
    ns.run(|| {
        let all = sched_getaffinity(None)?;
        for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)) {
            let mut one = CpuSet::new();
            one.set(cpu);
            sched_setaffinity(None, &one)?;
            ensure!(sock::connect(None, MARK).is_err(), "somebody listens on {MARK}");
        }
        Ok(())
    })
}

/// Between the marks the other program was at work.
fn read_ours(ours: &child::Ended, streams: &mut Streams) -> Result<()> {
    let mark = End { address: MARK.ip(), port: MARK.port() };
    let (mut first, mut last, mut at) = (None, None, 0_u64);
    let mut each = |take: &mut dyn FnMut(u64, Transition)| {
        at = 0;
        ours.each_line(|line| {
            at += 1;
            Transition::of_ours(line).into_iter().for_each(|transition| take(at, transition));
            Ok(())
        })
    };
    each(&mut |at, transition| {
        if transition.peer == mark {
            first.get_or_insert(at);
            last = Some(at);
        }
    })?;
    let (first, last) = first.zip(last).context("tcp-trace has not seen the marks")?;
    each(&mut |at, transition| streams.add_ours(transition, (first..=last).contains(&at)))
}

/// What tcpstates did not get, and how that is known.
struct Losses {
    /// It says so itself: its buffers were full.
    lost: u64,
    /// The kernel says so: the program was skipped, because another one was at work on that CPU.
    skipped: u64,
}

fn judge(differences: &Differences, Losses { lost, skipped }: Losses, outcome: &mut Outcome) {
    let Differences { not_ours, not_theirs, changed, reordered, ours_impossible, theirs_impossible, equal } =
        differences;
    outcome.figure("transitions that both have, with equal states, addresses and ports", equal);
    outcome.figure("those that tcpstates has and tcp-trace has not", not_ours.len());
    outcome.figure("those that tcp-trace has and tcpstates has not", not_theirs.len());
    outcome.figure("events that tcpstates says it lost (its buffers were full)", lost);
    outcome.figure("times that the kernel skipped its program (recursion_misses)", skipped);
    outcome.figure("those with other addresses or ports", changed.len());
    outcome.figure("sockets whose transitions stand in another order", reordered);
    not_ours.iter().for_each(|one| outcome.difference(format!("tcpstates alone has {one}")));
    changed.iter().for_each(|(ours, theirs)| outcome.difference(format!("{ours}, and tcpstates: {theirs}")));
    let unseen = not_theirs.len() as u64;
    if unseen > 0 && unseen == lost + skipped {
        outcome.explain(format!(
            "{unseen} transitions that only tcp-trace has: exactly as many as tcpstates says it lost ({lost}) and the kernel \
             says it skipped its program ({skipped})"
        ));
    } else {
        not_theirs.iter().for_each(|one| outcome.difference(format!("tcp-trace alone has {one}")));
    }
    if *ours_impossible > 0 {
        outcome.difference(format!(
            "{ours_impossible} sockets have an order in tcp-trace's stream that is not possible"
        ));
    }
    if *reordered > 0 {
        outcome.explain(format!(
            "order: tcpstates prints what its CPUs' buffers have one buffer after the other; of {reordered} sockets with \
             another order, {theirs_impossible} leave a state in it that they were not in, and {ours_impossible} in tcp-trace's"
        ));
    }
}

/// `lost N events on CPU #M`, on its standard error.
fn lost(stderr: &str) -> u64 {
    let after = stderr.split("ost ").skip(1);
    after.filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok()).sum()
}

/// The third witness: what the kernel counted in the namespace.
fn hold_against_counters(report: &Value, ns: &NetNs, connections: u64, outcome: &mut Outcome) -> Result<()> {
    let kernel = sock::counters(ns)?;
    let of = |name: &str| {
        kernel.get(&format!("Tcp.{name}")).and_then(|value| u64::try_from(*value).ok()).unwrap_or(0)
    };
    let ours = |steps: &[(&str, &str)]| steps.iter().map(|(old, new)| count(report, old, new)).sum::<u64>();
    outcome.equal("CLOSE > SYN_SENT, ActiveOpens", ours(&[("CLOSE", "SYN_SENT")]), of("ActiveOpens"));
    outcome.equal("LISTEN > SYN_RECV, PassiveOpens", ours(&[("LISTEN", "SYN_RECV")]), of("PassiveOpens"));
    let failed = ours(&[("SYN_SENT", "CLOSE"), ("SYN_RECV", "CLOSE")]);
    outcome.equal("SYN_SENT, SYN_RECV > CLOSE, AttemptFails", failed, of("AttemptFails"));
    let cut = ours(&[("ESTABLISHED", "CLOSE"), ("CLOSE_WAIT", "CLOSE")]);
    outcome.equal("ESTABLISHED, CLOSE_WAIT > CLOSE, EstabResets", cut, of("EstabResets"));
    outcome.equal(
        "SYN_RECV > ESTABLISHED, the load's own count",
        ours(&[("SYN_RECV", "ESTABLISHED")]),
        connections,
    );
    Ok(())
}

/// How often a report counts a transition.
pub(super) fn count(report: &Value, old: &str, new: &str) -> u64 {
    let cells = report["transitions"].as_array().into_iter().flatten();
    cells
        .filter(|cell| cell["old"] == old && cell["new"] == new)
        .filter_map(|cell| cell["count"].as_u64())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tcpstates_says_it_lost_is_added_up() {
        assert_eq!(lost("lost 12 events on CPU #0\nLost 30 events on CPU #1!\n"), 42);
        assert_eq!(lost("nothing"), 0);
    }

    #[test]
    fn losses_explain_as_many_transitions_as_they_are() {
        let one = Transition::of_ours("a,1,x,4,::1,80,::1,5,CLOSE,LISTEN,-").unwrap();
        let missing = || Differences { not_theirs: vec![one, one], ..Differences::default() };
        let judged = |lost, skipped| {
            let mut outcome = Outcome::default();
            judge(&missing(), Losses { lost, skipped }, &mut outcome);
            outcome.differences.len()
        };
        assert_eq!([judged(1, 1), judged(0, 1), judged(2, 1)], [0, 2, 2]);
    }

    #[test]
    fn what_only_they_have_is_never_explained() {
        let one = Transition::of_ours("a,1,x,4,::1,80,::1,5,CLOSE,LISTEN,-").unwrap();
        let mut outcome = Outcome::default();
        judge(
            &Differences { not_ours: vec![one], ..Differences::default() },
            Losses { lost: 1, skipped: 1 },
            &mut outcome,
        );
        assert_eq!(outcome.differences.len(), 1);
    }
}
