//! `tcp-trace kill`: destroys CLOSE_WAIT sockets of one process, carefully.
//!
//! A look finds them and says of each whether it may be destroyed ([`look`]); the act checks again, just before each,
//! that it is still this process's ([`act`]). Between that check and the kernel's own there are microseconds, and the
//! kernel's is by cookie: what is destroyed is the socket that was listed, or nothing.

mod act;
mod look;

use std::{
    io::{self, Write},
    net::{IpAddr, SocketAddr},
};

use anyhow::Context as _;
use tcp_trace_core::{
    doctor::{Feature, names},
    kill::{Action, Entry, Wish},
    process::printable,
};

pub use act::act;
pub use look::{Candidate, Look, look};

use crate::{
    cli::{kill::KillArgs, settings},
    confine::{self, Duty},
    exit::{Exit, Output, Unsupported, Usage},
    say, sink,
    survey::sock_diag::try_to_destroy,
};

/// Runs the command.
///
/// # Errors
///
/// [`Usage`] if there is no such process; [`Unsupported`] if sockets cannot be listed, or not be destroyed here.
pub fn run(args: &KillArgs) -> anyhow::Result<Exit> {
    confine::assume_alone(&Duty::Kill);
    let wish = Wish {
        older_than_ns: args.older_than.map(|age| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)),
        peer: args.peer.as_deref().map(peer).transpose()?,
        local_ports: args.local_ports.clone(),
        shared: args.shared,
    };
    let netns = args.netns.as_deref().map(settings::netns_inode).transpose()?;
    let look = look(args.pid, &wish, netns)?;
    look.problems.iter().for_each(|problem| say!("tcp-trace: {}", printable(problem)));
    // What was not refused would be all the same, if nobody may do it.
    let permitted = try_to_destroy().map_err(|error| not_here(&error));
    if args.yes && look.candidates.iter().any(Candidate::is_to_be_destroyed) {
        permitted?;
    } else if let Err(error) = permitted {
        say!("tcp-trace: --yes would do nothing here: {error}");
    }
    let mut tally = Tally::default();
    let mut out = io::stdout();
    act(&look, args.yes, |entry| {
        tally.add(entry);
        sink::killed(&mut out, entry, args.json).map_err(Output::from).context("writing the record")
    })?;
    say!("tcp-trace: {}", tally.sentence(args.yes));
    out.flush().map_err(Output::from)?;
    Ok(if args.yes && tally.undone > 0 { Exit::Error } else { Exit::Done })
}

/// Why no socket can be destroyed here.
fn not_here(error: &io::Error) -> Unsupported {
    Unsupported(match error.raw_os_error() {
        Some(libc::EPERM) => {
            let needed = names(Feature::Kill.capabilities());
            format!("destroying sockets needs {needed}; run it as root (sudo)")
        }
        Some(libc::EOPNOTSUPP) => {
            "this kernel cannot destroy sockets: it was built without CONFIG_INET_DIAG_DESTROY".to_owned()
        }
        _ => format!("destroying sockets was tried on one of its own, and failed: {error}"),
    })
}

/// `ADDRESS` or `ADDRESS:PORT`.
fn peer(text: &str) -> Result<(IpAddr, Option<u16>), Usage> {
    let with_port = text.parse::<SocketAddr>().map(|peer| (peer.ip().to_canonical(), Some(peer.port())));
    with_port.or_else(|_error| text.parse::<IpAddr>().map(|address| (address.to_canonical(), None))).map_err(
        |_error| Usage(format!("--peer {text}: give an address, or ADDRESS:PORT ([ADDRESS]:PORT for IPv6)")),
    )
}

/// How many of which.
#[derive(Default)]
struct Tally {
    destroyed: u64,
    would: u64,
    gone: u64,
    /// Refused, or failed.
    undone: u64,
}

impl Tally {
    fn add(&mut self, entry: &Entry) {
        match entry.action {
            Action::WouldDestroy => self.would += 1,
            Action::Destroyed => self.destroyed += 1,
            Action::Gone => self.gone += 1,
            Action::Refused | Action::Failed => self.undone += 1,
        }
    }

    fn sentence(&self, yes: bool) -> String {
        let Self { destroyed, would, gone, undone } = self;
        match yes {
            true => format!("{destroyed} destroyed, {gone} gone before, {undone} refused or failed"),
            false if *would == 0 => format!("dry run: nothing to destroy, {undone} refused"),
            false => format!("dry run, nothing was done: --yes destroys {would}; {undone} refused"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_read_as_people_write_them() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(peer("198.18.0.9"), Ok((address("198.18.0.9"), None)));
        assert_eq!(peer("198.18.0.9:80"), Ok((address("198.18.0.9"), Some(80))));
        assert_eq!(peer("[2001:db8::1]:80"), Ok((address("2001:db8::1"), Some(80))));
        assert_eq!(peer("::ffff:198.18.0.9"), Ok((address("198.18.0.9"), None)));
        assert!(peer("example.net").unwrap_err().to_string().contains("ADDRESS:PORT"));
    }
}
