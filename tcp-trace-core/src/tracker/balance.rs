//! The loss balance: what the kernel counted against what arrived.

use tcp_trace_common::counters::{Counters, TRANSITIONS, pair, slot};

use crate::{
    record::CounterReading,
    report::{Loss, TransitionCount},
    state::TcpState,
};

type Matrix = Box<[u64; TRANSITIONS]>;

/// Counts since the start.
#[derive(Clone, Debug)]
struct Totals {
    received: Matrix,
    accepted: Matrix,
    /// Counted in the kernel, in rows.
    aggregated: Matrix,
    kernel: Box<Counters>,
    missed: u64,
    untracked: u64,
    repaired: u64,
}

/// Everything that is needed to account for each transition.
#[derive(Debug)]
pub(super) struct Balance {
    now: Totals,
    /// As of the start of the window.
    before: Totals,
    ended: bool,
    /// Whether there was a survey that could have repaired anything.
    surveyed: bool,
    /// Transitions that were lost by the last survey that repaired everything.
    lost_before: u64,
}

impl Default for Balance {
    fn default() -> Self {
        let zero = Totals {
            received: Box::new([0; TRANSITIONS]),
            accepted: Box::new([0; TRANSITIONS]),
            aggregated: Box::new([0; TRANSITIONS]),
            kernel: Box::new(Counters::ZERO),
            missed: 0,
            untracked: 0,
            repaired: 0,
        };
        Self { now: zero.clone(), before: zero, ended: false, surveyed: false, lost_before: 0 }
    }
}

impl Balance {
    /// An event arrived.
    pub(super) fn received(&mut self, old: TcpState, new: TcpState) {
        bump(&mut self.now.received, old, new);
    }

    /// An event is part of the report.
    pub(super) fn accepted(&mut self, old: TcpState, new: TcpState) {
        bump(&mut self.now.accepted, old, new);
    }

    /// The kernel has counted so many.
    pub(super) fn aggregated(&mut self, old: TcpState, new: TcpState, count: u64) {
        if let Some(sum) = self.now.aggregated.get_mut(slot(old.number(), new.number())) {
            // Saturating, because the rows of a recording may say anything.
            *sum = sum.saturating_add(count);
        }
    }

    /// An event's connection had no room in the table.
    pub(super) fn untracked(&mut self) {
        self.now.untracked += 1;
    }

    /// A survey is over. `repaired`: it has put right whatever transitions that were lost have left behind.
    pub(super) fn surveyed(&mut self, repaired: bool) {
        self.surveyed = true;
        if repaired {
            self.lost_before = self.now.lost();
        }
    }

    /// Whether transitions were lost that no survey has put right.
    pub(super) fn needs_repair(&self) -> bool {
        self.now.lost() > self.lost_before
    }

    /// A survey has put right what lost events had left behind.
    pub(super) fn repaired(&mut self) {
        self.now.repaired += 1;
    }

    /// The kernel's counters as of now.
    pub(super) fn read(&mut self, reading: &CounterReading) {
        self.now.kernel.clone_from(&reading.counters);
        self.now.missed = reading.missed;
    }

    /// Nothing more will come.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// The window's part. Events that are held back count as filtered until they are accepted; the window
    /// that accepts one of an earlier window takes it over.
    pub(super) fn loss(&self) -> Loss {
        let Self { now, before, ended, surveyed, lost_before: _ } = self;
        let window = |now: &[u64], before: &[u64]| total(now).saturating_sub(total(before));
        let received = window(&*now.received, &*before.received);
        let delivered = window(&*now.accepted, &*before.accepted);
        let taken_over = delivered.saturating_sub(received);
        let missed = now.missed.saturating_sub(before.missed);
        let turned_away = received.saturating_sub(delivered);
        let unattributed = window(&now.kernel.unaggregated, &before.kernel.unaggregated);
        Loss {
            seen: now
                .seen(*ended)
                .saturating_sub(before.seen(false))
                .saturating_add(missed)
                .saturating_add(taken_over),
            delivered,
            filtered: window(&now.kernel.filtered, &before.kernel.filtered).saturating_add(turned_away),
            lost: window(&now.kernel.lost, &before.kernel.lost).saturating_add(missed),
            aggregated: window(&*now.aggregated, &*before.aggregated).saturating_add(unattributed),
            unattributed,
            missed,
            balanced: self.balanced(),
            repaired: surveyed.then(|| now.repaired.saturating_sub(before.repaired)),
            untracked: now.untracked.saturating_sub(before.untracked),
            side_lost: now.kernel.side_lost.saturating_sub(before.kernel.side_lost),
        }
    }

    /// Transitions since the start of the run that the kernel has counted, and those that were lost.
    pub(super) fn since_start(&self) -> (u64, u64) {
        let Self { now, ended, .. } = self;
        (now.seen(*ended).saturating_add(now.missed), now.lost())
    }

    /// Transitions of the window that the filter accepts. `with_lost`: events that did not arrive are among them,
    /// because the kernel has counted them by kind after its filter. Where user space filters too, nobody can
    /// say which of the lost ones it would have accepted.
    pub(super) fn transitions(&self, with_lost: bool) -> Vec<TransitionCount> {
        let Self { now, before, .. } = self;
        let window = |now: &[u64], before: &[u64], index| at(now, index).saturating_sub(at(before, index));
        (0..TRANSITIONS)
            .filter_map(|index| {
                let (old, new) = pair(index);
                let delivered = window(&*now.accepted, &*before.accepted, index);
                let lost = window(&now.kernel.lost, &before.kernel.lost, index);
                let rows = window(&*now.aggregated, &*before.aggregated, index);
                let rest = window(&now.kernel.unaggregated, &before.kernel.unaggregated, index);
                let unseen = lost.saturating_add(rows).saturating_add(rest);
                let count = if with_lost { delivered.saturating_add(unseen) } else { delivered };
                (count > 0).then(|| TransitionCount {
                    old: TcpState::from_number(old),
                    new: TcpState::from_number(new),
                    count,
                })
            })
            .collect()
    }

    /// Transitions of the window that the kernel has counted by kind and in no row, by kind.
    pub(super) fn unattributed(&self) -> impl Iterator<Item = (TcpState, TcpState, u64)> {
        let (now, before) = (&self.now.kernel.unaggregated, &self.before.kernel.unaggregated);
        let states = |slot| {
            let (old, new) = pair(slot);
            (TcpState::from_number(old), TcpState::from_number(new))
        };
        let all =
            (0..TRANSITIONS).map(move |slot| (states(slot), at(now, slot).saturating_sub(at(before, slot))));
        all.filter(|(_, count)| *count > 0).map(|((old, new), count)| (old, new, count))
    }

    /// Starts the next window.
    pub(super) fn next_window(&mut self) {
        self.before = self.now.clone();
    }

    /// Kind by kind: what the kernel emitted or aggregated has arrived. At the end exactly; before, what arrived since
    /// the counters were read comes on top.
    fn balanced(&self) -> bool {
        let Totals { received, aggregated, kernel, .. } = &self.now;
        (0..TRANSITIONS).all(|index| {
            // Wide, because the counters of a recording may say anything.
            let sum = |parts: &[&[u64]]| parts.iter().map(|part| u128::from(at(part, index))).sum::<u128>();
            let kept = sum(&[&kernel.filtered, &kernel.lost, &kernel.unaggregated]);
            let accounted = kept + sum(&[&**received, &**aggregated]);
            let seen = sum(&[&kernel.seen]);
            if self.ended { accounted == seen } else { kept <= seen && accounted >= seen }
        })
    }
}

impl Totals {
    /// Transitions that did not arrive although they were wanted.
    fn lost(&self) -> u64 {
        total(&self.kernel.lost).saturating_add(self.missed)
    }

    /// Transitions that the kernel has seen. While the stream runs, events arrive after the counters were
    /// read: what arrived was seen.
    fn seen(&self, ended: bool) -> u64 {
        let counted = total(&self.kernel.seen);
        if ended {
            return counted;
        }
        let Self { received, aggregated, kernel, .. } = self;
        let parts = [&**received, &**aggregated, &kernel.filtered, &kernel.lost, &kernel.unaggregated];
        counted.max(parts.into_iter().fold(0, |sum, part| sum.saturating_add(total(part))))
    }
}

fn bump(matrix: &mut Matrix, old: TcpState, new: TcpState) {
    if let Some(count) = matrix.get_mut(slot(old.number(), new.number())) {
        *count += 1;
    }
}

fn at(matrix: &[u64], index: usize) -> u64 {
    matrix.get(index).copied().unwrap_or(0)
}

/// Saturating, because the counters of a recording may say anything.
fn total(matrix: &[u64]) -> u64 {
    matrix.iter().fold(0, |sum, count| sum.saturating_add(*count))
}
