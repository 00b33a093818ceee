//! How connections leave the table: closed, outlived by a successor, or closed while somebody still held their sockets.

use super::{
    Output, Tracker, Verdict, accept_held,
    connection::{Connection, Key, Step},
    endings::End,
    judge,
    wake::Ended,
};
use crate::{input::Event, report::Obituary, state::TcpState, time::Timestamp};

impl Tracker {
    /// A connection or a listener has ended.
    pub(super) fn close(&mut self, key: Key, event: &Event, step: &Step, output: &mut Output) {
        self.finished(key);
        let Some(mut connection) = self.table.remove(key) else { return };
        if event.old == TcpState::Listen {
            self.listener_gone(&connection);
        }
        let life = connection.life.take().filter(|_| event.old != TcpState::Listen);
        let obituary = life.map(|life| {
            let container = step.change.container.clone();
            Box::new(Obituary { container, ..life.obituary(&connection, event, step) })
        });
        if let Some(afterlife) = step.afterlife.filter(|_| connection.accepted) {
            self.time_waits.entered(connection.cookie, connection.owner(), afterlife, event.time);
        }
        let end = End::of(event, step, &connection);
        match connection.cookie {
            Some(cookie) if self.awaits_close(event) => {
                self.wake.add(cookie, connection, obituary, end, event.time);
            }
            _ => self.bury(&mut connection, obituary, end, event.time, output),
        }
    }

    /// A connection has ended, whatever is known of it.
    pub(super) fn finished(&mut self, key: Key) {
        let max = self.settings.max_survey_rows();
        if self.survey.as_mut().is_some_and(|survey| !survey.closed(key, max)) {
            // It has taken so long that it knows nothing any more.
            self.survey = None;
            self.samples.gauge.drops(1);
        }
    }

    /// Whether the socket of a connection that ends is still held, and it will be told who closes it.
    pub(super) fn awaits_close(&self, event: &Event) -> bool {
        event.file == Some(true)
            && event.task.is_none()
            && event.old != TcpState::Listen
            && self.session.programs.iter().any(|name| name == "last_close")
    }

    /// What is known of a connection that has ended is all that will be known of it.
    pub(super) fn conclude(&mut self, ended: Ended, output: &mut Output) {
        let Ended { mut connection, mut obituary, end, at } = ended;
        if connection.is_provisional() {
            // Somebody had accepted it, and who that was nobody has told.
            connection.disown();
        }
        if let Some(obituary) = &mut obituary {
            obituary.owner = connection.owner();
            obituary.container = self.people.container(connection.owner(), connection.cgroup_id());
        }
        if let Some(key) = connection.cookie.map(Key::Cookie) {
            let held = self.held.take(key);
            if !held.is_empty()
                && judge(&self.filters, &connection, (connection.state, TcpState::Close)) == Verdict::Accept
            {
                connection.accepted = true;
                self.accept_all(held, &mut connection, output);
            }
        }
        self.bury(&mut connection, obituary, end, at, output);
    }

    /// Attributes a connection's transitions and its end, and says how it lived.
    pub(super) fn bury(
        &mut self,
        connection: &mut Connection,
        obituary: Option<Box<Obituary>>,
        end: Option<End>,
        at: Timestamp,
        output: &mut Output,
    ) {
        self.tally.attribute(connection);
        if let Some(end) = end.filter(|_| connection.accepted) {
            self.tally.ended(end, connection);
        }
        match obituary.filter(|_| connection.accepted) {
            Some(obituary) => self.stacks.bury(at, *obituary, output),
            None => self.stacks.forget(connection.cookie),
        }
    }

    /// Makes events that were held back part of the report.
    pub(super) fn accept_all(&mut self, held: Vec<Step>, connection: &mut Connection, output: &mut Output) {
        let changes = self.settings.changes.then_some(&mut output.changes);
        accept_held(held, connection, &mut self.tally, &mut self.balance, changes);
    }

    /// A connection begins under this key: whatever is known under it belongs to an earlier life, whose end was lost.
    pub(super) fn bury_predecessor(&mut self, key: Key, output: &mut Output) {
        if let Key::Cookie(cookie) = key
            && let Some(ended) = self.wake.take(cookie)
        {
            self.conclude(ended, output);
        }
        let Some(mut connection) = self.table.remove(key) else { return };
        if connection.state == TcpState::Listen {
            self.listeners.remove(key, &connection);
        }
        let state = connection.state;
        let held = self.held.take(key);
        if judge(&self.filters, &connection, (state, state)) == Verdict::Accept {
            connection.accepted = true;
            self.accept_all(held, &mut connection, output);
        }
        self.tally.attribute(&mut connection);
    }

    /// Transitions of connections that have ended count for this window, whoever will turn out to have held them.
    pub(super) fn attribute_ended(&mut self) {
        for ended in self.wake.iter_mut() {
            let owner = ended.connection.owner().filter(|_| !ended.connection.is_provisional());
            self.tally.attribute_to(owner, &mut ended.connection);
        }
    }
}
