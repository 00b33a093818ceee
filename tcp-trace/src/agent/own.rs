//! What the agent itself takes of the host.

use std::fs;

/// Of this process, as `/proc` shows it. What cannot be read is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Processor time, user and system, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Resident memory, in bytes.
    pub resident_bytes: Option<u64>,
}

/// Looks.
#[must_use]
pub fn usage() -> Usage {
    let stat = fs::read_to_string("/proc/self/stat").ok();
    // The name is in parentheses, and may itself have some.
    let fields: Option<Vec<&str>> =
        stat.as_deref().and_then(|stat| Some(stat.rsplit_once(')')?.1.split_whitespace().collect()));
    // Counted from the state, which is the third field of `man 5 proc_pid_stat`.
    let field = |number: usize| fields.as_ref()?.get(number - 3)?.parse::<u64>().ok();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    Usage {
        cpu_seconds: field(14).zip(field(15)).map(|(user, system)| (user + system) as f64 / ticks),
        resident_bytes: field(24).map(|pages| pages * rustix::param::page_size() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_something() {
        let before = usage();
        assert!(before.resident_bytes > Some(100_000) && before.cpu_seconds.is_some(), "{before:?}");
        let more = vec![1_u8; 64 << 20];
        assert!(usage().resident_bytes > before.resident_bytes.map(|bytes| bytes + (32 << 20)));
        drop(more);
    }
}
