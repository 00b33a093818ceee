//! The threads that look at the host while another one drains: surveys, and single processes as they turn up.
//!
//! What they find goes through the drain thread into the stream, so that there is one order of everything.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tcp_trace_core::{process::ProcessId, record::kind, session::Degradation};
use tokio::sync::mpsc;

use super::{Batch, live::Command};
use crate::{
    confine::{self, Duty},
    stacks,
    survey::{Containers, Outlet, Scope, Surveyor},
};

/// Orders that wait for the surveyor; an order that finds no room is covered by those that wait.
const ORDERS: usize = 4;
/// Lists of processes that wait to be looked at.
const LISTS: usize = 64;
/// From then on reports do not wait for a survey. A million sockets take a few seconds.
const LATE: Duration = Duration::from_secs(5);

/// The threads.
#[derive(Debug)]
pub(super) struct Lookout {
    orders: mpsc::Sender<Order>,
    processes: mpsc::Sender<Vec<ProcessId>>,
    commands: mpsc::Sender<Command>,
    watch: Watch,
    /// Whether it was told that a survey does not come back.
    told: Cell<bool>,
}

/// How long the surveyor has been at what it is at.
#[derive(Clone, Debug)]
struct Watch {
    began: Instant,
    /// When it began that, in milliseconds since `began`; `IDLE` while it waits for an order.
    busy: Arc<AtomicU64>,
}

impl Watch {
    const IDLE: u64 = u64::MAX;

    fn new() -> Self {
        Self { began: Instant::now(), busy: Arc::new(AtomicU64::new(Self::IDLE)) }
    }

    fn rest(&self) {
        self.busy.store(Self::IDLE, Relaxed);
    }

    fn work(&self) {
        self.busy.store(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(0), Relaxed);
    }

    fn is_late(&self) -> bool {
        let since = self.busy.load(Relaxed);
        since != Self::IDLE && self.began.elapsed() > Duration::from_millis(since).saturating_add(LATE)
    }
}

/// What the surveyor is to do: a survey, and a reading of the counters behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) scope: Scope,
    /// It is the last survey, and the end follows.
    pub(super) last: bool,
}

/// Orders that one survey serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Orders {
    scope: Option<Scope>,
    /// What is asked for at the end.
    last: Option<Scope>,
}

impl Orders {
    fn add(&mut self, Order { scope, last }: Order) {
        self.scope = self.scope.max(Some(scope));
        if last {
            self.last = self.last.max(Some(scope));
        }
    }

    /// Those that wait.
    fn add_waiting(&mut self, orders: &mut mpsc::Receiver<Order>) {
        while let Ok(order) = orders.try_recv() {
            self.add(order);
        }
    }
}

impl Lookout {
    /// Starts the threads; they end with `self`.
    pub(super) fn start(
        surveyor: Surveyor,
        commands: mpsc::Sender<Command>,
        stacks: Option<stacks::Handle>,
    ) -> anyhow::Result<Self> {
        let (orders, receiver) = mpsc::channel(ORDERS);
        let (sender, watch) = (commands.clone(), Watch::new());
        let at_work = watch.clone();
        spawn("tcp-trace-survey", move || survey(surveyor, receiver, &sender, stacks, &at_work))?;
        let (processes, receiver) = mpsc::channel(LISTS);
        let sender = commands.clone();
        spawn("tcp-trace-look", move || look(receiver, &sender))?;
        Ok(Self { orders, processes, commands, watch, told: Cell::new(false) })
    }

    /// Gives an order.
    pub(super) fn order(&self, order: Order) {
        // One place stays free for the end.
        if order.last || self.orders.capacity() > 1 {
            let _ = self.orders.try_send(order);
        }
        if !order.last && self.watch.is_late() {
            self.go_on_without();
        }
    }

    /// A reading of the counters, which makes a report due, though the survey that should stand before it does not come back.
    fn go_on_without(&self) {
        if !self.told.replace(true) {
            let _ = self.commands.try_send(Command::Deliver(late()));
        }
        let _ = self.commands.try_send(Command::ReadCounters);
    }

    /// Ends the drain thread, whatever the surveyor is at. Returns whether there was room for the command.
    pub(super) fn stop_draining(&self) -> bool {
        self.commands.try_send(Command::Stop).is_ok()
    }

    /// Asks who these processes are. When too many come at a time some stay unknown beyond their names.
    pub(super) fn look_at(&self, processes: Vec<ProcessId>) {
        if !processes.is_empty() {
            let _ = self.processes.try_send(processes);
        }
    }
}

pub(super) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map(drop).with_context(|| format!("starting the thread {name}"))
}

/// The thread that drains, as a survey sees it.
struct Drain<'a>(&'a mpsc::Sender<Command>);

impl Outlet for Drain<'_> {
    fn deliver(&self, batch: Batch) -> bool {
        self.0.blocking_send(Command::Deliver(batch)).is_ok()
    }

    fn settle(&self) -> bool {
        self.0.blocking_send(Command::Settle).is_ok()
    }
}

/// Until there is an end, or nobody is left to listen.
fn survey(
    mut surveyor: Surveyor,
    mut orders: mpsc::Receiver<Order>,
    commands: &mpsc::Sender<Command>,
    mut stacks: Option<stacks::Handle>,
    watch: &Watch,
) {
    confine::assume(&Duty::Survey);
    let drain = Drain(commands);
    let mut waiting = Orders::default();
    loop {
        watch.rest();
        if waiting.scope.is_none() {
            let Some(order) = orders.blocking_recv() else { return };
            waiting.add(order);
        }
        waiting.add_waiting(&mut orders);
        let Orders { scope: Some(scope), last: end } = std::mem::take(&mut waiting) else { continue };
        watch.work();
        if scope > Scope::Requests {
            surveyor.prepare();
        }
        let mut survey = |is_last: &mut dyn FnMut() -> bool| {
            let (mark, begin) = Surveyor::begin(scope);
            drain.deliver(mark).then(|| surveyor.look(scope, begin, is_last, &drain)).flatten()
        };
        // Only what two surveys of everything have missed is believed to be gone.
        if end == Some(Scope::All) && survey(&mut || false).is_none() {
            return;
        }
        // The end of a short run may be ordered when the first survey has not looked yet at what a report needs.
        let last = survey(&mut || {
            waiting.add_waiting(&mut orders);
            end.is_some() || waiting.last.is_some_and(|wanted| wanted < Scope::All && wanted <= scope)
        });
        let Some(last) = last else { return };
        if last && let Some(stacks) = stacks.take() {
            // The last stacks stand before the end, too.
            stacks.finish();
        }
        let followed = if last { Command::Stop } else { Command::ReadCounters };
        if commands.blocking_send(followed).is_err() || last {
            return;
        }
    }
}

/// That a survey does not come back, as a batch of its own.
fn late() -> Batch {
    let reason = format!(
        "a look at the host took longer than {} s (a process that cannot be looked at, a file system that does not \
         answer, or far too many sockets); reports that were due meanwhile came without it: queues, descriptors and owners \
         are those of the look before",
        LATE.as_secs()
    );
    let degradation = Degradation { feature: "survey".to_owned(), reason, remedy: None };
    let mut batch = Batch::default();
    // Texts only: it cannot fail.
    batch.push(kind::DEGRADATION, &serde_json::to_vec(&degradation).unwrap_or_default());
    batch
}

fn look(mut lists: mpsc::Receiver<Vec<ProcessId>>, commands: &mpsc::Sender<Command>) {
    confine::assume(&Duty::Survey);
    let mut containers = Containers::new();
    while let Some(list) = lists.blocking_recv() {
        let facts = Surveyor::facts_of(&mut containers, &list);
        if !facts.is_empty() && commands.blocking_send(Command::Deliver(facts)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_run_does_not_take_its_first_survey_away() {
        let mut orders = Orders::default();
        orders.add(Order { scope: Scope::All, last: false });
        orders.add(Order { scope: Scope::Report, last: true });
        assert_eq!(orders, Orders { scope: Some(Scope::All), last: Some(Scope::Report) });
        orders.add(Order { scope: Scope::Requests, last: false });
        assert_eq!(orders.scope, Some(Scope::All), "the greatest covers the others");
    }
}
