//! `ss` and `/proc/net/tcp`: what both see of a socket at the same moment must be the same.
//!
//! No two programs look at the same moment. So ss looks before and after: of a socket that it shows unchanged, down to the
//! number of segments, tcp-trace has to show exactly that. One that changed may be as before or as after; anything else is
//! put before tcp-trace's own stream, which has to show the transition between.

mod load;
mod look;
mod row;

use std::{
    collections::HashMap,
    process::Command,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tcp_trace_testkit::{NetNs, sock};

use self::{
    load::{Load, Random},
    look::{Doubt, Looks, Tally, Theirs},
};
use crate::{
    check::{self, Check, Outcome},
    child::{Ended, Running},
};

/// How far the clock of the stream and ours may be apart: it is read once, at its start.
const SLACK_NS: i128 = 20_000_000;

pub(crate) fn run(check: &Check, outcome: &mut Outcome) -> Result<()> {
    if crate::child::find("ss").is_none() {
        outcome.lack("ss is not installed (apt-get install iproute2)");
        return Ok(());
    }
    let loads = [Load::of_one_process()?, Load::of_many_processes()?];
    let streams = loads.iter().map(|load| {
        let netns = load.ns().inum().to_string();
        check.tcp_trace(&["stream", "--json", "--mode", "stream", "--strict", "--netns", &netns])
    });
    let streams = streams.collect::<Result<Vec<_>>>()?;
    let mut tally = Tally::default();
    let mut random = Random::default();
    for number in 0..check.samples {
        thread::sleep(Duration::from_micros(random.below(20_000)));
        let load = if number % 2 == 0 { &loads[0] } else { &loads[1] };
        tally.add(&look(check, load.ns())?);
    }
    let mut times = HashMap::new();
    streams.into_iter().try_for_each(|stream| transitions(&check::stop(stream)?, &mut times))?;
    tell(&tally, &times, outcome);
    loads.into_iter().try_for_each(Load::stop)
}

fn look(check: &Check, ns: &NetNs) -> Result<Looks> {
    let began = now()?;
    let before = ss(ns)?;
    let table = sock::table(ns)?.iter().map(row::of_table).collect();
    let ours = check.snapshot(ns)?;
    let after = ss(ns)?;
    let window = (began - SLACK_NS, now()? + SLACK_NS);
    let read = |socket: &Value| row::of_ours(socket).with_context(|| format!("cannot read {socket}"));
    let ours = ours.iter().map(read).collect::<Result<_>>()?;
    Ok(Looks { before, ours, table, after, window })
}

fn ss(ns: &NetNs) -> Result<Theirs> {
    let ended = Running::start_in(ns, Command::new("ss").args(["-tanpieOH"]))?.wait()?.succeeded()?;
    let text = ended.stdout()?;
    let read = |line| {
        let (cookie, row, passed) = row::of_ss(line).with_context(|| format!("cannot read {line}"))?;
        Ok((cookie, (row, passed)))
    };
    text.lines().map(read).collect()
}

fn now() -> Result<i128> {
    Ok(i128::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?)
}

/// When each socket made a transition.
fn transitions(stream: &Ended, times: &mut HashMap<u64, Vec<i128>>) -> Result<()> {
    stream.each_line(|line| {
        let event: Value = serde_json::from_str(line).context("a line of the stream")?;
        let at = event["time"].as_str().and_then(nanoseconds);
        if let Some((cookie, at)) = event["cookie"].as_u64().zip(at) {
            times.entry(cookie).or_default().push(at);
        }
        Ok(())
    })
}

/// `2026-01-15T03:00:05.448560000Z` as nanoseconds since 1970.
fn nanoseconds(text: &str) -> Option<i128> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (seconds, fraction) = time.split_once('.')?;
    let [year, month, day] = three(date, '-')?;
    let [hour, minute, second] = three(seconds, ':')?;
    // Days from civil: years that begin in March have the leap day at their end.
    let (year, month): (i64, i64) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let seconds: i64 = ((days * 24 + hour) * 60 + minute) * 60 + second;
    Some(i128::from(seconds) * 1_000_000_000 + fraction.parse::<i128>().ok()?)
}

fn three(text: &str, by: char) -> Option<[i64; 3]> {
    let numbers: Option<Vec<i64>> = text.split(by).map(|part| part.parse().ok()).collect();
    numbers?.try_into().ok()
}

fn tell(tally: &Tally, transitions: &HashMap<u64, Vec<i128>>, outcome: &mut Outcome) {
    let Tally { looks, equal, changed, doubtful, table_equal, states } = tally;
    outcome.figure("samples: ss, then tcp-trace, then ss again", looks);
    outcome.figure("sockets in them that stood still, and are equal in everything", equal);
    let mut states: Vec<_> = states.iter().collect();
    states.sort();
    states.iter().for_each(|(state, count)| outcome.figure(format!("  {state}"), count));
    outcome.figure("of these, those that /proc/net/tcp shows alike", table_equal);
    outcome.figure("sockets that moved meanwhile, and are as before or as after", changed);
    let moved = |doubt: &&Doubt| {
        let times = transitions.get(&doubt.cookie).into_iter().flatten();
        doubt.by_transition && times.clone().any(|at| (doubt.window.0..=doubt.window.1).contains(at))
    };
    let (explained, differences): (Vec<&Doubt>, Vec<&Doubt>) = doubtful.iter().partition(moved);
    outcome.figure("sockets that moved further, as the stream shows", explained.len());
    for Doubt { cookie, what, .. } in differences {
        outcome.difference(format!("socket {cookie:x}: {what}"));
    }
    outcome.holds("sockets were compared", *equal > 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(nanoseconds("1970-01-01T00:00:00.000000001Z"), Some(1));
        assert_eq!(nanoseconds("2026-01-15T03:00:05.448560000Z"), Some(1_768_446_005_448_560_000));
        assert_eq!(nanoseconds("2024-02-29T00:00:00.000000000Z"), Some(1_709_164_800_000_000_000));
        assert_eq!(nanoseconds("2026-01-15 03:00:05"), None);
    }

    #[test]
    fn a_doubt_is_settled_by_a_transition_in_its_window_alone() {
        let doubt = |by_transition| Doubt { cookie: 1, window: (10, 20), what: String::new(), by_transition };
        let judged = |doubt: Doubt, at: i128| {
            let tally = Tally { doubtful: vec![doubt], equal: 1, ..Tally::default() };
            let mut outcome = Outcome::default();
            tell(&tally, &HashMap::from([(1, vec![at])]), &mut outcome);
            outcome.differences.len()
        };
        assert_eq!([judged(doubt(true), 15), judged(doubt(true), 25), judged(doubt(false), 15)], [0, 1, 1]);
    }
}
