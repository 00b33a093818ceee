//! The threads that look at the host while another one drains: surveys, and single processes as they turn up.
//!
//! What they find goes through the drain thread into the stream, so that there is one order of everything.

use std::thread;

use anyhow::Context as _;
use tcp_trace_core::process::ProcessId;
use tokio::sync::mpsc;

use super::live::Command;
use crate::{
    stacks,
    survey::{Containers, Scope, Surveyor},
};

/// Orders that wait for the surveyor; an order that finds no room is covered by those that wait.
const ORDERS: usize = 4;
/// Lists of processes that wait to be looked at.
const LISTS: usize = 64;

/// The threads.
#[derive(Debug)]
pub(super) struct Lookout {
    orders: mpsc::Sender<Order>,
    processes: mpsc::Sender<Vec<ProcessId>>,
    commands: mpsc::Sender<Command>,
}

/// What the surveyor is to do. Of several that wait the greatest covers the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// A survey, and a reading of the counters behind it.
    Survey(Scope),
    /// The last survey, and the end.
    Stop(Scope),
}

impl Lookout {
    /// Starts the threads; they end with `self`.
    pub(super) fn start(
        surveyor: Surveyor,
        commands: mpsc::Sender<Command>,
        stacks: Option<stacks::Handle>,
    ) -> anyhow::Result<Self> {
        let (orders, receiver) = mpsc::channel(ORDERS);
        let sender = commands.clone();
        spawn("tcp-trace-survey", move || survey(surveyor, receiver, &sender, stacks))?;
        let (processes, receiver) = mpsc::channel(LISTS);
        let sender = commands.clone();
        spawn("tcp-trace-look", move || look(receiver, &sender))?;
        Ok(Self { orders, processes, commands })
    }

    /// Gives an order.
    pub(super) fn order(&self, order: Order) {
        // One place stays free for the end.
        if matches!(order, Order::Stop(_)) || self.orders.capacity() > 1 {
            let _ = self.orders.try_send(order);
        }
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

/// Until there is an end, or nobody is left to listen.
fn survey(
    mut surveyor: Surveyor,
    mut orders: mpsc::Receiver<Order>,
    commands: &mpsc::Sender<Command>,
    mut stacks: Option<stacks::Handle>,
) {
    while let Some(mut order) = orders.blocking_recv() {
        while let Ok(another) = orders.try_recv() {
            order = order.max(another);
        }
        let (scope, last) = match order {
            Order::Survey(scope) => (scope, false),
            Order::Stop(scope) => (scope, true),
        };
        let send = |command| commands.blocking_send(command).is_ok();
        if last && let Some(stacks) = stacks.take() {
            stacks.finish();
        }
        // Only what two surveys of everything have missed is believed to be gone.
        if last && scope == Scope::All {
            let (mark, begin) = Surveyor::begin(scope);
            let looked = |surveyor: &mut Surveyor| surveyor.look(scope, begin, false);
            if !send(Command::Deliver(mark)) || !send(Command::DeliverAfter(looked(&mut surveyor))) {
                return;
            }
        }
        let (mark, begin) = Surveyor::begin(scope);
        let followed = if last { Command::Stop } else { Command::ReadCounters };
        let done = send(Command::Deliver(mark))
            && send(Command::DeliverAfter(surveyor.look(scope, begin, last)))
            && send(followed);
        if last || !done {
            return;
        }
    }
}

fn look(mut lists: mpsc::Receiver<Vec<ProcessId>>, commands: &mpsc::Sender<Command>) {
    let mut containers = Containers::new();
    while let Some(list) = lists.blocking_recv() {
        let facts = Surveyor::facts_of(&mut containers, &list);
        if !facts.is_empty() && commands.blocking_send(Command::Deliver(facts)).is_err() {
            return;
        }
    }
}
