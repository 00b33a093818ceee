//! How populations went, in the report of a run that was asked to keep that. Not in the document: what a page or a screen draws.

use super::ProcessIdentity;
use crate::time::WallTime;

/// Populations over time, in a bounded number of points.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// How many readings of the kernel's counters each point is of.
    pub readings: u32,
    /// The points, in order.
    pub points: Vec<SeriesPoint>,
    /// Whose sockets they were, the highest peak first. What these do not add up to is of other processes.
    pub processes: Vec<ProcessSeries>,
}

/// A stretch of time up to the moment when the counters were read last in it. Of the readings in it, each population is that of
/// the one at which there were most, and so are the parts that processes have in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesPoint {
    /// Its end.
    pub time: WallTime,
    /// Its length in nanoseconds.
    pub span_ns: u64,
    /// Transitions that the kernel has counted in it.
    pub seen: u64,
    /// Of these, those that were lost.
    pub lost: u64,
    /// Sockets in ESTABLISHED; `None` where transitions are only counted.
    pub established: Option<u64>,
    /// Sockets in CLOSE_WAIT; `None` where transitions are only counted.
    pub close_wait: Option<u64>,
    /// Sockets that entered TIME_WAIT less than a minute before, which is how long it lasts, and that no survey has found
    /// gone; `None` where nothing tells of them.
    pub time_wait: Option<u64>,
    /// Half-open requests; `None` where they cannot be seen.
    pub half_open: Option<u64>,
}

/// The sockets of one process over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSeries {
    /// The process; `None` for those whose owner is not known.
    pub process: Option<ProcessIdentity>,
    /// From which point on it has been followed; before, its sockets are among those of others.
    pub since: u32,
    /// Where it had any, in order.
    pub samples: Vec<ProcessSample>,
}

/// A process at a point; of points that are not listed it had no socket in either state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessSample {
    /// Which point, counted from 0.
    pub point: u32,
    /// Sockets in CLOSE_WAIT.
    pub close_wait: u32,
    /// See [`SeriesPoint::time_wait`].
    pub time_wait: u32,
}
