//! The `crowd` role: connections that do nothing.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::line::Line;
use super::role::say;
use crate::sock::{self, ListenOptions};

/// Connections to one address of the server: well below the 28,000 ports that a client has for each.
const FOR_EACH_ADDRESS: usize = 20_000;

pub(super) fn run(arguments: &Line) -> io::Result<()> {
    let (count, port): (usize, u16) = (arguments.value("count")?, arguments.value("port")?);
    allow_descriptors(2 * count as u64 + 64)?;
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let listener = sock::listen(any, &ListenOptions::default())?;
    say("listening", &[("addr", &listener.local_addr()?)])?;
    let mut both_ends = Vec::with_capacity(count);
    for number in 0..count {
        let third = u8::try_from(number / FOR_EACH_ADDRESS + 1).map_err(io::Error::other)?;
        let client = sock::connect(None, (Ipv4Addr::new(127, 2, third, 1), port).into())?;
        both_ends.push((client, listener.accept()?.0));
    }
    say("ready", &[])?;
    io::stdin().read_line(&mut String::new())?;
    Ok(())
}

/// Raises the soft limit, and the hard one where that does not suffice.
fn allow_descriptors(count: u64) -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|limit| limit >= count) {
        return Ok(());
    }
    let maximum = maximum.map(|limit| limit.max(count));
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum })?)
}
