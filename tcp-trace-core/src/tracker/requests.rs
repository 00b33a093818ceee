//! Half-open requests: which are live, which have died, and of what.
//!
//! A request makes no transition, at its SYN or at its death. What is known of it comes from three places: events
//! (`syn_ack_retransmit`, and where the kernel allows fentry `request_timer` and `request_dropped`), the kernel's list
//! of live ones in each survey, and the kernel programs' map of those whose handshake has not completed, of which
//! the source tells the ones that are not listed any more.

use std::num::NonZeroU64;

use rustc_hash::{FxHashMap, FxHashSet};

use super::gauge::Gauge;
use crate::{
    endpoint::Endpoint,
    input::{RequestChange, RequestEvent},
    report::HalfOpenCause,
    survey::{self, NamespaceFacts, RequestRow, SocketRow},
    time::Timestamp,
};

/// How long a request lives at least before its timer gives it up: the timer comes after 1, 2, 4 … seconds
/// (`TCP_TIMEOUT_INIT`, `include/net/tcp.h`) and retransmits `tcp_synack_retries` times, fewer when the queue is more than
/// half full (`reqsk_timer_handler`, `net/ipv4/inet_connection_sock.c`) or the listener has set TCP_SYNCNT. One that died
/// before was dropped.
fn least_life_ns(synack_retries: Option<u8>) -> u64 {
    // What is not known may be 0. A timer may come a little early by the clock of the jiffies.
    ((2_u64 << synack_retries.unwrap_or(0).min(1)) - 1) * 980_000_000
}

/// How a request died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// Given up by its timer.
    Expired,
    /// Dropped: by a reset, by an ICMP error, with its listener.
    Reset,
    /// One of these.
    Unknown,
}

/// A request that has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dead {
    pub(super) request: Live,
    pub(super) death: Death,
    /// Whether it was counted among its listener's sources when it was seen live.
    pub(super) counted: bool,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) netns: Option<u32>,
    pub(super) local: Endpoint,
    pub(super) peer: Endpoint,
    pub(super) family: u16,
    /// Whether it was half-open for [`OVERDUE_NS`] when it was listed last.
    pub(super) overdue: bool,
}

/// A client that is alive has answered by then, unless something was lost: the SYN-ACK is sent again
/// (`TCP_TIMEOUT_INIT`, `include/net/tcp.h`), or the client repeats its SYN. Less a tick of the kernel's clock.
const OVERDUE_NS: u64 = 980_000_000;

impl From<&SocketRow> for Live {
    fn from(row: &SocketRow) -> Self {
        let SocketRow { netns, local, peer, family, .. } = *row;
        let overdue = row.retransmits > 0 || survey::age(row).is_some_and(|age| age.ns >= OVERDUE_NS);
        Self { netns: Some(netns), local, peer, family, overdue }
    }
}

/// What is known of the requests.
#[derive(Debug)]
pub(super) struct Requests {
    max: usize,
    /// The live ones of the last survey; `None` before the first one.
    pub(super) live: Option<FxHashMap<NonZeroU64, Live>>,
    /// Those that were live at the survey before and are not any more, and those of the one before that.
    departed: [FxHashMap<NonZeroU64, Live>; 2],
    /// When the first SYN-ACK was sent, of those that were retransmitted.
    sent: FxHashMap<NonZeroU64, Timestamp>,
    /// Those whose death an event told of, and the source has not yet.
    buried: FxHashSet<NonZeroU64>,
    /// Requests that resets have ended, by namespace.
    resets: FxHashMap<u32, Resets>,
    pub(super) gauge: Gauge,
}

impl Requests {
    /// Room for `max` requests of each kind.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            live: None,
            departed: Default::default(),
            sent: FxHashMap::default(),
            buried: FxHashSet::default(),
            resets: FxHashMap::default(),
            gauge: Gauge::default(),
        }
    }

    /// Room for so many live ones, as many that were retransmitted, and as many that are dead.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Those of the kind of which there are most.
    pub(super) fn len(&self) -> usize {
        self.live.as_ref().map_or(0, FxHashMap::len).max(self.sent.len()).max(self.buried.len())
    }

    /// Takes an event. Returns the request if it has died.
    pub(super) fn change(&mut self, change: &RequestChange) -> Option<Dead> {
        let RequestChange { what, cookie, netns, sent, local, peer, family, .. } = change;
        let death = match what {
            RequestEvent::Retransmit => {
                if let (Some(cookie), Some(sent)) = (cookie, sent) {
                    if self.sent.len() < self.max {
                        self.sent.insert(*cookie, *sent);
                        self.gauge.holds(self.sent.len());
                    } else {
                        self.gauge.drops(1);
                    }
                }
                return None;
            }
            RequestEvent::Expired => Death::Expired,
            RequestEvent::Dropped => Death::Reset,
        };
        let mut counted = false;
        if let Some(cookie) = cookie {
            self.sent.remove(cookie);
            // Its timer takes it off the kernel's list before it tells: a survey in between has missed it already.
            counted = self.forget(*cookie);
            if self.buried.len() < self.max {
                self.buried.insert(*cookie);
                self.gauge.holds(self.buried.len());
            } else {
                self.gauge.drops(1);
            }
        }
        let request = Live { netns: *netns, local: *local, peer: *peer, family: *family, overdue: true };
        Some(Dead { request, death, counted })
    }

    /// When the first SYN-ACK of a request was sent, if it was retransmitted.
    pub(super) fn sent(&self, cookie: Option<NonZeroU64>) -> Option<Timestamp> {
        self.sent.get(&cookie?).copied()
    }

    /// A handshake has completed. Returns whether it was counted among its listener's sources already.
    pub(super) fn completed(&mut self, cookie: Option<NonZeroU64>) -> bool {
        let Some(cookie) = cookie else { return false };
        self.sent.remove(&cookie);
        self.forget(cookie)
    }

    /// Takes a request from wherever a survey has put it; returns whether one has.
    fn forget(&mut self, cookie: NonZeroU64) -> bool {
        let generations = self.live.iter_mut().chain(&mut self.departed);
        // In all of them.
        generations.filter_map(|requests| requests.remove(&cookie)).count() > 0
    }

    /// A survey has listed the live ones. Returns those that were not live at the last one.
    pub(super) fn listed(&mut self, requests: &[(NonZeroU64, Live)], namespaces: &[u32]) -> Vec<Live> {
        let before = self.live.take().unwrap_or_default();
        // Of a namespace that could not be listed the last list stands.
        let (mut before, mut live): (FxHashMap<_, _>, FxHashMap<_, _>) = before
            .into_iter()
            .partition(|(_, request)| request.netns.is_none_or(|ns| namespaces.contains(&ns)));
        let mut new = Vec::new();
        for (cookie, request) in requests {
            if live.len() >= self.max && !live.contains_key(cookie) {
                self.gauge.drops(1);
                continue;
            }
            let known = live.insert(*cookie, *request).is_some()
                | before.remove(cookie).is_some()
                // A list may miss one that the next has again.
                | self.departed.iter_mut().any(|departed| departed.remove(cookie).is_some());
            if !known {
                new.push(*request);
            }
        }
        self.sent.retain(|cookie, _| live.contains_key(cookie) || before.contains_key(cookie));
        self.departed = [before, std::mem::take(&mut self.departed[0])];
        self.gauge.holds(live.len());
        self.live = Some(live);
        new
    }

    /// The requests that were live at the last survey but one and are not now, where nothing else tells.
    pub(super) fn departed(&mut self, namespaces: &[NamespaceFacts]) -> Vec<Dead> {
        let departed = std::mem::take(&mut self.departed[0]);
        let dead = departed.into_values().map(|request| (request, None, true)).collect();
        self.judged(dead, namespaces)
    }

    /// The source tells of requests that have died; `home` is the namespace of the listener that one can only have come in
    /// on.
    pub(super) fn died(
        &mut self,
        rows: &[RequestRow],
        namespaces: &[NamespaceFacts],
        now: Timestamp,
        home: impl Fn(Endpoint, u16) -> Option<u32>,
    ) -> Vec<Dead> {
        let (mut dead, mut unlisted) = (Vec::new(), Vec::new());
        for row in rows {
            let RequestRow { cookie, queued, local, peer, family } = *row;
            if self.buried.remove(&cookie) {
                continue;
            }
            let seen = self.departed.iter_mut().find_map(|generation| generation.remove(&cookie));
            let Some(request) = seen else {
                unlisted.push(Live { netns: home(local, family), local, peer, family, overdue: true });
                continue;
            };
            let namespace = namespaces.iter().find(|namespace| Some(namespace.inum) == request.netns);
            let least = least_life_ns(namespace.and_then(|namespace| namespace.synack_retries));
            let young = now.since(queued) < least;
            dead.push((request, young.then_some(Death::Reset), true));
        }
        let mut dead = self.judged(dead, namespaces);
        dead.extend(unlisted.into_iter().filter_map(|request| self.evident(request)));
        dead
    }

    /// A request that no survey has listed lived for less than a second, or in a namespace that cannot be looked at. It
    /// is believed to be dead only where the kernel has counted a reset that nothing else accounts for.
    fn evident(&mut self, request: Live) -> Option<Dead> {
        let resets = self.resets.get_mut(&request.netns?)?;
        if resets.left() == 0 {
            return None;
        }
        resets.spend(1);
        Some(Dead { request, death: Death::Reset, counted: false })
    }

    /// Tells resets from timeouts, namespace by namespace, by the resets that the kernel has counted there.
    fn judged(
        &mut self,
        mut dead: Vec<(Live, Option<Death>, bool)>,
        namespaces: &[NamespaceFacts],
    ) -> Vec<Dead> {
        // Those of namespaces that are gone have nothing to tell any more.
        if self.resets.len() > super::namespaces::MAX {
            self.resets.retain(|inum, _| namespaces.iter().any(|namespace| namespace.inum == *inum));
        }
        let homeless = dead.iter().filter(|(request, ..)| request.netns.is_none()).count() as u64;
        for namespace in namespaces {
            let Some(counters) = namespace.counters else { continue };
            let Some(resets) = self.resets.entry(namespace.inum).or_default().read(counters.embryonic_resets)
            else {
                continue;
            };
            let here = |request: &Live| request.netns == Some(namespace.inum);
            let told = dead.iter().filter(|(request, death, _)| here(request) && death.is_some()).count();
            let resets = resets.spend(told as u64);
            let open =
                |(request, death, _): &&mut (Live, Option<Death>, bool)| here(request) && death.is_none();
            let count = dead.iter_mut().filter(|row| open(row)).count() as u64;
            let death = match resets.left() {
                0 => Death::Expired,
                // Those of an unknown namespace may have had their share.
                left if left >= count + homeless => Death::Reset,
                _ => Death::Unknown,
            };
            if death != Death::Expired {
                resets.spend(count);
            }
            dead.iter_mut().filter(open).for_each(|(_, verdict, _)| *verdict = Some(death));
        }
        let row = |(request, death, counted): (Live, Option<Death>, bool)| Dead {
            request,
            death: death.unwrap_or(Death::Unknown),
            counted,
        };
        dead.into_iter().map(row).collect()
    }
}

/// Requests that resets have ended in one namespace and that nobody has told of yet. A death is told of one survey
/// after the one that missed the request first, which is one after its reset was counted at the latest.
#[derive(Debug, Default)]
struct Resets {
    /// The kernel's count at the last survey.
    last: Option<u64>,
    /// Of the last surveys, youngest first.
    recent: [u64; 3],
}

impl Resets {
    /// Takes the kernel's count; `None` if it is the first one, which says nothing.
    fn read(&mut self, count: u64) -> Option<&mut Self> {
        let last = self.last.replace(count)?;
        let [first, second, _] = self.recent;
        self.recent = [count.saturating_sub(last), first, second];
        Some(self)
    }

    fn left(&self) -> u64 {
        self.recent.iter().fold(0, |sum, resets| sum.saturating_add(*resets))
    }

    /// So many are told of, the oldest first.
    fn spend(&mut self, mut count: u64) -> &mut Self {
        for resets in self.recent.iter_mut().rev() {
            let spent = count.min(*resets);
            (*resets, count) = (*resets - spent, count - spent);
        }
        self
    }
}

/// Why requests stay half-open, as a listener's queue tells.
pub(super) fn cause(accept_queue: Option<(u32, u32)>, acked: bool) -> Option<HalfOpenCause> {
    let (length, limit) = accept_queue?;
    Some(if acked || length > limit { HalfOpenCause::AcceptQueueFull } else { HalfOpenCause::SilentClients })
}
