//! The thread that watches whether the stream keeps up, and switches the kernel programs to aggregation and back.
//!
//! Apart from the thread that drains, because that one may wait for the rest of the program: just then a buffer fills.

use std::{sync::Arc, thread, time::Duration};

use tcp_trace_common::counters::TRANSITIONS;
use tcp_trace_core::{
    mode::{Mode, ModeChange, Observation, Rule},
    record::kind,
};
use tokio::sync::mpsc;

use super::{Batch, live::Command};
use crate::{
    bpf::{Aggregation, Counts, Fills, Instead, degraded::no_aggregation},
    confine::{self, Duty},
    host, say,
};

/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);
/// Rows are taken out after so many looks, so that their map has room.
const LOOKS_PER_ROWS: u32 = 10;

/// What it looks at.
pub(super) struct Watch {
    /// `None` where it is at work already.
    pub(super) instead: Option<Instead>,
    pub(super) aggregation: Arc<Aggregation>,
    pub(super) counts: Arc<Counts>,
    /// `None` where the mode is not its to choose: then it only sees to it that rows are taken out.
    pub(super) fills: Option<Fills>,
    /// Of each buffer.
    pub(super) room: u64,
}

/// A change of the mode, as a batch of its own.
pub(super) fn record(change: &ModeChange) -> Batch {
    let mut batch = Batch::default();
    // Plain numbers and names: it cannot fail.
    batch.push(kind::MODE, &serde_json::to_vec(change).unwrap_or_default());
    batch
}

/// That there is no other mode, as a batch of its own.
fn refused(error: &anyhow::Error) -> Batch {
    let degradation = no_aggregation(&format!("{error:#}"), "to report it, with what -v says");
    let mut batch = Batch::default();
    // Texts only: it cannot fail.
    batch.push(kind::DEGRADATION, &serde_json::to_vec(&degradation).unwrap_or_default());
    batch
}

impl Watch {
    /// Until nobody drains any more.
    pub(super) fn run(mut self, mut mode: Mode, commands: &mpsc::Sender<Command>) {
        confine::assume(&Duty::Load);
        // Until then the programs can only send.
        let _in_place = match self.instead.take().map(Instead::load).transpose() {
            Ok(in_place) => in_place,
            Err(error) => {
                let _ = commands.blocking_send(Command::Deliver(refused(&error)));
                return;
            }
        };
        confine::assume(&Duty::Watch);
        let mut rule = Rule::default();
        let mut looks = 0;
        while !commands.is_closed() {
            thread::sleep(LOOK);
            if let Some(change) = self.look(&mut rule) {
                if let Err(error) = self.aggregation.switch(change.mode) {
                    say!("tcp-trace: stays in its mode: {error:#}");
                    return;
                }
                mode = change.mode;
                if commands.blocking_send(Command::Deliver(record(&change))).is_err() {
                    return;
                }
                if mode == Mode::Stream {
                    super::live::grace_period();
                    if let Err(error) = self.aggregation.forget() {
                        log::warn!("{error:#}");
                    }
                }
            }
            looks += 1;
            if mode == Mode::Aggregate && looks >= LOOKS_PER_ROWS {
                // If there is no room for the command, the drain thread is busy with one that takes rows out too.
                let _ = commands.try_send(Command::TakeRows);
                looks = 0;
            }
        }
    }

    fn look(&self, rule: &mut Rule) -> Option<ModeChange> {
        let waiting = self.fills.as_ref()?.waiting();
        let counters = self.counts.read().ok()?;
        let sum = |matrix: &[u64; TRANSITIONS]| matrix.iter().sum::<u64>();
        rule.observe(Observation {
            time: host::monotonic(),
            wanted: sum(&counters.seen).saturating_sub(sum(&counters.filtered)),
            lost: sum(&counters.lost),
            waiting,
            room: self.room,
        })
    }
}
