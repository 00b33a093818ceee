//! What the kernel says about BPF programs: how long they ran and how often.

use std::{
    collections::{BTreeMap, HashMap},
    io,
};

use crate::fdinfo;

/// How much a program has run, since statistics were first switched on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) ns: u64,
    pub(crate) runs: u64,
}

impl Usage {
    /// What has been added since.
    pub(crate) fn since(self, before: Self) -> Self {
        Self { ns: self.ns.saturating_sub(before.ns), runs: self.runs.saturating_sub(before.runs) }
    }
}

/// The programs that a process has a descriptor of, by id. (`/proc/PID/fdinfo` of a program shows its statistics since
/// 5.1, `bpf_prog_show_fdinfo`, `kernel/bpf/syscall.c`.)
pub(crate) fn of_process(pid: u32) -> io::Result<BTreeMap<u32, Usage>> {
    Ok(fdinfo::each(pid, usage)?.into_iter().collect())
}

fn usage(text: &str) -> Option<(u32, Usage)> {
    let usage = Usage { ns: fdinfo::value(text, "run_time_ns")?, runs: fdinfo::value(text, "run_cnt")? };
    Some((u32::try_from(fdinfo::value(text, "prog_id")?).ok()?, usage))
}

/// How many instructions the verifier went through for each program that a process has a descriptor of, by id. (In
/// `fdinfo` since 5.16.)
pub(crate) fn verified(pid: u32) -> io::Result<BTreeMap<u32, u64>> {
    let read = |text: &str| {
        let id = u32::try_from(fdinfo::value(text, "prog_id")?).ok()?;
        Some((id, fdinfo::value(text, "verified_insns")?))
    };
    Ok(fdinfo::each(pid, read)?.into_iter().collect())
}

/// The names of all programs of this host, as far as it knows them.
pub(crate) fn names() -> HashMap<u32, String> {
    let programs = aya::programs::loaded_programs().filter_map(Result::ok);
    programs.filter_map(|program| Some((program.id(), program.name_as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_program_is_read() {
        let text =
            "pos:\t0\nflags:\t02000002\nprog_type:\t26\nprog_id:\t71\nrun_time_ns:\t5800\nrun_cnt:\t100\n";
        assert_eq!(usage(text), Some((71, Usage { ns: 5_800, runs: 100 })));
        assert_eq!(usage("pos:\t0\nlink_type:\tperf\nprog_id:\t71\n"), None, "a link has no statistics");
    }
}
