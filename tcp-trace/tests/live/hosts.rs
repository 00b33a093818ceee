//! What the program leaves on a host: nothing.

use std::{collections::BTreeSet, fs, thread, time::Duration};

use aya::{
    maps::loaded_maps,
    programs::{loaded_links, loaded_programs},
};
use rustix::process::Signal;
use tcp_trace::bpf::{btf::Btf, layout};

use crate::{Test, tracer::Tracer};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("sigkill_leaves_nothing_behind", sigkill_leaves_nothing_behind),
    ("signals_end_with_a_summary", signals_end_with_a_summary),
    ("no_mount_is_changed", no_mount_is_changed),
    ("this_kernels_layout_is_found", this_kernels_layout_is_found),
];

/// Ids of the programs, maps and links that are in the kernel now. It never gives an id twice.
pub(crate) fn loaded() -> BTreeSet<(&'static str, u32)> {
    // One that goes away between two steps of the listing is not there any more.
    let programs = loaded_programs().filter_map(Result::ok).map(|program| ("program", program.id()));
    let maps = loaded_maps().filter_map(Result::ok).map(|map| ("map", map.id()));
    let links = loaded_links().filter_map(Result::ok).map(|link| ("link", link.id()));
    programs.chain(maps).chain(links).collect()
}

fn sigkill_leaves_nothing_behind() {
    for attach in ["tp_btf", "tracepoint"] {
        let before = loaded();
        let tracer = Tracer::start(&["report", "--attach", attach]);
        let ours: BTreeSet<_> = loaded().difference(&before).copied().collect();
        for kind in ["program", "map"] {
            assert!(
                ours.iter().any(|(other, _)| *other == kind),
                "{attach}: no {kind} of ours among {ours:?}"
            );
        }
        tracer.signal(Signal::KILL);
        tracer.wait();
        // The kernel frees what lost its last descriptor a moment later.
        let gone = (0..200).any(|_| {
            thread::sleep(Duration::from_millis(10));
            loaded().is_disjoint(&ours)
        });
        assert!(gone, "{attach}: left {:?}", loaded().intersection(&ours));
    }
}

fn signals_end_with_a_summary() {
    // The second one does not wait for the last look at the sockets, if that is not over yet.
    for signals in [&[Signal::TERM][..], &[Signal::INT, Signal::TERM], &[Signal::INT; 3]] {
        let tracer = Tracer::start(&["report", "--json"]);
        for signal in signals {
            tracer.signal(*signal);
            thread::sleep(Duration::from_millis(2));
        }
        let output = tracer.wait();
        assert!(output.status.success(), "{signals:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["loss"]["balanced"], true, "{signals:?}");
    }
}

fn no_mount_is_changed() {
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    // tracefs need not be mounted for this.
    let tracer = Tracer::start(&["report", "--attach", "tracepoint"]);
    let of_tracer = fs::read_to_string(format!("/proc/{}/mountinfo", tracer.pid())).unwrap();
    tracer.stop();
    assert_eq!(before, mounts());
    assert_eq!(before, of_tracer);
}

fn this_kernels_layout_is_found() {
    let raw = fs::read("/sys/kernel/btf/vmlinux").unwrap();
    let btf = Btf::parse(&raw).unwrap();
    let offsets = layout::offsets(&btf).unwrap();
    // `struct sock_common` begins with the pair of addresses in every kernel.
    assert_eq!((offsets.skc_daddr, offsets.skc_rcv_saddr), (0, 4));
    assert_eq!(btf.prototype_len("btf_trace_inet_sock_set_state"), Some(4));
}
