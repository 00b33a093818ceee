//! Passive handshakes: completed, dead and live ones, per listener.

use std::{cmp::Reverse, collections::BTreeMap};

use rustc_hash::FxHashMap;

use super::{identity, unattributed};
use crate::{
    report::{HalfOpen, Listener, PrefixCount, Queue},
    session::Attach,
    state::TcpState,
    tracker::{
        Tracker,
        sources::{Prefix, Requests, Sources},
        tally::{HandshakeTally, ListenerKey},
    },
};

/// Prefixes listed per listener.
const PREFIXES: usize = 5;

/// What is known of the requests, and may be `None` altogether.
struct Known {
    /// Without the fields of the socket, or an owner for each count, a cookie cannot be told from any other handshake.
    cookies: bool,
    /// Without a watch on every request, those that die between two surveys go unnoticed.
    deaths: bool,
    live: Option<LiveRequests>,
    queues: FxHashMap<ListenerKey, Queue>,
    drops: FxHashMap<ListenerKey, u64>,
}

/// Requests that are half-open now; key `None` is what a survey has not listed under any listener.
#[derive(Default)]
struct LiveRequests {
    all: u64,
    by_listener: BTreeMap<Option<ListenerKey>, u64>,
    overdue: BTreeMap<Option<ListenerKey>, u64>,
    by_prefix: BTreeMap<(Option<ListenerKey>, Prefix), u64>,
}

pub(super) fn half_open(tracker: &Tracker) -> HalfOpen {
    let known = Known {
        cookies: tracker.session.attach == Attach::TpBtf && !tracker.modes.only_counts(),
        deaths: tracker.session.watches_requests() && tracker.samples.requests
            || tracker.session.programs.iter().any(|name| name == "request_timer"),
        live: live(tracker),
        queues: queues(tracker),
        drops: drops(tracker),
    };
    let all = &tracker.tally.handshakes;
    let completed = (TcpState::SynReceived, TcpState::Established);
    let unattributed = unattributed(tracker).filter(|(old, new, _)| (*old, *new) == completed);
    HalfOpen {
        completed: (&all.completed).into(),
        sources: tracker.tally.sources,
        // Saturating, because the counters of a recording may say anything.
        unknown: unattributed.fold(all.unknown, |sum, (_, _, count)| sum.saturating_add(count)),
        expired: known.deaths.then_some(all.expired),
        reset: known.deaths.then_some(all.reset),
        dead: known.deaths.then_some(all.dead),
        live: known.live.as_ref().map(|live| live.all),
        cookies: known.cookies.then_some(all.cookies),
        listeners: listeners(tracker, &known),
        namespaces: tracker.namespaces.summary(),
    }
}

/// Every listener with a handshake, a live request, a queue that is not empty, or something turned away; busiest first.
fn listeners(tracker: &Tracker, known: &Known) -> Vec<Listener> {
    let idle = HandshakeTally::default();
    let tallies = &tracker.tally.listeners;
    let mut rows: Vec<_> = tallies.iter().map(|(key, row)| listener(tracker, known, *key, row)).collect();
    let waiting = known.queues.iter().filter(|(_, queue)| queue.length > 0).map(|(key, _)| Some(*key));
    let pending = known.live.iter().flat_map(|live| live.by_listener.keys()).copied();
    let dropping = known.drops.iter().filter(|(_, drops)| **drops > 0).map(|(key, _)| Some(*key));
    let others: std::collections::BTreeSet<_> =
        waiting.chain(pending).chain(dropping).filter(|key| !tallies.contains_key(key)).collect();
    let room = tracker.settings.max_rows.saturating_sub(rows.len());
    rows.extend(others.into_iter().take(room).map(|key| listener(tracker, known, key, &idle)));
    rows.sort_by_key(|l| {
        let handshakes = l.completed.count + l.unknown + l.cookies.unwrap_or(0);
        let requests = l.live.unwrap_or(0) + l.expired.unwrap_or(0) + l.reset.unwrap_or(0);
        (l.local.is_none(), Reverse(handshakes + requests), l.netns, l.local)
    });
    rows
}

fn listener(tracker: &Tracker, known: &Known, key: Option<ListenerKey>, row: &HandshakeTally) -> Listener {
    let at = |(netns, local)| tracker.listeners.find_at(netns, local).and_then(|parent| parent.owner);
    let owner = row.owner.or_else(|| key.and_then(at));
    let live = known.live.as_ref().map(|live| live.by_listener.get(&key).copied().unwrap_or(0));
    let accept_queue = key.and_then(|key| known.queues.get(&key).copied());
    Listener {
        local: key.map(|(_, local)| local),
        netns: key.and_then(|(netns, _)| netns),
        process: owner.map(|owner| identity(tracker, owner.process, owner.comm)),
        completed: (&row.completed).into(),
        unknown: row.unknown,
        resent: known.cookies.then_some(row.resent),
        expired: known.deaths.then_some(row.expired),
        reset: known.deaths.then_some(row.reset),
        dead: known.deaths.then_some(row.dead),
        live,
        overdue: known.live.as_ref().map(|live| live.overdue.get(&key).copied().unwrap_or(0)),
        cookies: known.cookies.then_some(row.cookies),
        syn_queue: live.zip(accept_queue).map(|(length, Queue { limit, .. })| Queue { length, limit }),
        accept_queue,
        drops: key.and_then(|key| known.drops.get(&key).copied()),
        sources: row.sources.as_ref().map(Sources::distinct),
        prefixes: prefixes(known, key, row.sources.as_ref()),
        cause: row.cause,
    }
}

/// The prefixes that most requests came from, with what became of them.
fn prefixes(known: &Known, key: Option<ListenerKey>, sources: Option<&Sources>) -> Vec<PrefixCount> {
    let row = |(prefix, requests): (Prefix, Requests)| {
        let Requests { all, completed, expired, reset, dead } = requests;
        let death = |count: u64| known.deaths.then_some(count);
        let live = known.live.as_ref().map(|live| live.by_prefix.get(&(key, prefix)).copied().unwrap_or(0));
        PrefixCount {
            prefix: prefix.to_string(),
            requests: all,
            completed,
            expired: death(expired),
            reset: death(reset),
            dead: death(dead),
            live,
        }
    };
    sources.map(|sources| sources.prefixes(PREFIXES).into_iter().map(row).collect()).unwrap_or_default()
}

fn live(tracker: &Tracker) -> Option<LiveRequests> {
    let mut live = LiveRequests::default();
    for request in tracker.requests.live.as_ref()?.values() {
        if let Some(key) = tracker.listener_of(request) {
            let prefix = Prefix::of(request.peer.address);
            live.all += 1;
            *live.by_listener.entry(Some(key)).or_default() += 1;
            *live.overdue.entry(Some(key)).or_default() += u64::from(request.overdue);
            *live.by_prefix.entry((Some(key), prefix)).or_default() += 1;
        }
    }
    Some(live)
}

/// What listeners turned away in the window. Several sockets may listen at one address (SO_REUSEPORT).
fn drops(tracker: &Tracker) -> FxHashMap<ListenerKey, u64> {
    let mut drops: FxHashMap<ListenerKey, u64> = FxHashMap::default();
    for row in &tracker.samples.listeners {
        let netns = (tracker.session.attach == Attach::TpBtf).then_some(row.netns);
        if let Some(count) = tracker.drops.of(row.cookie)
            && tracker.wants_request(netns, row.local, row.peer)
        {
            *drops.entry((netns, row.local)).or_default() += count;
        }
    }
    drops
}

/// The accept queues of the last survey. Several sockets may listen at one address (SO_REUSEPORT).
fn queues(tracker: &Tracker) -> FxHashMap<ListenerKey, Queue> {
    let mut queues: FxHashMap<ListenerKey, Queue> = FxHashMap::default();
    for row in &tracker.samples.listeners {
        let netns = (tracker.session.attach == Attach::TpBtf).then_some(row.netns);
        if tracker.wants_request(netns, row.local, row.peer) {
            let queue = queues.entry((netns, row.local)).or_insert(Queue { length: 0, limit: 0 });
            queue.length += u64::from(row.receive_queue);
            queue.limit += u64::from(row.send_queue);
        }
    }
    queues
}
