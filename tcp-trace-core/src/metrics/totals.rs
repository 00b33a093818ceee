//! Counters of all windows together, without labels that could be many.

use std::collections::BTreeMap;

use super::rows;
use crate::{
    mode::Mode,
    report::{Distribution, Ending, Loss, Report},
    state::TcpState,
};

/// Sums over all windows. `None` is not known so far; whatever is known in some windows only is the sum of these.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) transitions: BTreeMap<(TcpState, TcpState), u64>,
    pub(super) states: BTreeMap<TcpState, Distribution>,
    pub(super) half_open: Distribution,
    pub(super) connect: Distribution,
    pub(super) outcomes: [Option<u64>; rows::OUTCOMES],
    pub(super) drops: Option<u64>,
    /// As the kernel tells it, and inferred.
    pub(super) time_wait: [Option<u64>; 2],
    pub(super) ended: Option<BTreeMap<Ending, u64>>,
    pub(super) seen: u64,
    /// Delivered, filtered, lost, aggregated.
    pub(super) events: [u64; 4],
    pub(super) missed: u64,
    pub(super) unattributed: u64,
    pub(super) untracked: u64,
    pub(super) side_lost: u64,
    pub(super) repaired: Option<u64>,
    /// Balanced, and not.
    pub(super) windows: [u64; 2],
    /// Stream, aggregate, count.
    pub(super) modes: [f64; 3],
    /// By table.
    pub(super) dropped: BTreeMap<&'static str, u64>,
}

impl Totals {
    /// Adds a window.
    pub(super) fn add(&mut self, report: &Report) {
        for cell in &report.transitions {
            raise(self.transitions.entry((cell.old, cell.new)).or_default(), cell.count);
        }
        for (state, durations) in &report.distributions.states {
            self.states.entry(*state).or_default().add(durations);
        }
        self.half_open.add(&report.distributions.half_open);
        self.connect.add(&report.distributions.connect);
        if let Some(endings) = &report.endings {
            let ended = self.ended.get_or_insert_default();
            for row in endings {
                raise(ended.entry(row.ending).or_default(), row.count);
            }
        }
        self.loss(&report.loss);
        for span in &report.modes {
            let [stream, aggregate, count] = &mut self.modes;
            *match span.mode {
                Mode::Stream => stream,
                Mode::Aggregate => aggregate,
                Mode::Count => count,
            } += span.seconds.max(0.0);
        }
        for limit in &report.limits {
            // It is the count of the whole run already.
            let dropped = self.dropped.entry(limit.name).or_default();
            *dropped = (*dropped).max(limit.dropped);
        }
    }

    fn loss(&mut self, window: &Loss) {
        let Loss {
            seen,
            delivered,
            filtered,
            lost,
            aggregated,
            unattributed,
            missed,
            balanced,
            repaired,
            untracked,
            side_lost,
        } = *window;
        raise(&mut self.seen, seen);
        for (sum, count) in self.events.iter_mut().zip([delivered, filtered, lost, aggregated]) {
            raise(sum, count);
        }
        raise(&mut self.unattributed, unattributed);
        raise(&mut self.missed, missed);
        raise(&mut self.untracked, untracked);
        raise(&mut self.side_lost, side_lost);
        rows::add(&mut self.repaired, repaired);
        let [good, bad] = &mut self.windows;
        raise(if balanced { good } else { bad }, 1);
    }
}

/// Saturating, because the counters of a recording may say anything.
fn raise(sum: &mut u64, count: u64) {
    *sum = sum.saturating_add(count);
}
