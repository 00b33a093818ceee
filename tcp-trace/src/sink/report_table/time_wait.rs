//! TIME_WAIT: who closed first, and how many ports that takes.

use tcp_trace_core::report::{Report, TimeWait};

use super::{L, R, section, who};
use crate::sink::units::{count, maybe};

/// Destinations that take less of the ports than this are not worth a line.
const SHARE: f64 = 0.01;

/// The section.
pub(super) fn time_wait(report: &Report) -> String {
    let TimeWait { entered, inferred, processes, live, .. } = &report.time_wait;
    let mut counts = Vec::new();
    counts.extend(live.map(|live| format!("{} now", count(live))));
    let how = if *inferred { " (inferred)" } else { "" };
    counts.extend(entered.map(|entered| format!("{} entered it{how}", count(entered))));
    let title = format!("TIME_WAIT: {}", counts.join(", "));
    let rows: Vec<_> = processes
        .iter()
        .map(|row| [who(row.process.as_ref()), count(row.entered), maybe(row.live)])
        .collect();
    let table = if !rows.is_empty() {
        let title = format!("{title}; their processes closed first");
        section(&title, [("PROCESS", L), ("ENTERED", R), ("NOW", R)], rows)
    } else if live.or(*entered).is_some_and(|number| number > 0) {
        title + "\n"
    } else {
        String::new()
    };
    table + &destinations(&report.time_wait) + &orphans(&report.time_wait)
}

/// Those that wait for their peer's FIN.
fn orphans(time_wait: &TimeWait) -> String {
    let TimeWait { orphaned, live_orphans, .. } = *time_wait;
    if live_orphans.unwrap_or(0) + orphaned.unwrap_or(0) == 0 {
        return String::new();
    }
    let mut counts = Vec::new();
    counts.extend(live_orphans.map(|live| format!("{} now", count(live))));
    counts.extend(orphaned.map(|orphaned| format!("{} entered it", count(orphaned))));
    format!("Orphans in FIN_WAIT2: {}; they may enter TIME_WAIT unseen\n", counts.join(", "))
}

/// Where the ports go.
fn destinations(time_wait: &TimeWait) -> String {
    let rows = time_wait
        .destinations
        .iter()
        .flatten()
        .filter(|row| row.share.is_some_and(|share| share >= SHARE))
        .map(|row| {
            let share = row.share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 100.0));
            [format!("  {}", row.local), row.peer.to_string(), count(row.count), maybe(row.ports), share]
        })
        .collect();
    section(
        "  Local ports that wait, of those in net.ipv4.ip_local_port_range",
        [("  LOCAL", L), ("PEER", L), ("WAIT", R), ("OF", R), ("SHARE", R)],
        rows,
    )
}
