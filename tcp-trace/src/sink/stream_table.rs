//! State changes in the columns and order of libbpf-tools' tcpstates, which people's scripts expect.
//!
//! Two columns say more than theirs: PID and COMM are the owner's, or `-` where it is not known, never those
//! of the process that happened to be on the CPU; and MS is `-` where the entry into the old state was not
//! seen, never 0.

use jiff::Timestamp;
use tcp_trace_core::{endpoint::Family, report::StateChange, time::Timestamp as KernelTime};

/// Which columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// `TIME`: HH:MM:SS in UTC.
    pub time: bool,
    /// `TIME(s)`: seconds since the first line.
    pub timestamp: bool,
    /// Wide columns and `IP`.
    pub wide: bool,
    /// Comma-separated.
    pub csv: bool,
}

/// Rows of state changes.
#[derive(Debug)]
pub(super) struct StreamTable {
    columns: Columns,
    first: Option<KernelTime>,
}

impl StreamTable {
    pub(super) fn new(columns: Columns) -> Self {
        Self { columns, first: None }
    }

    pub(super) fn header(&self) -> String {
        self.lay_out(&Row {
            time: "TIME",
            timestamp: "TIME(s)",
            cells: [
                "SKADDR", "PID", "COMM", "IP", "LADDR", "LPORT", "RADDR", "RPORT", "OLDSTATE", "NEWSTATE",
                "MS",
            ]
            .map(str::to_owned),
        })
    }

    pub(super) fn row(&mut self, change: &StateChange) -> String {
        let first = *self.first.get_or_insert(change.at);
        let port = |port: u16| if port == 0 { "0".to_owned() } else { port.to_string() };
        let unknown = || "-".to_owned();
        self.lay_out(&Row {
            time: &clock(change.time.timestamp()),
            timestamp: &format!("{:.6}", change.at.since(first) as f64 / 1e9),
            cells: [
                format!("{:x}", change.skaddr),
                change.owner.map_or_else(unknown, |owner| owner.process.pid.to_string()),
                change.owner.and_then(|owner| owner.comm).map_or_else(unknown, |comm| comm.to_string()),
                if change.family == Family::Ipv4 { "4" } else { "6" }.to_owned(),
                change.local.address.to_string(),
                port(change.local.port),
                change.peer.address.to_string(),
                port(change.peer.port),
                change.old.to_string(),
                change.new.to_string(),
                change.duration_ns.map_or_else(unknown, |ns| format!("{:.3}", ns as f64 / 1e6)),
            ],
        })
    }

    fn lay_out(&self, row: &Row<'_>) -> String {
        let Columns { time, timestamp, wide, csv } = self.columns;
        let Row { time: time_text, timestamp: timestamp_text, cells } = row;
        let mut prefix = Vec::new();
        if time {
            prefix.push(if csv { (*time_text).to_owned() } else { format!("{time_text:<8}") });
        }
        if timestamp {
            prefix.push(if csv { (*timestamp_text).to_owned() } else { format!("{timestamp_text:<9}") });
        }
        if csv {
            return prefix
                .into_iter()
                .chain(cells.iter().map(|cell| quoted(cell)))
                .collect::<Vec<_>>()
                .join(",");
        }
        let [skaddr, pid, comm, ip, laddr, lport, raddr, rport, old, new, ms] = cells;
        prefix.push(if wide {
            format!(
                "{skaddr:<16} {pid:<7} {comm:<16} {ip:<2} {laddr:<39} {lport:<5} {raddr:<39} {rport:<5} {old:<11} -> {new:<11} {ms}"
            )
        } else {
            format!(
                "{skaddr:<16} {pid:<7} {comm:<10.10} {laddr:<15} {lport:<5} {raddr:<15} {rport:<5} {old:<11} -> {new:<11} {ms}"
            )
        });
        prefix.join(" ")
    }
}

struct Row<'a> {
    time: &'a str,
    timestamp: &'a str,
    cells: [String; 11],
}

pub(super) fn clock(time: Timestamp) -> String {
    time.strftime("%H:%M:%S").to_string()
}

/// RFC 4180.
pub(super) fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}
