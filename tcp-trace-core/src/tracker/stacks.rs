//! Where connections were opened: stacks by cookie, for as long as anybody may ask.
//!
//! A stack is symbolised beside the stream and comes after the events that it belongs to, sometimes after its
//! connection's end. So obituaries wait for it, in their order.

use std::{collections::VecDeque, num::NonZeroU64, sync::Arc};

use rustc_hash::FxHashMap;

use super::{Output, Tracker, connection::Key, gauge::Gauge};
use crate::{
    report::{Obituary, OpenedAt},
    session::Session,
    stack::{Opening, Stack, StackFacts, StackKind, Trace},
    time::Timestamp,
};

/// Stacks that are told apart; a program has some hundred places where it opens connections, at most.
pub(super) const STACKS: usize = 16_384;
/// Obituaries that wait for their stacks.
const WAITING: usize = 65_536;
/// How long they wait, nanoseconds of the stream's time, should whoever takes the stacks have fallen silent.
const PATIENCE_NS: u64 = 2_000_000_000;

/// Where connections were opened.
#[derive(Debug)]
pub(super) struct Stacks {
    /// Whether they are asked for.
    on: bool,
    known: FxHashMap<u32, Arc<Trace>>,
    opened: FxHashMap<NonZeroU64, (Timestamp, StackKind, u32)>,
    /// Obituaries, each with the time of its connection's end.
    waiting: VecDeque<(Timestamp, Obituary)>,
    /// Connections that may have a stack here.
    max: usize,
    /// Stacks that found no room in the kernel's buffer.
    lost: u64,
    /// Stacks that found no room among the known ones.
    omitted: u64,
    gauge: Gauge,
}

impl Stacks {
    /// Of at most `max` connections.
    pub(super) fn new(session: &Session, max: usize) -> Self {
        Self {
            on: session.takes_stacks(),
            known: FxHashMap::default(),
            opened: FxHashMap::default(),
            waiting: VecDeque::new(),
            max,
            lost: 0,
            omitted: 0,
            gauge: Gauge::default(),
        }
    }

    /// Where a connection was opened.
    pub(super) fn of(&self, cookie: Option<NonZeroU64>) -> Option<OpenedAt> {
        let (_, kind, number) = *self.opened.get(&cookie?)?;
        Some(OpenedAt { kind, trace: Arc::clone(self.known.get(&number)?) })
    }

    /// Stacks that there was no room for: in the kernel's buffer, and among the known ones.
    pub(super) fn missing(&self) -> Option<(u64, u64)> {
        self.on.then_some((self.lost, self.omitted))
    }

    /// Makes an obituary known, at once or as soon as its stack is.
    pub(super) fn bury(&mut self, at: Timestamp, obituary: Obituary, output: &mut Output) {
        if !self.on {
            output.closed.push(obituary);
            return;
        }
        self.waiting.push_back((at, obituary));
        if self.waiting.len() > WAITING {
            self.release_first(output);
        }
    }

    /// Makes known what has waited long enough.
    pub(super) fn release(&mut self, until: Timestamp, output: &mut Output) {
        while self.waiting.front().is_some_and(|(at, _)| *at < until) {
            self.release_first(output);
        }
    }

    fn release_first(&mut self, output: &mut Output) {
        if let Some((at, mut obituary)) = self.waiting.pop_front() {
            let cookie = obituary.cookie.and_then(NonZeroU64::new);
            if obituary.opened_at.is_none() && self.opened_before(cookie, at) {
                obituary.opened_at = self.of(cookie);
                self.forget(cookie);
            }
            output.closed.push(obituary);
        }
    }

    /// Whether what is known of the socket is of the life that ended at `at`: it may have connected anew since.
    fn opened_before(&self, cookie: Option<NonZeroU64>, at: Timestamp) -> bool {
        cookie.and_then(|cookie| self.opened.get(&cookie)).is_some_and(|(opened, ..)| *opened <= at)
    }

    /// Nobody will ask for a connection any more.
    pub(super) fn forget(&mut self, cookie: Option<NonZeroU64>) {
        if let Some(cookie) = cookie {
            self.opened.remove(&cookie);
        }
    }

    fn tell_waiting(&mut self, cookie: NonZeroU64) {
        let opened_at = self.of(Some(cookie));
        let opened = self.opened.get(&cookie).map(|(opened, ..)| *opened);
        let same = |(at, obituary): &&mut (Timestamp, Obituary)| {
            obituary.cookie == Some(cookie.get()) && opened.is_some_and(|opened| opened <= *at)
        };
        if let Some((_, obituary)) = self.waiting.iter_mut().find(same) {
            obituary.opened_at = opened_at;
        }
    }

    fn learn(&mut self, facts: &StackFacts) {
        for Stack { number, trace } in &facts.stacks {
            if self.known.len() < STACKS || self.known.contains_key(number) {
                self.known.insert(*number, Arc::new(trace.clone()));
            }
        }
        (self.lost, self.omitted) = (facts.lost, facts.omitted);
    }

    fn open(&mut self, (cookie, at, kind, number): Opening) {
        if self.opened.contains_key(&cookie) {
            // A socket that connects anew: its earlier life may wait to be told of.
            self.tell_waiting(cookie);
            self.opened.insert(cookie, (at, kind, number));
        } else if self.opened.len() < self.max {
            self.opened.insert(cookie, (at, kind, number));
        } else {
            self.gauge.drops(1);
        }
        self.gauge.holds(self.opened.len());
    }
}

impl Tracker {
    /// Stacks have been symbolised.
    pub(super) fn stacks(&mut self, facts: &StackFacts, output: &mut Output) {
        self.stacks.on = true;
        self.stacks.learn(facts);
        for opening in &facts.opened {
            if self.stacks.opened.len() >= self.stacks.max {
                self.forget_stacks();
            }
            self.stacks.open(*opening);
        }
        self.stacks.release(facts.until, output);
    }

    /// Makes known what has waited for stacks in vain, and at the end whatever waits.
    pub(super) fn release_obituaries(&mut self, ended: bool, output: &mut Output) {
        let until = if ended { Timestamp(u64::MAX) } else { self.now.minus(PATIENCE_NS) };
        self.stacks.release(until, output);
    }

    /// Forgets where connections were opened that are gone: their ends were not seen to be, or the filter does not want them.
    pub(super) fn forget_stacks(&mut self) {
        let Self { stacks, table, wake, .. } = self;
        let waiting: rustc_hash::FxHashSet<_> =
            stacks.waiting.iter().filter_map(|(_, obituary)| obituary.cookie).collect();
        stacks.opened.retain(|cookie, _| {
            table.contains_key(Key::Cookie(*cookie)) || wake.has(*cookie) || waiting.contains(&cookie.get())
        });
    }
}
