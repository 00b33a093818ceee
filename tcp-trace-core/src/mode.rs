//! How transitions reach user space: each for itself, or counted in the kernel; and the rule that decides.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// How transitions reach user space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Each for itself.
    #[default]
    Stream,
    /// Counted in the kernel; of single ones only what live tables need.
    Aggregate,
}

/// Why a mode began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is what a run begins with.
    #[default]
    Start,
    /// It was asked for.
    Asked,
    /// Transitions were lost.
    Lost,
    /// The ring buffer was three quarters full.
    Full,
    /// There were few enough transitions again, for long enough.
    Calm,
}

/// A mode begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeChange {
    /// When.
    pub time: Timestamp,
    /// Which.
    pub mode: Mode,
    /// Why.
    pub reason: Reason,
}

impl Reason {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Start => "from the start",
            Self::Asked => "asked for",
            Self::Lost => "transitions were lost",
            Self::Full => "the buffer was three quarters full",
            Self::Calm => "few enough transitions again",
        }
    }
}

/// What the rule decides by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// When.
    pub time: Timestamp,
    /// Transitions so far that the filter lets through.
    pub wanted: u64,
    /// Transitions lost so far.
    pub lost: u64,
    /// Bytes in the ring buffer.
    pub waiting: u64,
    /// Bytes that it can hold.
    pub room: u64,
}

/// The rule of `--mode auto`.
///
/// The stream is given up when a transition was lost since the last look, or the buffer is three quarters full. It is
/// taken up again when for two seconds there were at most three quarters as many transitions a second as when it was
/// given up; each time that it has to be given up again within ten seconds, it takes twice as long, up to a minute.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    mode: Mode,
    last: Observation,
    /// Transitions a second from which on the stream stays given up.
    limit: u64,
    /// When there were few enough of them first.
    calm: Option<Timestamp>,
    /// How long there must be few enough.
    patience_ns: u64,
    /// When the stream was taken up again last.
    resumed: Option<Timestamp>,
}

impl Rule {
    const PATIENCE_NS: u64 = 2_000_000_000;
    const MOST_PATIENCE_NS: u64 = 64_000_000_000;
    const RELAPSE_NS: u64 = 10_000_000_000;
    /// So few a second even the smallest buffer holds.
    const FEW: u64 = 100;

    /// Takes a look; the change that follows from it, if any.
    pub fn observe(&mut self, now: Observation) -> Option<ModeChange> {
        let last = std::mem::replace(&mut self.last, now);
        let passed = now.time.since(last.time).max(1);
        let rate = u128::from(now.wanted.saturating_sub(last.wanted)) * 1_000_000_000 / u128::from(passed);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        let (mode, reason) = match self.mode {
            Mode::Stream => {
                let reason = if now.lost > last.lost {
                    Reason::Lost
                } else if now.room > 0 && now.waiting >= now.room / 4 * 3 {
                    Reason::Full
                } else {
                    return None;
                };
                self.give_up(now.time, rate);
                (Mode::Aggregate, reason)
            }
            Mode::Aggregate => {
                if rate > self.limit {
                    self.calm = None;
                    return None;
                }
                let calm = *self.calm.get_or_insert(last.time);
                if now.time.since(calm) < self.patience_ns {
                    return None;
                }
                self.resumed = Some(now.time);
                (Mode::Stream, Reason::Calm)
            }
        };
        self.mode = mode;
        Some(ModeChange { time: now.time, mode, reason })
    }

    fn give_up(&mut self, now: Timestamp, rate: u64) {
        let relapse = self.resumed.is_some_and(|resumed| now.since(resumed) < Self::RELAPSE_NS);
        self.patience_ns =
            if relapse { (self.patience_ns * 2).min(Self::MOST_PATIENCE_NS) } else { Self::PATIENCE_NS };
        self.limit = (rate / 4 * 3).max(Self::FEW);
        self.calm = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that is looked at ten times a second.
    #[derive(Default)]
    struct Run {
        rule: Rule,
        now: Observation,
    }

    impl Run {
        /// So many looks at this rate, so many of each hundred lost; the changes, in tenths of a second.
        fn at(&mut self, looks: u64, rate: u64, lost: u64) -> Vec<(u64, Mode, Reason)> {
            let mut changes = Vec::new();
            for _ in 0..looks {
                self.now.time = self.now.time.plus(100_000_000);
                self.now.wanted += rate / 10;
                self.now.lost += rate / 10 * lost / 100;
                let change = self.rule.observe(self.now);
                changes.extend(change.map(|c| (c.time.0 / 100_000_000, c.mode, c.reason)));
            }
            changes
        }
    }

    #[test]
    fn nothing_lost_and_room_left_is_no_reason() {
        let mut run = Run::default();
        run.now.room = 1000;
        run.now.waiting = 749;
        assert_eq!(run.at(100, 1_000_000, 0), []);
    }

    #[test]
    fn a_loss_gives_the_stream_up_until_it_is_calm_for_two_seconds() {
        let mut run = Run::default();
        assert_eq!(run.at(10, 100_000, 0), []);
        assert_eq!(run.at(1, 100_000, 1), [(11, Mode::Aggregate, Reason::Lost)]);
        assert_eq!(run.at(50, 80_000, 0), [], "more than three quarters");
        assert_eq!(run.at(19, 70_000, 0), []);
        assert_eq!(run.at(5, 90_000, 0), [], "not calm for long enough");
        assert_eq!(run.at(25, 70_000, 0), [(105, Mode::Stream, Reason::Calm)]);
    }

    #[test]
    fn a_full_buffer_gives_the_stream_up() {
        let mut run = Run::default();
        (run.now.room, run.now.waiting) = (1000, 750);
        assert_eq!(run.at(1, 1_000, 0), [(1, Mode::Aggregate, Reason::Full)]);
    }

    #[test]
    fn each_relapse_takes_twice_as_long() {
        let mut run = Run::default();
        let mut ends = Vec::new();
        for _ in 0..8 {
            assert_eq!(run.at(1, 100_000, 50).len(), 1);
            let start = run.now.time;
            let changes = run.at(1_000, 10_000, 0);
            assert_eq!(changes.len(), 1);
            ends.push(changes[0].0 - start.0 / 100_000_000);
            // The loss comes again right after.
            run.rule.resumed = Some(run.now.time);
        }
        assert_eq!(ends, [20, 40, 80, 160, 320, 640, 640, 640]);
    }
}
