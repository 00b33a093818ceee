//! What people write, and what the endpoints answer that they name.

use tcp_trace::{agent::select, cli::config as file, sink::otlp, top::filter::View};
use tcp_trace_common::{
    address::{AF_INET, AF_INET6},
    filter::{Subject, Verdict},
};
use tcp_trace_core::{endpoint::Endpoint, filter::FilterSpec, state::TcpState};

use crate::choice;

/// One line that says what is wrong: no other lines, nothing that a terminal would obey.
fn assert_a_line(text: &str) {
    assert!(!text.is_empty() && !text.chars().any(char::is_control), "{text:?}");
}

/// A configuration file.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match file::parse(&text) {
        Err(why) => assert_a_line(&why),
        Ok(config) => {
            if let Err((key, why)) = config.check() {
                assert_a_line(&key);
                return assert_a_line(&why);
            }
            for sink in config.sinks.values() {
                assert!(sink.kind().is_ok() && sink.queue > 0 && sink.rate > 0);
            }
            if let Ok((source, _, memory)) = config.source.arguments() {
                assert!(source.buffer.is_none_or(u32::is_power_of_two));
                assert_eq!(memory.max_connections, config.source.max_connections);
            }
        }
    }
}

/// Filters: as words of the command line, as a sink's table, as a recording has them; and names of states.
pub fn filters(data: &[u8]) {
    let (kind, text) = choice(data);
    match kind % 4 {
        0 => {
            if let Err(why) = View::parse(&text) {
                assert_a_line(&why);
            }
        }
        1 => drop(toml::from_str::<select::Filter>(&text)),
        2 => {
            if let Ok(spec) = serde_json::from_str::<FilterSpec>(&text) {
                judge(&spec);
            }
        }
        _ => {
            if let Ok(state) = text.parse::<TcpState>() {
                assert_eq!(state.to_string().parse(), Ok(state));
            }
        }
    }
}

/// The predicate of a filter, against what its words say, for a connection of which everything is known.
fn judge(spec: &FilterSpec) {
    let json = serde_json::to_string(spec).unwrap();
    assert_eq!(serde_json::from_str::<FilterSpec>(&json).unwrap(), *spec);
    let Ok(filter) = spec.compile() else { return };
    let (v4, v6) = ("198.18.0.1", "2001:db8::1");
    let ports = [1, 80, 443].into_iter().chain(spec.local_ports.first().copied().filter(|port| *port > 0));
    for port in ports {
        for (address, family, version) in [(v4, AF_INET, 4), (v4, AF_INET6, 4), (v6, AF_INET6, 6)] {
            let end = Endpoint { address: address.parse().unwrap(), port };
            let pid = spec.pid.filter(|pid| *pid > 0).unwrap_or(7);
            let cgroup_id = spec.cgroup_ids.first().copied().filter(|id| *id > 0).unwrap_or(9);
            let address = end.wire_address();
            let verdict = filter.judge(&Subject {
                old: 1,
                new: 8,
                local_port: port,
                peer_port: 443,
                family,
                netns: 5,
                cgroup_id,
                local_addr: &address,
                peer_addr: &address,
                pid,
            });
            // 0 is how the predicate says that something does not restrict; nothing can be asked for by it.
            let among = |ports: &[u16], port| ports.is_empty() || ports.contains(&port);
            let wanted = among(&spec.local_ports, port)
                && among(&spec.peer_ports, 443)
                && spec.netns.is_none_or(|netns| netns == 0 || netns == 5)
                && spec.ip_version.is_none_or(|wanted| (wanted == 4) == (version == 4));
            let expected = if wanted { Verdict::Accept } else { Verdict::Reject };
            assert_eq!(verdict, expected, "{spec:?} {end:?}");
        }
    }
}

/// What an endpoint of OTLP answers: status, length of a header, header, body. And variables of the environment.
pub fn answers(data: &[u8]) {
    let Some(([kind, low, length], rest)) = data.split_first_chunk() else { return };
    let (header, body) = rest.split_at(usize::from(*length).min(rest.len()));
    let header = String::from_utf8_lossy(header);
    if kind & 1 == 0 {
        let _ = otlp::fuzzing::variables(&header);
        return;
    }
    const STATUS: [u16; 12] = [200, 202, 301, 308, 400, 401, 404, 413, 429, 500, 502, 503];
    let status = STATUS.get(usize::from(*low)).copied().unwrap_or(100 + u16::from(*low) * 2);
    let (_, after, why) = otlp::fuzzing::verdict(status, &header, body);
    assert!(after.is_none_or(|after| after.as_secs() <= 600), "an endpoint may not silence us for ever");
    assert!(why.chars().all(|c| !c.is_control()), "{why:?}");
    // Escapes make a character eight or ten of them.
    assert!(why.chars().count() <= 200 * 10 * 2 + 200, "{} characters", why.chars().count());
}
