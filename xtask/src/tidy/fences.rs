//! What may be used where: each of these is an architecture decision, and `ARCHITECTURE.md` has its reason.

use super::{Fault, Source};

/// Something that is used in one place of the program only.
struct Fence {
    /// How it is written in a path of Rust.
    names: &'static [&'static str],
    /// Where it may stand: beginnings of paths.
    within: &'static [&'static str],
    /// Why not elsewhere.
    why: &'static str,
}

/// Where fences stand: the sources of the program and its libraries, without tests, benchmarks and chores.
const FENCED: [&str; 4] =
    ["tcp-trace/src/", "tcp-trace-core/src/", "tcp-trace-common/src/", "tcp-trace-ebpf/src/"];

const FENCES: &[Fence] = &[
    Fence {
        names: &["aya", "aya_log"],
        within: &["tcp-trace/src/bpf/"],
        why: "how programs get into the kernel is told in tcp-trace/src/bpf, and nowhere else",
    },
    Fence {
        names: &["NETLINK_SOCK_DIAG", "NETLINK_INET_DIAG", "AddressFamily::NETLINK", "AF_NETLINK"],
        within: &["tcp-trace/src/survey/sock_diag/", "tcp-trace/src/confine/seccomp.rs"],
        why: "netlink is spoken by tcp-trace/src/survey/sock_diag",
    },
    Fence {
        names: &["hyper", "hyper_util", "http_body_util"],
        within: &["tcp-trace/src/agent/http"],
        why: "requests are answered by tcp-trace/src/agent/http.rs",
    },
    Fence {
        names: &["opentelemetry_proto", "prost", "ureq", "rustls_native_certs"],
        within: &["tcp-trace/src/sink/otlp/"],
        why: "OTLP, and the HTTP client, belong to tcp-trace/src/sink/otlp",
    },
    Fence {
        names: &["ratatui", "crossterm"],
        within: &["tcp-trace/src/top/"],
        why: "only the full screen draws on a terminal: tcp-trace/src/top",
    },
    Fence {
        names: &["maud"],
        within: &["tcp-trace/src/sink/html/"],
        why: "pages are made by tcp-trace/src/sink/html",
    },
    Fence {
        names: &["sd_notify"],
        within: &["tcp-trace/src/agent/notify.rs"],
        why: "systemd is talked to by agent/notify.rs",
    },
    Fence {
        names: &["blazesym", "gimli"],
        within: &["tcp-trace/src/stacks/"],
        why: "symbols are looked up by tcp-trace/src/stacks",
    },
    Fence {
        names: &["indicatif"],
        within: &["tcp-trace/src/progress.rs"],
        why: "there is one bar: tcp-trace/src/progress.rs",
    },
    Fence {
        names: &["clap"],
        within: &["tcp-trace/src/cli/", "tcp-trace/src/main.rs", "tcp-trace/src/top/filter.rs"],
        why: "what was typed is told by tcp-trace/src/cli; the rest takes settings",
    },
    Fence {
        names: &[
            "std::env",
            "std::fs",
            "std::process",
            "std::thread",
            "std::net::Tcp",
            "std::net::Udp",
            "std::os",
            "Instant",
            "SystemTime",
            "std::io::stdin",
            "std::io::stdout",
            "tokio",
            "rustix",
            "libc",
        ],
        within: &["tcp-trace/src/", "tcp-trace-ebpf/src/"],
        why: "core and common read no clock and do no I/O: the same recording gives the same bytes everywhere",
    },
];

/// Every use beyond a fence.
pub(super) fn check(sources: &[Source]) -> Vec<Fault> {
    let fenced = sources.iter().filter(|source| FENCED.iter().any(|folder| source.path.starts_with(folder)));
    fenced.flat_map(|source| FENCES.iter().flat_map(|fence| fence.broken_by(source))).collect()
}

impl Fence {
    fn broken_by(&self, source: &Source) -> Vec<Fault> {
        let Self { names, within, why } = self;
        if within.iter().any(|place| source.path.starts_with(place)) {
            return Vec::new();
        }
        let found = |line: &str| names.iter().find(|name| uses(line, name)).copied();
        let lines = source.text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
        let faults = lines.filter_map(|(index, line)| {
            let name = found(line)?;
            Some(Fault { path: source.path.clone(), line: index + 1, what: format!("uses {name}: {why}") })
        });
        faults.collect()
    }
}

/// Whether a line names it as a path, or brings it into scope.
fn uses(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = &line[at + name.len()..];
        let begins =
            before.is_none_or(|character| !is_word(character) && character != '.' && character != '"');
        let alone = !after.starts_with(is_word);
        let as_path = name.contains("::") || after.starts_with("::") || line.trim_start().starts_with("use ");
        begins
            && (alone || name.contains("net::"))
            && (as_path || name.chars().all(|letter| letter.is_uppercase() || letter == '_'))
    })
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(path: &str, text: &str) -> Vec<usize> {
        let source = Source { path: path.to_owned(), text: text.to_owned() };
        check(&[source]).iter().map(|fault| fault.line).collect()
    }

    #[test]
    fn what_stands_beyond_its_fence_is_found() {
        assert_eq!(faults("tcp-trace/src/run.rs", "use aya::Ebpf;\n"), [1]);
        assert_eq!(faults("tcp-trace/src/run.rs", "let x =\n    aya::maps::get();\n"), [2]);
        assert_eq!(faults("tcp-trace-core/src/decode.rs", "let now = std::time::Instant::now();"), [1]);
        assert_eq!(faults("tcp-trace-core/src/decode.rs", "use std::fs;"), [1]);
        assert_eq!(faults("tcp-trace-core/src/decode.rs", "std::net::TcpStream::connect(address)"), [1]);
        assert_eq!(faults("tcp-trace/src/survey/scope.rs", "socket(AF_NETLINK, 0)"), [1]);
    }

    #[test]
    fn what_stands_within_it_or_only_sounds_alike_is_not() {
        assert!(faults("tcp-trace/src/bpf/object.rs", "use aya::Ebpf;").is_empty());
        assert!(
            faults("tcp-trace/src/run.rs", "use aya_like::Ebpf;\n// aya::Ebpf\nlet layaya = 1;").is_empty()
        );
        assert!(faults("tcp-trace-core/src/decode.rs", "use std::net::IpAddr;").is_empty());
        assert!(faults("tcp-trace/tests/live/main.rs", "use aya::Ebpf;").is_empty());
    }
}
