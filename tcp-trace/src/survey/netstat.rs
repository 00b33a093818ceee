//! What the kernel counts and how it is set, in the calling thread's network namespace.
//!
//! `/proc/thread-self/net` is of the thread that opens it, where `/proc/net` is of its process; `/proc/sys/net` is of
//! the thread that opens it as well (`net_ctl_header_lookup`, `net/sysctl_net.c`).

use std::{fs, str::FromStr};

use rustc_hash::FxHashMap;
use tcp_trace_core::survey::{NamespaceFacts, SocketCounters};

use super::namespaces::Namespace;

/// Facts of the calling thread's namespace, which is `namespace`. What cannot be read is `None`.
#[must_use]
pub fn facts(namespace: &Namespace) -> NamespaceFacts {
    let sysctl = |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok();
    let net = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).ok();
    NamespaceFacts {
        inum: namespace.inum,
        name: namespace.name.clone(),
        port_range: sysctl("ip_local_port_range").and_then(|text| pair(&text)),
        syncookies: sysctl("tcp_syncookies").and_then(|text| number(&text)),
        synack_retries: sysctl("tcp_synack_retries").and_then(|text| number(&text)),
        somaxconn: fs::read_to_string("/proc/sys/net/core/somaxconn").ok().and_then(|text| number(&text)),
        time_wait_reuse: sysctl("tcp_tw_reuse").and_then(|text| number(&text)),
        counters: net("snmp").zip(net("netstat")).and_then(|(snmp, netstat)| counters(&(snmp + &netstat))),
    }
}

/// Full TCP sockets of the calling thread's namespace, listeners included; `None` where that cannot be read.
#[must_use]
pub fn in_use() -> Option<u64> {
    let text = fs::read_to_string("/proc/thread-self/net/sockstat").ok()?;
    let of = |file: &str, key: &str| {
        let line = file.lines().find_map(|line| line.strip_prefix(key))?;
        number::<u64>(line.trim_start().strip_prefix("inuse ")?.split(' ').next()?)
    };
    // Without IPv6 there is no such file.
    let six = fs::read_to_string("/proc/thread-self/net/sockstat6").ok();
    Some(of(&text, "TCP:")? + six.and_then(|text| of(&text, "TCP6:")).unwrap_or(0))
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}

pub(super) fn pair(text: &str) -> Option<(u16, u16)> {
    let (low, high) = text.trim().split_once(char::is_whitespace)?;
    Some((number(low)?, number(high)?))
}

/// The counters of `/proc/net/snmp` and `/proc/net/netstat`, one after the other; `None` if one of them is not there,
/// since 0 would be a number that nobody counted.
pub(super) fn counters(text: &str) -> Option<SocketCounters> {
    let values = values(text);
    // The kernel prints some of `Tcp` as signed numbers, of which none of these is.
    let of = |name: &str| values.get(name)?.parse().ok();
    Some(SocketCounters {
        listen_overflows: of("TcpExt ListenOverflows")?,
        listen_drops: of("TcpExt ListenDrops")?,
        syncookies_sent: of("TcpExt SyncookiesSent")?,
        syncookies_received: of("TcpExt SyncookiesRecv")?,
        syncookies_failed: of("TcpExt SyncookiesFailed")?,
        request_queue_full_cookies: of("TcpExt TCPReqQFullDoCookies")?,
        request_queue_full_drops: of("TcpExt TCPReqQFullDrop")?,
        embryonic_resets: of("TcpExt EmbryonicRsts")?,
        time_wait_overflows: of("TcpExt TCPTimeWaitOverflow")?,
        passive_opens: of("Tcp PassiveOpens")?,
        active_opens: of("Tcp ActiveOpens")?,
        attempt_fails: of("Tcp AttemptFails")?,
    })
}

/// `GROUP NAME` → value; each group has a line of names and one of values.
fn values(text: &str) -> FxHashMap<String, &str> {
    let mut values = FxHashMap::default();
    let mut names: Option<(&str, &str)> = None;
    for (group, rest) in text.lines().filter_map(|line| line.split_once(": ")) {
        match names.take() {
            Some((of, names)) if of == group => {
                let pairs = names.split_ascii_whitespace().zip(rest.split_ascii_whitespace());
                values.extend(pairs.map(|(name, value)| (format!("{group} {name}"), value)));
            }
            _ => names = Some((group, rest)),
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::namespaces;

    #[test]
    fn this_namespace_is_read_without_any_privilege() {
        let facts = facts(&namespaces::find(None).all[0]);
        let (low, high) = facts.port_range.unwrap();
        assert!(low < high && facts.synack_retries.is_some() && facts.somaxconn.is_some());
        let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(in_use().is_some_and(|count| count > 0));
        assert!(facts.counters.is_some());
    }

    #[test]
    fn counters_are_found_by_name_wherever_they_stand() {
        let names = "SyncookiesSent SyncookiesRecv SyncookiesFailed EmbryonicRsts New ListenOverflows ListenDrops \
                     TCPTimeWaitOverflow TCPReqQFullDoCookies TCPReqQFullDrop";
        let text = format!(
            "Ip: A B\nIp: 1 2\nTcp: MaxConn ActiveOpens PassiveOpens AttemptFails\nTcp: -1 10 11 12\n\
             TcpExt: {names}\nTcpExt: 1 2 3 4 99 5 6 7 8 9\n"
        );
        let expected = SocketCounters {
            listen_overflows: 5,
            listen_drops: 6,
            syncookies_sent: 1,
            syncookies_received: 2,
            syncookies_failed: 3,
            request_queue_full_cookies: 8,
            request_queue_full_drops: 9,
            embryonic_resets: 4,
            time_wait_overflows: 7,
            passive_opens: 11,
            active_opens: 10,
            attempt_fails: 12,
        };
        assert_eq!(counters(&text), Some(expected));
        assert_eq!(counters(&text.replace("EmbryonicRsts", "Renamed")), None, "unknown is not 0");
        assert_eq!(counters(""), None);
    }

    #[test]
    fn a_port_range_is_two_numbers() {
        assert_eq!(pair("32768\t60999\n"), Some((32768, 60999)));
        assert_eq!(pair("1"), None);
    }
}
