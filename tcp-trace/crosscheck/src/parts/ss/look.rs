//! Three looks at the same sockets: by ss, by tcp-trace, and by ss again.

use std::collections::{HashMap, HashSet};

use super::row::{End, Row};

/// What ss shows at one look.
pub(super) type Theirs = HashMap<u64, (Row, Vec<String>)>;
/// What tcp-trace shows, by cookie.
pub(super) type Ours = HashMap<u64, Row>;
/// What `/proc/net/tcp` shows: state, receive queue, inode.
pub(super) type Table = Vec<((End, End), Shown<'static>)>;
type Shown<'a> = (&'a str, u64, u64);

/// What has been compared so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Looks.
    pub(super) looks: u64,
    /// Sockets at a look that were equal in everything, before and after, at ss and at tcp-trace.
    pub(super) equal: u64,
    /// Those in which something changed between the looks of ss, and of which tcp-trace has what ss had before or after.
    pub(super) changed: u64,
    /// Those that the stream has to judge.
    pub(super) doubtful: Vec<Doubt>,
    /// Sockets of `/proc/net/tcp` that were equal.
    pub(super) table_equal: u64,
    /// What was equal, by state.
    pub(super) states: HashMap<String, u64>,
}

/// A socket that ss and tcp-trace show differently.
#[derive(Debug)]
pub(super) struct Doubt {
    pub(super) cookie: u64,
    /// From before the first look to after the last, in nanoseconds since 1970.
    pub(super) window: (i128, i128),
    pub(super) what: String,
    /// Whether a transition in the window would explain it.
    pub(super) by_transition: bool,
}

/// One sample.
pub(super) struct Looks {
    pub(super) before: Theirs,
    pub(super) ours: Ours,
    pub(super) table: Table,
    pub(super) after: Theirs,
    pub(super) window: (i128, i128),
}

impl Tally {
    pub(super) fn add(&mut self, looks: &Looks) {
        self.looks += 1;
        let all: HashSet<u64> =
            [looks.before.keys(), looks.after.keys()].into_iter().flatten().copied().collect();
        for cookie in &all {
            self.judge(*cookie, looks);
        }
        for cookie in looks.ours.keys().filter(|cookie| !all.contains(cookie)) {
            // It came after the first look of ss and went before the second.
            let what = format!("tcp-trace alone has {:?}", looks.ours.get(cookie));
            self.doubtful.push(Doubt { cookie: *cookie, window: looks.window, what, by_transition: true });
        }
        self.judge_table(looks);
    }

    fn judge(&mut self, cookie: u64, looks: &Looks) {
        let (before, after) = (looks.before.get(&cookie), looks.after.get(&cookie));
        let ours = looks.ours.get(&cookie);
        let row = |look: Option<&(Row, Vec<String>)>| look.map(|(row, _)| row.clone());
        if before == after {
            // Not even a segment has passed: at every moment between the two it was so.
            match (before, ours) {
                (Some((theirs, _)), Some(ours)) if theirs == ours => {
                    self.equal += 1;
                    *self.states.entry(ours.state.clone()).or_default() += 1;
                }
                (Some((theirs, _)), Some(ours))
                    if theirs.state == "LISTEN" && differ_in_the_queue_alone(theirs, ours) =>
                {
                    self.changed += 1;
                }
                _ => {
                    let what = format!("ss, twice: {:?}; tcp-trace: {ours:?}", row(before));
                    self.doubtful.push(Doubt { cookie, window: looks.window, what, by_transition: true });
                }
            }
            return;
        }
        let states = [before, after].map(|look| look.map(|(row, _)| row.state.as_str()));
        let identity = |row: &Row| (row.ends, row.inode);
        let either =
            |ours: &Row| [before, after].iter().flatten().any(|(row, _)| identity(row) == identity(ours));
        match ours {
            Some(ours) if states.contains(&Some(ours.state.as_str())) && either(ours) => self.changed += 1,
            // It came or went between the looks of ss.
            None if states.contains(&None) => self.changed += 1,
            _ => {
                let what = format!("ss: {:?}, then {:?}; tcp-trace: {ours:?}", row(before), row(after));
                self.doubtful.push(Doubt { cookie, window: looks.window, what, by_transition: true });
            }
        }
    }

    fn judge_table(&mut self, looks: &Looks) {
        let mut by_ends: HashMap<(End, End), Vec<Shown<'_>>> = HashMap::new();
        for (ends, shown) in &looks.table {
            by_ends.entry(*ends).or_default().push(*shown);
        }
        for (cookie, (before, passed)) in &looks.before {
            let still = looks.after.get(cookie) == Some(&(before.clone(), passed.clone()));
            let Some(ours) = looks.ours.get(cookie).filter(|ours| still && **ours == *before) else {
                continue;
            };
            // An accept queue may fill and empty between two looks without a trace.
            if ours.state == "LISTEN" {
                continue;
            }
            let shown = (ours.state.as_str(), ours.queues.0, ours.inode);
            match by_ends.get(&ours.ends) {
                Some(rows) if rows.contains(&shown) => self.table_equal += 1,
                rows => {
                    let what = format!("/proc/net/tcp: {rows:?}; ss and tcp-trace: {ours:?}");
                    self.doubtful.push(Doubt {
                        cookie: *cookie,
                        window: looks.window,
                        what,
                        by_transition: false,
                    });
                }
            }
        }
    }
}

/// An accept queue may fill and empty between two looks, and a listener has no counters that would tell.
fn differ_in_the_queue_alone(theirs: &Row, ours: &Row) -> bool {
    *theirs == Row { queues: (theirs.queues.0, ours.queues.1), ..ours.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::ss::row::of_ss;

    fn look(text: &str) -> Theirs {
        text.lines().filter_map(of_ss).map(|(cookie, row, passed)| (cookie, (row, passed))).collect()
    }

    fn tally(before: &str, ours: &str, after: &str) -> Tally {
        let ours: Ours = look(ours).into_iter().map(|(cookie, (row, _))| (cookie, row)).collect();
        let mut tally = Tally::default();
        let (before, after) = (look(before), look(after));
        let table =
            before.values().map(|(row, _)| (row.ends, ("ESTABLISHED", row.queues.0, row.inode))).collect();
        tally.add(&Looks { before, ours, table, after, window: (0, 1) });
        tally
    }

    const OPEN: &str = "ESTAB 0 0 127.0.0.1:80 127.0.0.1:5 users:((\"x\",pid=1,fd=3)) ino:9 sk:a segs_in:1";

    #[test]
    fn equal_sockets_are_equal() {
        let Tally { equal, changed, doubtful, table_equal, .. } = tally(OPEN, OPEN, OPEN);
        assert_eq!((equal, changed, doubtful.len(), table_equal), (1, 0, 0, 1));
    }

    #[test]
    fn every_field_of_one_that_stands_still_counts() {
        for (what, other) in [
            ("ESTAB", "CLOSE-WAIT"),
            (" 0 0 ", " 1 0 "),
            (" 0 0 ", " 0 1 "),
            ("pid=1", "pid=2"),
            ("fd=3", "fd=4"),
            ("ino:9", "ino:8"),
            (":5 ", ":6 "),
        ] {
            let tally = tally(OPEN, &OPEN.replace(what, other), OPEN);
            assert_eq!((tally.equal, tally.doubtful.len()), (0, 1), "{other}");
        }
        assert_eq!(tally(OPEN, "", OPEN).doubtful.len(), 1, "missing");
        assert_eq!(tally("", OPEN, "").doubtful.len(), 1, "too many");
    }

    #[test]
    fn one_that_moves_may_be_as_before_or_as_after() {
        let closed = OPEN.replace("ESTAB", "CLOSE-WAIT").replace("segs_in:1", "segs_in:2");
        for ours in [OPEN, &closed] {
            assert_eq!(tally(OPEN, ours, &closed).changed, 1);
        }
        let between = OPEN.replace("ESTAB", "LAST-ACK");
        assert_eq!(tally(OPEN, &between, &closed).doubtful.len(), 1);
        assert_eq!(tally(OPEN, "", "").changed, 1, "gone");
    }
}
