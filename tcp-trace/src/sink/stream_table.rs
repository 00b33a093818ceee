//! State changes in the columns and order of libbpf-tools' tcpstates, which people's scripts expect.
//!
//! Two columns say more than theirs: PID and COMM are the owner's, or `-` where it is not known, never those
//! of the process that happened to be on the CPU; and MS is `-` where the entry into the old state was not
//! seen, never 0.

use std::{fmt, io::Write as _};

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
    /// `OPENED AT`, of finished connections, where stacks were taken.
    pub stacks: bool,
}

/// Rows of state changes.
#[derive(Debug)]
pub(super) struct StreamTable {
    columns: Columns,
    first: Option<KernelTime>,
    /// The last second that was formatted, and its text.
    clock: (i64, String),
}

/// `-` where there is nothing.
struct OrDash<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for OrDash<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.pad("-"),
        }
    }
}

impl StreamTable {
    pub(super) fn new(columns: Columns) -> Self {
        Self { columns, first: None, clock: (i64::MIN, String::new()) }
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

    /// Appends a line.
    pub(super) fn row(&mut self, out: &mut Vec<u8>, change: &StateChange) {
        let first = *self.first.get_or_insert(change.at);
        let written = if self.columns.csv {
            writeln!(out, "{}", self.values(change, first))
        } else {
            self.line(out, change, first)
        };
        debug_assert!(written.is_ok(), "writing to a vector does not fail");
    }

    /// The same as [`Self::lay_out`] makes of its cells, without making cells.
    fn line(&mut self, out: &mut Vec<u8>, change: &StateChange, first: KernelTime) -> std::io::Result<()> {
        let StateChange { at, time, old, new, duration_ns, local, peer, family, skaddr, owner, .. } = change;
        if self.columns.time {
            let time = time.timestamp();
            if self.clock.0 != time.as_second() {
                self.clock = (time.as_second(), clock(time));
            }
            write!(out, "{:<8} ", self.clock.1)?;
        }
        if self.columns.timestamp {
            write!(out, "{:<9.6} ", at.since(first) as f64 / 1e9)?;
        }
        let pid = OrDash(owner.map(|owner| owner.process.pid));
        let comm = OrDash(owner.and_then(|owner| owner.comm));
        let (laddr, raddr) = (local.address, peer.address);
        let (lport, rport) = (local.port, peer.port);
        let ms = OrDash(duration_ns.map(|ns| ns as f64 / 1e6));
        if self.columns.wide {
            let ip = if *family == Family::Ipv4 { 4 } else { 6 };
            write!(
                out,
                "{skaddr:<16x} {pid:<7} {comm:<16} {ip:<2} {laddr:<39} {lport:<5} {raddr:<39} {rport:<5} "
            )?;
        } else {
            write!(
                out,
                "{skaddr:<16x} {pid:<7} {comm:<10.10} {laddr:<15} {lport:<5} {raddr:<15} {rport:<5} "
            )?;
        }
        writeln!(out, "{old:<11} -> {new:<11} {ms:.3}")
    }

    /// Comma-separated.
    fn values(&self, change: &StateChange, first: KernelTime) -> String {
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
        let Columns { time, timestamp, wide, csv, stacks: _ } = self.columns;
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
