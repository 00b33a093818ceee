//! Samples of who has how many sockets in which state, taken whenever the kernel's counters are read. They reset nothing,
//! so that the report is of the whole run, and a recording has the samples of the live run.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use super::{Tracker, gauge::Gauge, summary};
use crate::{
    process::{Comm, Owner, ProcessId},
    report::{ProcessSample, ProcessSeries, Series, SeriesPoint},
    session::Attach,
    state::TcpState,
    time::Timestamp,
};

/// Points at most. When they are reached, each two become one, and each point covers twice as many readings from then on.
const POINTS: usize = 512;
/// Processes that are followed at most.
pub(super) const PROCESSES: usize = 64;
/// What is shorter is no point of its own.
const SHORTEST_NS: u64 = 100_000_000;
/// What looking at one connection may cost of the time between two samples: a table of two million is looked at every
/// two seconds at most.
const NS_PER_CONNECTION: u64 = 1_000;

/// The samples of a run.
#[derive(Debug)]
pub(super) struct Recorder {
    points: Vec<Point>,
    /// Readings per point.
    fold: u32,
    /// Readings that the last point has.
    filled: u32,
    rows: FxHashMap<Option<ProcessId>, Row>,
    /// Of `rows`; what is dropped is a sample of a process.
    pub(super) gauge: Gauge,
    last: Sampled,
}

/// A moment, and what had been counted by then.
#[derive(Clone, Copy, Debug, Default)]
struct Sampled {
    at: Timestamp,
    seen: u64,
    lost: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Point {
    end: Timestamp,
    span_ns: u64,
    seen: u64,
    lost: u64,
    established: Option<u64>,
    close_wait: Option<u64>,
    time_wait: Option<u64>,
    half_open: Option<u64>,
}

/// A process.
#[derive(Debug)]
struct Row {
    comm: Option<Comm>,
    since: u32,
    peak: u32,
    samples: Vec<ProcessSample>,
}

/// What a process has now.
#[derive(Clone, Copy, Debug, Default)]
struct Now {
    comm: Option<Comm>,
    close_wait: u32,
    time_wait: u32,
}

impl Recorder {
    pub(super) fn new(started: Timestamp) -> Self {
        Self {
            points: Vec::new(),
            fold: 1,
            filled: 0,
            rows: FxHashMap::default(),
            gauge: Gauge::default(),
            last: Sampled { at: started, ..Sampled::default() },
        }
    }

    /// Processes that are followed.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Adds a sample.
    fn add(&mut self, point: Point, owners: &FxHashMap<Option<ProcessId>, Now>) {
        // The end comes right behind a reading, as a rule, and is no point of its own then.
        let joins = self.filled < self.fold || point.span_ns < SHORTEST_NS;
        if !joins && self.points.len() >= POINTS {
            self.halve();
        }
        let wins = match self.points.last_mut() {
            Some(last) if joins => last.take_in(&point),
            _ => {
                self.points.push(point);
                self.filled = 0;
                Wins { close_wait: true, time_wait: true }
            }
        };
        self.filled = self.filled.saturating_add(1);
        let at = u32::try_from(self.points.len().saturating_sub(1)).unwrap_or(u32::MAX);
        // In an order that does not depend on a hash, as there may not be room for all.
        let mut sorted: Vec<_> = owners.iter().collect();
        sorted.sort_by_key(|(owner, now)| (Reverse(now.sum()), **owner));
        self.gauge.holds(sorted.len().min(PROCESSES));
        for (owner, now) in sorted {
            self.make_room(*owner, now, at);
        }
        for (owner, row) in &mut self.rows {
            row.add(owners.get(owner).copied().unwrap_or_default(), at, wins);
        }
    }

    /// Begins to follow a process, unless others have had more and there is no room.
    fn make_room(&mut self, owner: Option<ProcessId>, now: &Now, at: u32) {
        if !self.rows.contains_key(&owner) && self.rows.len() >= PROCESSES {
            self.gauge.drops(1);
            let least = self.rows.iter().min_by_key(|(owner, row)| (row.peak, Reverse(**owner)));
            let Some((least, _)) = least.filter(|(_, row)| row.peak < now.sum()) else { return };
            let least = *least;
            self.rows.remove(&least);
        }
        self.rows.entry(owner).or_insert(Row { comm: None, since: at, peak: now.sum(), samples: Vec::new() });
    }

    /// Makes one point of each two.
    fn halve(&mut self) {
        let mut halved = Vec::with_capacity(POINTS);
        let mut wins = Vec::with_capacity(POINTS);
        for pair in self.points.chunks(2) {
            let mut pair = pair.iter();
            let Some(mut point) = pair.next().copied() else { continue };
            wins.push(pair.next().map(|later| point.take_in(later)).unwrap_or_default());
            halved.push(point);
        }
        self.points = halved;
        self.fold = self.fold.saturating_mul(2);
        self.filled = self.fold;
        for row in self.rows.values_mut() {
            row.halve(&wins);
        }
    }
}

impl Point {
    /// Becomes longer by what follows it. Returns of which populations the later moment has more.
    fn take_in(&mut self, later: &Self) -> Wins {
        let Self { end, span_ns, seen, lost, established, close_wait, time_wait, half_open } = *later;
        let wins = Wins { close_wait: close_wait > self.close_wait, time_wait: time_wait > self.time_wait };
        self.end = end;
        self.span_ns = self.span_ns.saturating_add(span_ns);
        self.seen = self.seen.saturating_add(seen);
        self.lost = self.lost.saturating_add(lost);
        self.established = self.established.max(established);
        self.close_wait = self.close_wait.max(close_wait);
        self.time_wait = self.time_wait.max(time_wait);
        self.half_open = self.half_open.max(half_open);
        wins
    }
}

impl Row {
    fn add(&mut self, now: Now, at: u32, wins: Wins) {
        let Now { comm, close_wait, time_wait } = now;
        self.comm = comm.or(self.comm);
        self.peak = self.peak.max(now.sum());
        let new =
            wins.choose(ProcessSample { point: at, close_wait: 0, time_wait: 0 }, close_wait, time_wait);
        match self.samples.last_mut() {
            Some(last) if last.point == at => *last = wins.choose(*last, close_wait, time_wait),
            _ if new.close_wait > 0 || new.time_wait > 0 => self.samples.push(new),
            _ => {}
        }
    }

    /// Of each two points one remains, for each population the one at which there were most all in all.
    fn halve(&mut self, wins: &[Wins]) {
        self.since /= 2;
        let mut halved: Vec<ProcessSample> = Vec::with_capacity(self.samples.len() / 2 + 1);
        for ProcessSample { point: from, close_wait, time_wait } in self.samples.drain(..) {
            let point = from / 2;
            let Wins { close_wait: c, time_wait: t } = wins.get(point as usize).copied().unwrap_or_default();
            let is_later = from % 2 == 1;
            let wins = Wins { close_wait: c == is_later, time_wait: t == is_later };
            let blank = ProcessSample { point, close_wait: 0, time_wait: 0 };
            match halved.last_mut() {
                Some(last) if last.point == point => *last = wins.choose(*last, close_wait, time_wait),
                _ => halved.push(wins.choose(blank, close_wait, time_wait)),
            }
        }
        halved.retain(|sample| sample.close_wait > 0 || sample.time_wait > 0);
        self.samples = halved;
    }
}

/// Of which populations a moment has more than the others of its point. All processes are shown as of that moment, so that
/// what they add up to is what there was.
#[derive(Clone, Copy, Debug, Default)]
struct Wins {
    close_wait: bool,
    time_wait: bool,
}

impl Wins {
    fn choose(self, sample: ProcessSample, close_wait: u32, time_wait: u32) -> ProcessSample {
        ProcessSample {
            point: sample.point,
            close_wait: if self.close_wait { close_wait } else { sample.close_wait },
            time_wait: if self.time_wait { time_wait } else { sample.time_wait },
        }
    }
}

impl Now {
    fn sum(&self) -> u32 {
        self.close_wait.saturating_add(self.time_wait)
    }
}

impl Tracker {
    /// Takes a sample, if any are wanted: at a reading of the counters, and at the end.
    pub(super) fn sample(&mut self, last: bool) {
        let Some(mut recorder) = self.series.take() else { return };
        let room = NS_PER_CONNECTION.saturating_mul(self.table.len() as u64);
        // Until the first survey is over nobody knows what was there before.
        let early = self.survey.is_some() && recorder.points.is_empty();
        if last || (!early && self.now.since(recorder.last.at) >= room) {
            let (point, owners) = self.populations(&mut recorder.last);
            recorder.add(point, &owners);
        }
        self.series = Some(recorder);
    }

    /// What there is now, all in all and by owner.
    fn populations(&self, last: &mut Sampled) -> (Point, FxHashMap<Option<ProcessId>, Now>) {
        let mut owners: FxHashMap<Option<ProcessId>, Now> = FxHashMap::default();
        let (mut established, mut close_wait, mut time_wait) = (0_u64, 0_u64, 0_u64);
        // Otherwise only surveys show sockets, and there are none in between.
        let follows = !self.modes.only_counts();
        for connection in self.table.values().filter(|connection| follows && connection.accepted) {
            match connection.state {
                TcpState::Established => established += 1,
                TcpState::CloseWait => {
                    close_wait += 1;
                    let now = now_of(&mut owners, connection.owner());
                    now.close_wait = now.close_wait.saturating_add(1);
                }
                _ => {}
            }
        }
        for owner in self.time_waits.within_lifetime(self.now) {
            time_wait += 1;
            let now = now_of(&mut owners, owner);
            now.time_wait = now.time_wait.saturating_add(1);
        }
        let half_open = self.requests.live.as_ref();
        let half_open =
            half_open.map(|live| live.values().filter(|one| self.listener_of(one).is_some()).count());
        let (seen, lost) = self.balance.since_start();
        let before = std::mem::replace(last, Sampled { at: self.now, seen, lost });
        let point = Point {
            end: self.now,
            span_ns: self.now.since(before.at),
            // Events arrive before the counters that count them: what was taken for seen may have been more.
            seen: seen.saturating_sub(before.seen),
            lost: lost.saturating_sub(before.lost),
            established: follows.then_some(established),
            close_wait: follows.then_some(close_wait),
            time_wait: (follows && self.session.attach == Attach::TpBtf).then_some(time_wait),
            half_open: half_open.map(|count| count as u64),
        };
        (point, owners)
    }
}

fn now_of(owners: &mut FxHashMap<Option<ProcessId>, Now>, owner: Option<Owner>) -> &mut Now {
    let now = owners.entry(owner.map(|owner| owner.process)).or_default();
    // The order of the table is nobody's business: of several names the greatest.
    now.comm = now.comm.max(owner.and_then(|owner| owner.comm));
    now
}

/// What was recorded, as the report has it.
pub(super) fn series(tracker: &Tracker) -> Option<Series> {
    let Recorder { points, fold, rows, .. } = tracker.series.as_ref()?;
    let mut rows: Vec<_> = rows.iter().collect();
    rows.sort_by_key(|(owner, row)| (Reverse(row.peak), **owner));
    let processes = rows.into_iter().map(|(owner, row)| ProcessSeries {
        process: owner.map(|owner| summary::identity(tracker, owner, row.comm)),
        since: row.since,
        samples: row.samples.clone(),
    });
    let point = |point: &Point| {
        let Point { end, span_ns, seen, lost, established, close_wait, time_wait, half_open } = *point;
        let time = tracker.session.anchor.wall(end);
        SeriesPoint { time, span_ns, seen, lost, established, close_wait, time_wait, half_open }
    };
    Some(Series {
        readings: *fold,
        points: points.iter().map(point).collect(),
        processes: processes.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(pid: u32) -> Option<ProcessId> {
        Some(ProcessId::new(pid, None))
    }

    fn point(second: u64, close_wait: u64) -> Point {
        Point {
            end: Timestamp(second),
            span_ns: SHORTEST_NS,
            seen: 3,
            close_wait: Some(close_wait),
            ..Point::default()
        }
    }

    fn now(close_wait: u32) -> Now {
        Now { close_wait, ..Now::default() }
    }

    #[test]
    fn points_are_bounded_and_peaks_and_sums_stay() {
        let mut recorder = Recorder::new(Timestamp(0));
        for second in 1..=10_000 {
            let leak = if second == 7_777 { 99 } else { 1 };
            recorder.add(point(second, u64::from(leak)), &[(owner(7), now(leak))].into_iter().collect());
        }
        assert!(recorder.points.len() <= POINTS, "{}", recorder.points.len());
        assert!(recorder.points.len() > POINTS / 2, "{}", recorder.points.len());
        assert_eq!(recorder.points.iter().map(|point| point.seen).sum::<u64>(), 30_000);
        assert_eq!(recorder.points.iter().map(|point| point.span_ns).sum::<u64>(), 10_000 * SHORTEST_NS);
        let peak = recorder.points.iter().position(|point| point.close_wait == Some(99)).unwrap();
        let row = &recorder.rows[&owner(7)];
        let at = row.samples.iter().find(|sample| sample.close_wait == 99).unwrap();
        assert_eq!((at.point as usize, row.since, row.peak), (peak, 0, 99));
        assert!(recorder.points[peak].end >= Timestamp(7_777));
        assert_eq!(row.samples.len(), recorder.points.len());
    }

    #[test]
    fn processes_add_up_to_what_there_was() {
        let mut recorder = Recorder::new(Timestamp(0));
        for second in 1..=5_000_u32 {
            let (first, other) = (second % 7, second % 3);
            let owners = [(owner(1), now(first)), (owner(2), now(other))];
            recorder.add(point(u64::from(second), u64::from(first + other)), &owners.into_iter().collect());
        }
        for (at, point) in (0..).zip(&recorder.points) {
            let samples = recorder.rows.values().flat_map(|row| &row.samples);
            let sum: u32 = samples.filter(|sample| sample.point == at).map(|sample| sample.close_wait).sum();
            assert_eq!(Some(u64::from(sum)), point.close_wait, "at {at}");
        }
        assert!(recorder.fold > 1);
    }

    #[test]
    fn who_has_most_is_followed_and_from_then_on() {
        let mut recorder = Recorder::new(Timestamp(0));
        let many = || (1..=PROCESSES as u32 + 9).map(|pid| (owner(pid), now(1)));
        recorder.add(point(1, 73), &many().collect());
        assert_eq!((recorder.rows.len(), recorder.gauge.dropped()), (PROCESSES, 9));
        assert!(recorder.rows.contains_key(&owner(1)) && !recorder.rows.contains_key(&owner(70)));
        recorder.add(point(2, 82), &many().chain([(owner(999), now(9))]).collect());
        assert_eq!(recorder.rows.len(), PROCESSES);
        assert_eq!(recorder.rows[&owner(999)].since, 1);
    }
}
