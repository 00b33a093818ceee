//! A recording as it is played: reports in order, and where in them we are.

use std::{sync::Arc, time::Duration};

use tcp_trace_core::time::WallTime;

use super::frame::Frame;

/// Speeds, as a multiple of the time that was.
const SPEEDS: [u32; 7] = [1, 2, 5, 10, 20, 50, 100];

/// A recording.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Its name, safe to be shown.
    pub name: String,
    frames: Vec<Arc<Frame>>,
    at: usize,
    /// Whether it goes on by itself.
    pub playing: bool,
    /// How fast.
    pub speed: u32,
    /// How much of it has been read; `None`: all.
    pub progress: Option<f64>,
    /// Why its reading ended early.
    pub trouble: Option<String>,
    /// Whether the last report is followed as they come, until somebody seeks.
    following: bool,
    /// Time that has passed since the report that is shown, in nanoseconds of the recording.
    passed_ns: u64,
}

impl Recorded {
    /// One that nothing has been read of.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self {
            name,
            frames: Vec::new(),
            at: 0,
            playing: false,
            speed: 1,
            progress: Some(0.0),
            trouble: None,
            following: false,
            passed_ns: 0,
        }
    }

    /// A report has been read.
    pub fn take(&mut self, frame: Arc<Frame>) {
        self.frames.push(frame);
        if self.following {
            self.at = self.frames.len() - 1;
        }
    }

    /// What is shown.
    #[must_use]
    pub fn frame(&self) -> Option<&Arc<Frame>> {
        self.frames.get(self.at)
    }

    /// Everything up to what is shown.
    #[must_use]
    pub fn past(&self) -> &[Arc<Frame>] {
        self.frames.get(..=self.at).unwrap_or_default()
    }

    /// Everything that has been read.
    #[must_use]
    pub fn frames(&self) -> &[Arc<Frame>] {
        &self.frames
    }

    /// The report that is shown, counted from 0.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// Time passes. Returns whether another report is shown by that.
    pub fn tick(&mut self, passed: Duration) -> bool {
        if !self.playing {
            return false;
        }
        let passed = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX).saturating_mul(self.speed.into());
        self.passed_ns = self.passed_ns.saturating_add(passed);
        let before = self.at;
        while let (Some(WallTime(now)), Some(WallTime(next))) = (self.end(self.at), self.end(self.at + 1)) {
            let step = next.saturating_sub(now);
            if self.passed_ns < step {
                break;
            }
            self.passed_ns -= step;
            self.at += 1;
        }
        if self.at + 1 >= self.frames.len() {
            self.passed_ns = 0;
            // At the end of what there is: what is still being read is waited for.
            self.playing = self.progress.is_some();
            return true;
        }
        self.at != before
    }

    fn end(&self, at: usize) -> Option<WallTime> {
        self.frames.get(at).map(|frame| frame.report.window.end)
    }

    /// Goes on, or stands still. At the end it begins anew.
    pub fn play_or_pause(&mut self) {
        if !self.playing && self.progress.is_none() && self.at + 1 >= self.frames.len() {
            self.at = 0;
        }
        self.playing = !self.playing;
        self.following = false;
        self.passed_ns = 0;
    }

    /// Faster or slower.
    pub fn change_speed(&mut self, by: isize) {
        let at = SPEEDS.iter().position(|speed| *speed == self.speed).unwrap_or(0) as isize;
        let next = (at + by).clamp(0, SPEEDS.len() as isize - 1);
        self.speed = SPEEDS.get(next as usize).copied().unwrap_or(1);
    }

    /// Goes so many seconds on or back, a report at least.
    pub fn seek(&mut self, seconds: i64) {
        let Some(WallTime(now)) = self.end(self.at) else { return };
        let target = now.saturating_add_signed(seconds.saturating_mul(1_000_000_000));
        let found =
            self.frames.partition_point(|frame| frame.report.window.end.0 <= target).saturating_sub(1);
        let last = self.frames.len().saturating_sub(1);
        let at = if seconds > 0 { found.max(self.at + 1) } else { found.min(self.at.saturating_sub(1)) };
        self.go(at.min(last));
    }

    /// Goes to this share of what there is, in thousandths.
    pub fn seek_to(&mut self, thousandths: u16) {
        let last = self.frames.len().saturating_sub(1);
        self.go((last * usize::from(thousandths.min(1000)) + 500) / 1000);
        self.following = thousandths >= 1000 && self.progress.is_some();
    }

    fn go(&mut self, at: usize) {
        self.at = at;
        self.following = false;
        self.passed_ns = 0;
    }
}
