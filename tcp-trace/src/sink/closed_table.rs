//! Finished connections in columns, one line each: what `tcplife` users look for, with the right process.

use tcp_trace_core::{
    process::printable,
    report::{Closer, Ending, Obituary, Role},
    time::WallTime,
};

use super::{
    Columns,
    stream_table::{clock, quoted},
    units::duration,
};

/// Rows of finished connections.
#[derive(Debug)]
pub(super) struct ClosedTable {
    columns: Columns,
    first: Option<WallTime>,
}

const HEADER: [&str; 14] = [
    "PID", "COMM", "LADDR", "LPORT", "RADDR", "RPORT", "ROLE", "CLOSER", "ENDING", "LIFE", "OPEN", "SENT",
    "RECV", "RETR",
];

/// Functions shown of the place where a connection was opened.
const FUNCTIONS: usize = 3;

impl ClosedTable {
    pub(super) fn new(columns: Columns) -> Self {
        Self { columns, first: None }
    }

    pub(super) fn header(&self) -> String {
        let unit = |title| match title {
            "LIFE" | "OPEN" if self.columns.csv => format!("{title}_MS"),
            title => title.to_owned(),
        };
        self.lay_out("TIME", "TIME(s)", &HEADER.map(unit), "OPENED AT")
    }

    pub(super) fn row(&mut self, obituary: &Obituary) -> String {
        let first = *self.first.get_or_insert(obituary.time);
        let unknown = || "-".to_owned();
        let owner = obituary.owner;
        let number = |number: Option<u64>| number.map_or_else(unknown, |number| number.to_string());
        let cells = [
            owner.map_or_else(unknown, |owner| owner.process.pid.to_string()),
            owner.and_then(|owner| owner.comm).map_or_else(unknown, |comm| comm.to_string()),
            obituary.local.address.to_string(),
            obituary.local.port.to_string(),
            obituary.peer.address.to_string(),
            obituary.peer.port.to_string(),
            obituary.role.map_or("-", Role::name).to_owned(),
            obituary.closer.map_or("-", Closer::name).to_owned(),
            obituary.ending.map_or("-", Ending::name).to_owned(),
            self.time(obituary.duration_ns),
            self.time(obituary.connect_ns.or(obituary.half_open_ns)),
            number(obituary.bytes_sent),
            number(obituary.bytes_received),
            number(obituary.retransmits.map(u64::from)),
        ];
        let seconds = obituary.time.0.saturating_sub(first.0) as f64 / 1e9;
        let opened_at = obituary.opened_at.as_ref().filter(|_| self.columns.stacks);
        let opened_at = opened_at.map(|opened_at| opened_at.text(FUNCTIONS));
        let opened_at = opened_at.as_deref().map_or("-".into(), printable);
        self.lay_out(&clock(obituary.time.timestamp()), &format!("{seconds:.6}"), &cells, &opened_at)
    }

    /// For people with its unit, for programs in milliseconds.
    fn time(&self, ns: Option<u64>) -> String {
        match ns {
            Some(ns) if self.columns.csv => format!("{:.3}", ns as f64 / 1e6),
            ns => duration(ns),
        }
    }

    fn lay_out(&self, time: &str, timestamp: &str, cells: &[String; 14], opened_at: &str) -> String {
        let Columns { time: with_time, timestamp: with_timestamp, wide, csv, stacks } = self.columns;
        let mut row = Vec::new();
        if with_time {
            row.push(if csv { time.to_owned() } else { format!("{time:<8}") });
        }
        if with_timestamp {
            row.push(if csv { timestamp.to_owned() } else { format!("{timestamp:<9}") });
        }
        if csv {
            row.extend(cells.iter().map(|cell| quoted(cell)));
            row.extend(stacks.then(|| quoted(opened_at)));
            return row.join(",");
        }
        let address = if wide { 39 } else { 15 };
        let [
            pid,
            comm,
            laddr,
            lport,
            raddr,
            rport,
            role,
            closer,
            ending,
            life,
            open,
            sent,
            received,
            retrans,
        ] = cells;
        row.push(format!(
            "{pid:<7} {comm:<15} {laddr:<address$} {lport:<5} {raddr:<address$} {rport:<5} {role:<6} {closer:<12} \
             {ending:<14} {life:>9} {open:>9} {sent:>9} {received:>9} {retrans:>4}"
        ));
        row.extend(stacks.then(|| opened_at.to_owned()));
        row.join(" ")
    }
}
