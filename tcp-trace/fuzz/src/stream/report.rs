//! What holds of any report.

use tcp_trace_core::{
    report::{DurationSummary, Limit, Loss, Report, TransitionCount},
    tracker::{Account, Output, Settings, Tracker},
};

/// Everything that is told can be written.
pub(super) fn assert_output(output: &Output) {
    let Output { changes, closed } = output;
    if !changes.is_empty() || !closed.is_empty() {
        serde_json::to_vec(&(changes, closed)).expect("rows are JSON");
    }
}

/// Every connection is somewhere.
pub(super) fn assert_census(tracker: &Tracker) {
    let Account { opened, live, closed, evicted } = tracker.account();
    assert_eq!(opened, live + closed + evicted);
}

/// Numbers that belong together agree, and no table is fuller than it may be.
pub(super) fn assert_holds(report: &Report, settings: &Settings) {
    serde_json::to_vec(report).expect("a report is JSON");
    assert_bounded(report, settings);
    assert_loss(report.loss);
    for state in report.states.values() {
        assert_durations(state.duration);
    }
    for listener in &report.half_open.listeners {
        assert_durations(listener.completed);
    }
    for connect in &report.connect {
        assert_durations(connect.completed);
    }
    for process in &report.processes {
        assert_eq!(process.total, count(&process.transitions), "a process's row");
    }
    let close_wait = &report.close_wait;
    assert!(close_wait.lingering <= close_wait.live);
    for process in &close_wait.processes {
        assert!(process.sockets.len() as u64 <= process.count && process.count <= close_wait.lingering);
        assert_eq!(process.oldest_ns.is_some(), process.oldest_exact.is_some());
    }
    let listed: u64 = close_wait.processes.iter().map(|process| process.count).sum();
    assert!(listed <= close_wait.lingering);
}

fn count(cells: &[TransitionCount]) -> u64 {
    cells.iter().fold(0, |sum, cell| sum.saturating_add(cell.count))
}

fn assert_bounded(report: &Report, settings: &Settings) {
    for Limit { name, limit, in_use, peak, .. } in &report.limits {
        // One that is too many is counted before it goes.
        assert!(in_use <= limit && *peak <= limit + 1, "{name}: {in_use} of {limit}, {peak} at most");
    }
    let live = report.states.values().filter_map(|state| state.live).sum::<u64>();
    assert!(live <= settings.max_connections as u64);
    let rows = settings.max_rows;
    assert!(report.processes.len() <= rows && report.listeners_changed.len() <= rows);
    // One row more sums up the rest.
    assert!(report.connect.len() <= rows + 1 && report.half_open.listeners.len() <= rows + 1);
    assert!(report.close_wait.processes.iter().all(|row| row.sockets.len() <= settings.max_sockets));
}

/// A balance that is said to hold does hold.
fn assert_loss(loss: Loss) {
    let Loss { seen, delivered, filtered, lost, aggregated, unattributed, missed, balanced, .. } = loss;
    assert!(unattributed <= aggregated && missed <= lost);
    // The counters of a recording may say anything, so that sums stop at the largest number.
    let sum = [delivered, filtered, lost, aggregated].into_iter().map(u128::from).sum::<u128>();
    if balanced && sum < u128::from(u64::MAX) {
        assert_eq!(u128::from(seen), sum, "{loss:?}");
    }
}

fn assert_durations(durations: DurationSummary) {
    let DurationSummary { count, min_ns, p50_ns, p90_ns, p99_ns, max_ns, coarse } = durations;
    let all = [min_ns, p50_ns, p90_ns, p99_ns, max_ns];
    assert!(coarse <= count && all.iter().all(|value| value.is_some() == (count > 0)), "{durations:?}");
    assert!(all.is_sorted(), "{durations:?}");
}
