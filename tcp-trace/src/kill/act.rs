//! The act: each socket once more, then the kernel.

use std::{fs, io};

use tcp_trace_core::{
    kill::{Action, Entry},
    process::ProcessId,
};

use super::look::{Candidate, Look};
use crate::{
    host,
    survey::{namespaces, processes, sock_diag::destroy},
};

/// Does what was found to be right, with `yes`, and else nothing; `record` gets each socket when that is done. If it
/// fails nothing more is done: there is no act without a record.
///
/// # Errors
///
/// That of `record`; if no thread can be started that enters network namespaces.
pub fn act(
    look: &Look,
    yes: bool,
    mut record: impl FnMut(&Entry) -> anyhow::Result<()> + Send,
) -> anyhow::Result<()> {
    let mut result = Ok(());
    let mut visited = Vec::new();
    let problems = namespaces::for_each(&look.namespaces, |namespace| {
        visited.push(namespace.inum);
        for candidate in look.candidates.iter().filter(|one| one.entry.netns == namespace.inum) {
            if result.is_ok() {
                result = record(&decide(look.process, candidate, yes));
            }
        }
    })?;
    result?;
    // A namespace that could be entered a moment ago.
    for candidate in look.candidates.iter().filter(|one| !visited.contains(&one.entry.netns)) {
        let reason = format!("its network namespace cannot be entered any more: {}", problems.join("; "));
        record(&entry(candidate, Action::Failed, Some(reason)))?;
    }
    Ok(())
}

fn decide(process: ProcessId, candidate: &Candidate, yes: bool) -> Entry {
    if let Some(reason) = &candidate.refusal {
        return entry(candidate, Action::Refused, Some(reason.clone()));
    }
    if !yes {
        return entry(candidate, Action::WouldDestroy, None);
    }
    if let Err(reason) = is_still_his(process, candidate) {
        return entry(candidate, Action::Refused, Some(reason));
    }
    match destroy(&candidate.handle) {
        Ok(()) => entry(candidate, Action::Destroyed, None),
        // None with these addresses, or one with another cookie.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESTALE)) => {
            entry(candidate, Action::Gone, Some("it was closed meanwhile".to_owned()))
        }
        Err(error) => entry(candidate, Action::Failed, Some(error.to_string())),
    }
}

/// The same process, by its start time, and one of its descriptors is this socket.
fn is_still_his(process: ProcessId, candidate: &Candidate) -> Result<(), String> {
    match processes::id(process.pid) {
        Some(now) if now == process => {}
        Some(_another) => return Err("the process has ended, and its pid is another's now".to_owned()),
        None => return Err("the process has ended".to_owned()),
    }
    let link = format!("socket:[{}]", candidate.inode);
    let mut problem = None;
    for fd in &candidate.entry.fds {
        match fs::read_link(format!("/proc/{}/fd/{fd}", process.pid)) {
            Ok(target) if target.as_os_str() == link.as_str() => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => problem = Some(error),
            _ => {}
        }
    }
    Err(match problem {
        Some(error) => format!("whether the process holds it still cannot be seen: {error}"),
        None => "the process does not hold it any more".to_owned(),
    })
}

fn entry(candidate: &Candidate, action: Action, reason: Option<String>) -> Entry {
    let anchor = host::clock_anchor();
    Entry { time: anchor.wall(host::monotonic()), action, reason, ..candidate.entry.clone() }
}
