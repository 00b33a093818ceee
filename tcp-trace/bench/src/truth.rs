//! The transitions that a load went through, and whether a report has counted them.

use serde::Serialize;
use serde_json::Value;
use tcp_trace_testkit::workload::Churn;

/// Transitions that a connection of churn goes through, both ends together.
pub(crate) const EACH: u64 = EACH_ONCE.len() as u64;

/// What a connection goes through that its client closes first.
const EACH_ONCE: [(&str, &str); 10] = [
    ("CLOSE", "SYN_SENT"),
    ("SYN_SENT", "ESTABLISHED"),
    ("LISTEN", "SYN_RECV"),
    ("SYN_RECV", "ESTABLISHED"),
    ("ESTABLISHED", "FIN_WAIT1"),
    ("ESTABLISHED", "CLOSE_WAIT"),
    ("FIN_WAIT1", "FIN_WAIT2"),
    ("FIN_WAIT2", "CLOSE"),
    ("CLOSE_WAIT", "LAST_ACK"),
    ("LAST_ACK", "CLOSE"),
];

/// Transitions that a load went through.
pub(crate) fn transitions(churn: &Churn) -> u64 {
    churn.connections * EACH + 2 * u64::from(churn.listeners)
}

/// By how much counts differ from what happened, all kinds of transition together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// Happened and not counted. There is a kernel that runs no program for what a softirq does while `init` is the
    /// current task: a few in a million, of which no program and no counter knows.
    pub(crate) missing: u64,
    /// Counted and not happened.
    pub(crate) extra: u64,
}

impl Difference {
    /// Of the cells of a report's matrix from what so many connections and listeners do.
    pub(crate) fn of(cells: &[Value], connections: u64, listeners: u64) -> Self {
        let listening = [("CLOSE", "LISTEN"), ("LISTEN", "CLOSE")].map(|kind| (kind, listeners));
        let mut difference = Self::default();
        for (kind, happened) in EACH_ONCE.map(|kind| (kind, connections)).into_iter().chain(listening) {
            let counted =
                cells.iter().filter(|cell| is(cell, kind)).filter_map(|cell| cell["count"].as_u64()).sum();
            difference.missing += happened.saturating_sub(counted);
            difference.extra += counted.saturating_sub(happened);
        }
        let known = |cell: &&Value| {
            EACH_ONCE.iter().chain(&[("CLOSE", "LISTEN"), ("LISTEN", "CLOSE")]).any(|kind| is(cell, *kind))
        };
        let unknown = cells.iter().filter(|cell| !known(cell)).filter_map(|cell| cell["count"].as_u64());
        difference.extra += unknown.sum::<u64>();
        difference
    }

    pub(crate) fn is_none(self) -> bool {
        self == Self::default()
    }
}

fn is(cell: &Value, (old, new): (&str, &str)) -> bool {
    cell["old"] == old && cell["new"] == new
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_transition_too_few_or_too_many_is_found() {
        let cell = |(old, new): (&str, &str), count: u64| json!({"old": old, "new": new, "count": count});
        let listening = [("CLOSE", "LISTEN"), ("LISTEN", "CLOSE")].map(|kind| cell(kind, 2));
        let mut cells: Vec<Value> =
            EACH_ONCE.map(|kind| cell(kind, 7)).into_iter().chain(listening).collect();
        assert!(Difference::of(&cells, 7, 2).is_none());
        cells[3]["count"] = 6.into();
        assert_eq!(Difference::of(&cells, 7, 2), Difference { missing: 1, extra: 0 });
        cells[4]["count"] = 9.into();
        cells.push(cell(("SYN_SENT", "CLOSE"), 1));
        assert_eq!(Difference::of(&cells, 7, 2), Difference { missing: 1, extra: 3 });
        assert_eq!(Difference::of(&[], 7, 2), Difference { missing: 74, extra: 0 });
    }
}
