//! A socket as ss, tcp-trace and `/proc/net/tcp` list it.

use std::{collections::BTreeSet, net::IpAddr};

use serde_json::Value;
use tcp_trace_testkit::sock::{TableEntry, TcpState};

/// Address and port; a v4-mapped address is the IPv4 address that it maps.
pub(super) type End = (IpAddr, u16);

/// A socket at one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) ends: (End, End),
    /// As the kernel's headers name it; a half-open request is in `SYN_RECV`.
    pub(super) state: String,
    /// Receive and send queue.
    pub(super) queues: (u64, u64),
    pub(super) inode: u64,
    /// Process and descriptor of each holder.
    pub(super) holders: BTreeSet<(u32, u32)>,
}

/// Names of ss that are not those of the kernel's headers.
const NAMES: [(&str, &str); 4] =
    [("ESTAB", "ESTABLISHED"), ("UNCONN", "CLOSE"), ("FIN-WAIT-1", "FIN_WAIT1"), ("FIN-WAIT-2", "FIN_WAIT2")];

/// A line of `ss -tanpieOH`: the cookie, the socket, and the counters that tell whether a segment has passed.
pub(super) fn of_ss(line: &str) -> Option<(u64, Row, Vec<String>)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [state, receive, send, local, peer, rest @ ..] = words.as_slice() else { return None };
    let after = |key: &str| rest.iter().find_map(|word| word.strip_prefix(key));
    let state = NAMES
        .iter()
        .find(|(theirs, _)| theirs == state)
        .map_or_else(|| state.replace('-', "_"), |(_, ours)| (*ours).to_owned());
    let row = Row {
        ends: (end(local)?, end(peer)?),
        state,
        queues: (receive.parse().ok()?, send.parse().ok()?),
        inode: after("ino:").and_then(|number| number.parse().ok()).unwrap_or(0),
        holders: holders(line),
    };
    let passed = |word: &&&str| ["segs_", "data_segs_", "bytes_"].iter().any(|key| word.starts_with(key));
    let passed = rest.iter().filter(passed).map(|word| (*word).to_owned()).collect();
    Some((u64::from_str_radix(after("sk:")?, 16).ok()?, row, passed))
}

/// `127.0.0.1:80`, `[::1]:80`, `*:80`, `0.0.0.0:*`, `[fe80::1]%eth0:80`.
fn end(text: &str) -> Option<End> {
    let (address, port) = text.rsplit_once(':')?;
    let address = address.split('%').next()?.trim_start_matches('[').trim_end_matches(']');
    // ss has a star for a socket of both families.
    let address = if address == "*" { "::" } else { address };
    let port = if port == "*" { 0 } else { port.parse().ok()? };
    Some((address.parse::<IpAddr>().ok()?.to_canonical(), port))
}

/// `users:(("name",pid=1,fd=3),("name",pid=2,fd=3))`. Names may hold anything, so that only what follows `",pid=` counts.
fn holders(line: &str) -> BTreeSet<(u32, u32)> {
    let number =
        |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u32>().ok();
    let one = |text: &str| Some((number(text)?, number(text.split_once(",fd=")?.1)?));
    let users = line.split_once("users:((").map_or("", |(_, users)| users);
    users.split("\",pid=").skip(1).filter_map(one).collect()
}

/// A socket of a snapshot.
pub(super) fn of_ours(socket: &Value) -> Option<(u64, Row)> {
    let end = |end: &Value| -> Option<End> {
        let address = match &end["address"] {
            // Unspecified addresses are not written.
            Value::Null => None,
            address => Some(address.as_str()?.parse::<IpAddr>().ok()?.to_canonical()),
        };
        let any = if socket["family"] == "ipv4" { "0.0.0.0" } else { "::" };
        Some((address.or_else(|| any.parse().ok())?, u16::try_from(end["port"].as_u64().unwrap_or(0)).ok()?))
    };
    let state = socket["state"].as_str()?;
    let is_held = ["held", "shared"].iter().any(|state| socket["owner_state"] == *state);
    let holders = socket["holders"].as_array()?.iter().filter(|_| is_held).flat_map(|holder| {
        let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
        let pid = number(&holder["pid"]);
        holder["fds"].as_array().into_iter().flatten().filter_map(move |fd| Some((pid?, number(fd)?)))
    });
    let row = Row {
        ends: (end(&socket["local"])?, end(&socket["peer"])?),
        state: if state == "NEW_SYN_RECV" { "SYN_RECV".to_owned() } else { state.to_owned() },
        queues: (socket["receive_queue"].as_u64().unwrap_or(0), socket["send_queue"].as_u64().unwrap_or(0)),
        inode: socket["inode"].as_u64().unwrap_or(0),
        holders: holders.collect(),
    };
    Some((socket["cookie"].as_u64()?, row))
}

/// A line of `/proc/net/tcp`: what it shows of a socket, as [`Row`] has it.
pub(super) fn of_table(entry: &TableEntry) -> ((End, End), (&'static str, u64, u64)) {
    let end = |address: std::net::SocketAddr| (address.ip().to_canonical(), address.port());
    let state = match entry.state {
        TcpState::Established => "ESTABLISHED",
        TcpState::SynSent => "SYN_SENT",
        TcpState::SynRecv => "SYN_RECV",
        TcpState::FinWait1 => "FIN_WAIT1",
        TcpState::FinWait2 => "FIN_WAIT2",
        TcpState::TimeWait => "TIME_WAIT",
        TcpState::Close => "CLOSE",
        TcpState::CloseWait => "CLOSE_WAIT",
        TcpState::LastAck => "LAST_ACK",
        TcpState::Listen => "LISTEN",
        TcpState::Closing => "CLOSING",
        _ => "?",
    };
    ((end(entry.local), end(entry.remote)), (state, entry.rx_queue.into(), entry.inode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LINE: &str = "CLOSE-WAIT 5      0      [::ffff:127.0.0.1]:8080 [::ffff:127.0.0.1]:40000 \
        users:((\"a b\",pid=41,fd=7),(\"b\",pid=40,fd=3)) timer:(keepalive,1min,0) uid:7 ino:4711 sk:2a \
        cgroup:/x <-> ts sack bytes_received:5 segs_out:2 segs_in:4 data_segs_in:1";

    #[test]
    fn a_socket_of_ss_is_the_same_socket_of_a_snapshot() {
        let (cookie, row, passed) = of_ss(LINE).unwrap();
        assert_eq!((cookie, passed.len()), (42, 4));
        assert_eq!(row.holders, BTreeSet::from([(41, 7), (40, 3)]));
        let mut ours = json!({
            "cookie": 42, "state": "CLOSE_WAIT", "family": "ipv4", "inode": 4711, "owner_state": "shared",
            "local": {"address": "127.0.0.1", "port": 8080}, "peer": {"address": "127.0.0.1", "port": 40000},
            "receive_queue": 5, "send_queue": 0,
            "holders": [{"pid": 40, "fds": [3]}, {"pid": 41, "fds": [7]}]
        });
        assert_eq!(of_ours(&ours), Some((42, row.clone())));
        ours["owner_state"] = "never_accepted".into();
        assert_eq!(of_ours(&ours).unwrap().1.holders, BTreeSet::new(), "those are the listener's");
    }

    #[test]
    fn listeners_and_requests_are_read() {
        let line = "LISTEN 0 128 *:80 *:* ino:1 sk:1 <->";
        assert_eq!(of_ss(line).unwrap().1.ends, (("::".parse().unwrap(), 80), ("::".parse().unwrap(), 0)));
        let line = "FIN-WAIT-2 0 0 127.0.0.1:5 127.0.0.1:6 timer:(timewait,59sec,0) ino:0 sk:b";
        assert_eq!(of_ss(line).unwrap().1.state, "FIN_WAIT2");
        assert_eq!(of_ss("ESTAB 0 0"), None);
    }
}
