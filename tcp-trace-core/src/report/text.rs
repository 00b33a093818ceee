//! Values as the bytes that `serde_json` makes of them, written by hand: lines are made millions a second.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv6Addr},
};

use crate::{
    endpoint::Endpoint,
    json,
    process::{Comm, Owner, OwnerSource},
    state::TcpState,
    time::WallTime,
};

/// Formats wall-clock times as `WallTime` serialises.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    second: u64,
    /// `2026-11-22T12:32:50.`; empty before the first time.
    text: Vec<u8>,
}

impl Clock {
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, time: WallTime) {
        let (second, mut ns) = (time.0 / 1_000_000_000, time.0 % 1_000_000_000);
        if self.second != second || self.text.is_empty() {
            self.text.clear();
            // Writing to a vector does not fail.
            let _ = write!(self.text, "{:.9}", WallTime(second * 1_000_000_000).timestamp());
            self.text.truncate(self.text.len().saturating_sub("000000000Z".len()));
            self.second = second;
        }
        out.extend_from_slice(&self.text);
        let mut digits = *b"000000000Z";
        for digit in digits.iter_mut().take(9).rev() {
            *digit = b'0' + (ns % 10) as u8;
            ns /= 10;
        }
        out.extend_from_slice(&digits);
    }
}

pub(crate) fn state(out: &mut Vec<u8>, state: TcpState) {
    match state.name() {
        Some(name) => out.extend_from_slice(name.as_bytes()),
        None => _ = write!(out, "{state}"),
    }
}

pub(crate) fn number(out: &mut Vec<u8>, number: Option<u64>) {
    match number {
        Some(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
}

pub(crate) fn endpoint(out: &mut Vec<u8>, end: &Endpoint) {
    out.extend_from_slice(b"{\"address\":");
    if end.is_known() || !end.address.is_unspecified() {
        out.push(b'"');
        address(out, end.address);
        out.push(b'"');
    } else {
        out.extend_from_slice(b"null");
    }
    out.extend_from_slice(b",\"port\":");
    number(out, (end.port != 0).then_some(end.port.into()));
    out.push(b'}');
}

/// As `IpAddr` displays.
pub(crate) fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            for (place, octet) in v4.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
            }
        }
        IpAddr::V6(v6) => ipv6(out, v6),
    }
}

/// RFC 5952, as `Ipv6Addr` displays.
fn ipv6(out: &mut Vec<u8>, address: Ipv6Addr) {
    let groups = address.segments();
    if matches!(groups, [0, 0, 0, 0, 0, 0xffff, _, _]) {
        // With a dotted quad; `Endpoint` makes IPv4 of it.
        let _ = write!(out, "{address}");
        return;
    }
    let (start, length) = longest_zeros(groups);
    for (place, group) in groups.into_iter().enumerate() {
        if place >= start && place < start + length {
            if place == start {
                out.extend_from_slice(b"::");
            }
            continue;
        }
        if place > 0 && place != start + length {
            out.push(b':');
        }
        hexadecimal(out, group);
    }
}

/// Where the longest run of groups that are 0 begins, and its length; no run is shorter than two.
fn longest_zeros(groups: [u16; 8]) -> (usize, usize) {
    let (mut longest, mut run) = ((usize::MAX - 8, 0), 0);
    for (place, group) in groups.into_iter().enumerate() {
        run = if group == 0 { run + 1 } else { 0 };
        if run > 1 && run > longest.1 {
            longest = (place + 1 - run, run);
        }
    }
    longest
}

fn hexadecimal(out: &mut Vec<u8>, group: u16) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut begun = false;
    for shift in [12, 8, 4, 0] {
        let digit = usize::from(group >> shift & 0xf);
        begun |= digit != 0 || shift == 0;
        if begun {
            out.extend(DIGITS.get(digit));
        }
    }
}

pub(crate) fn process(out: &mut Vec<u8>, owner: Option<Owner>) {
    let source = owner.map_or(OwnerSource::Unknown, |owner| owner.source);
    out.extend_from_slice(b"{\"pid\":");
    number(out, owner.map(|owner| owner.process.pid.into()));
    out.extend_from_slice(b",\"comm\":");
    match owner.and_then(|owner| owner.comm) {
        Some(comm) => name(out, &comm),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"owner_source\":\"");
    out.extend_from_slice(source.name().as_bytes());
    out.extend_from_slice(b"\"}");
}

fn name(out: &mut Vec<u8>, comm: &Comm) {
    match plain(comm) {
        Some(bytes) => {
            out.push(b'"');
            out.extend_from_slice(bytes);
            out.push(b'"');
        }
        None => escaped(out, comm),
    }
}

/// A name that stands in JSON and on a terminal as it is; `None` for one that has to be escaped.
pub(crate) fn plain(comm: &Comm) -> Option<&[u8]> {
    let harmless = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    Some(comm.as_bytes()).filter(|bytes| bytes.iter().all(harmless))
}

/// What [`json`] makes of it. Neither writing to a vector nor these types can fail.
pub(crate) fn escaped(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    if json::to_writer(&mut *out, value).is_err() {
        debug_assert!(false, "strings and numbers always serialise");
    }
}
