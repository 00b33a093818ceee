//! Many streams, each in order, read as one.
//!
//! No two transitions of a socket overlap: each is made in the socket's lock, and its record is committed before the lock is
//! given up. So of two records of a socket on different CPUs the later one was *begun* after the earlier one was committed.
//! Whoever takes records with a time of at most `until` only, and looks at the positions of all buffers after `until`, has
//! the earlier one before its eyes whenever it has the later one — unless that lies behind a place that is reserved and not
//! committed yet, where reading ends. Then reading ends everywhere.

use std::{cmp::Reverse, collections::BinaryHeap};

/// One stream.
pub(super) trait Lane {
    /// What comes next.
    fn next(&mut self) -> Next;
    /// The record that `next` has told of.
    fn record(&self) -> &[u8];
    /// Goes on behind it.
    fn pass(&mut self);
}

/// What comes next in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A record of this time; of a nested one that was reserved first, the later time of the two.
    Record(u64),
    /// One that is being written.
    Busy,
    /// Nothing.
    Nothing,
}

/// How far reading has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Everything up to `until`.
    Done,
    /// As much as was wanted; there is more.
    Enough,
    /// To a record that is being written just now.
    Blocked,
}

/// Hands over, in order, the records with a time of at most `until`, until `enough` bytes are reached.
pub(super) fn merge<L: Lane>(
    lanes: &mut [L],
    until: u64,
    enough: usize,
    mut sink: impl FnMut(&[u8]),
) -> Progress {
    let mut taken = 0;
    let mut heads = BinaryHeap::with_capacity(lanes.len());
    for (index, lane) in lanes.iter_mut().enumerate() {
        match lane.next() {
            Next::Record(time) if time <= until => heads.push(Reverse((time, index))),
            Next::Record(_) | Next::Nothing => {}
            Next::Busy => return Progress::Blocked,
        }
    }
    while let Some(Reverse((_, index))) = heads.pop() {
        let Some(lane) = lanes.get_mut(index) else { continue };
        // The others have nothing before this.
        let others = heads.peek().map_or(until, |Reverse((time, _))| *time);
        loop {
            if taken >= enough {
                return Progress::Enough;
            }
            let record = lane.record();
            taken += record.len();
            sink(record);
            lane.pass();
            match lane.next() {
                Next::Record(time) if time <= others => {}
                Next::Record(time) if time <= until => {
                    heads.push(Reverse((time, index)));
                    break;
                }
                Next::Record(_) | Next::Nothing => break,
                Next::Busy => return Progress::Blocked,
            }
        }
    }
    Progress::Done
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use zerocopy::IntoBytes as _;

    use super::*;

    /// Times of records; 0 is one that is being written.
    struct Script(VecDeque<u64>);

    impl Lane for Script {
        fn next(&mut self) -> Next {
            match self.0.front() {
                None => Next::Nothing,
                Some(0) => Next::Busy,
                Some(time) => Next::Record(*time),
            }
        }

        fn record(&self) -> &[u8] {
            self.0.front().unwrap().as_bytes()
        }

        fn pass(&mut self) {
            self.0.pop_front();
        }
    }

    fn read(lanes: &mut [Script], until: u64, enough: usize) -> (Vec<u64>, Progress) {
        let mut times = Vec::new();
        let sink = |record: &[u8]| times.push(u64::from_ne_bytes(record.try_into().unwrap()));
        let progress = merge(lanes, until, enough, sink);
        (times, progress)
    }

    fn lanes<const N: usize>(times: [&[u64]; N]) -> [Script; N] {
        times.map(|times| Script(times.iter().copied().collect()))
    }

    #[test]
    fn records_come_in_the_order_of_their_time() {
        let mut lanes = lanes([&[1, 4, 5, 9], &[2, 3, 10], &[], &[6]]);
        assert_eq!(read(&mut lanes, 100, 1000), (vec![1, 2, 3, 4, 5, 6, 9, 10], Progress::Done));
    }

    #[test]
    fn what_is_later_stays() {
        let mut lanes = lanes([&[1, 7], &[2, 3, 10]]);
        assert_eq!(read(&mut lanes, 3, 1000), (vec![1, 2, 3], Progress::Done));
        assert_eq!(read(&mut lanes, 10, 1000), (vec![7, 10], Progress::Done));
    }

    #[test]
    fn nothing_is_read_past_a_record_that_is_being_written() {
        // Behind it may be what came before the 5.
        let mut lanes = lanes([&[1, 0, 4], &[2, 5]]);
        assert_eq!(read(&mut lanes, 100, 1000), (vec![1], Progress::Blocked));
        assert_eq!(read(&mut lanes, 100, 1000), (vec![], Progress::Blocked));
        lanes[0].0[0] = 3;
        assert_eq!(read(&mut lanes, 100, 1000), (vec![2, 3, 4, 5], Progress::Done));
    }

    #[test]
    fn it_goes_on_where_it_had_enough() {
        let mut lanes = lanes([&[1, 3, 5], &[2, 4]]);
        assert_eq!(read(&mut lanes, 100, 16), (vec![1, 2], Progress::Enough));
        assert_eq!(read(&mut lanes, 100, 24), (vec![3, 4, 5], Progress::Done));
    }
}
