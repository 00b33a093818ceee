//! `doctor`: the page, its JSON, and that it works for everybody.

use tcp_trace::sink;
use tcp_trace_core::{
    doctor::{
        Attempt, BtfFacts, Capabilities, CgroupFacts, CgroupMode, EPERM, Facts, Field, HookKind, Privileges,
        Tracefs, Trial, diagnose,
    },
    session::Host,
};

use crate::{
    schema::Schema,
    tracer::{assert_golden, run},
};

fn trial(name: &str, kind: HookKind, target: &str, refused: bool) -> Trial {
    let attempt = if refused {
        Attempt::Refused { errno: Some(EPERM), reason: "Operation not permitted (os error 1)".to_owned() }
    } else {
        Attempt::Works
    };
    let loss = (name != "set_state").then(|| "something is not known".to_owned());
    Trial { name: name.to_owned(), kind, target: target.to_owned(), attempt, loss }
}

fn privileges(capabilities: u64) -> Privileges {
    Privileges {
        uid: if capabilities == 0 { 1000 } else { 0 },
        effective: Capabilities(capabilities),
        bounding: Capabilities(u64::MAX),
        first_user_namespace: true,
        first_pid_namespace: true,
        seccomp: false,
        bpf_reaches_kernel: capabilities != 0,
        memlock: Some(8 << 20),
        landlock: Some(7),
        filters: true,
    }
}

fn hooks(nobody: bool) -> Vec<Trial> {
    vec![
        trial("set_state", HookKind::TpBtf, "inet_sock_set_state", nobody),
        trial("set_state", HookKind::Tracepoint, "inet_sock_set_state", nobody),
        trial("half_open", HookKind::SockOps, "cgroup2 root", nobody),
        trial("time_wait", HookKind::Fexit, "inet_twsk_alloc", true),
        trial("last_close", HookKind::TpBtf, "tcp_destroy_sock", nobody),
        trial("holders", HookKind::Iter, "task_file", nobody),
    ]
}

/// A locked-down host, and somebody who may do all that is possible there, or nothing.
pub(crate) fn facts(capabilities: u64) -> Facts {
    let nobody = capabilities == 0;
    Facts {
        host: Host { name: "server".to_owned(), kernel: "6.12.0".to_owned(), boot_id: None },
        kernel: Some((6, 12)),
        program: "/usr/local/bin/tcp-trace".to_owned(),
        has_object: true,
        privileges: privileges(capabilities),
        lockdown: if nobody {
            Err("securityfs is not mounted".to_owned())
        } else {
            Ok("integrity".to_owned())
        },
        perf_event_paranoid: Some(2),
        unprivileged_bpf_disabled: Some(2),
        btf: BtfFacts {
            attempt: Attempt::Works,
            bytes: Some(5_000_000),
            members: vec![
                ("sock_common.skc_dport".to_owned(), Some(12)),
                ("tcp_sock.total_rto".to_owned(), None),
            ],
        },
        tracefs: Tracefs {
            mounted: Some("/sys/kernel/tracing".to_owned()),
            attempt: Attempt::Works,
            fields: vec![Field { name: "skaddr".to_owned(), offset: 8, size: 8 }],
        },
        ring_buffer: trial("", HookKind::TpBtf, "", nobody).attempt,
        cgroup: CgroupFacts {
            mode: CgroupMode::Unified,
            cgroup2: Some("/sys/fs/cgroup".to_owned()),
            is_root: true,
        },
        runtimes: vec!["Docker".to_owned(), "Kubernetes".to_owned()],
        container: None,
        systemd: true,
        hooks: hooks(nobody),
        sock_diag: Attempt::Works,
        destroy: trial("", HookKind::TpBtf, "", nobody).attempt,
        namespaces: (
            3,
            if nobody { vec!["2 other network namespaces cannot be entered".to_owned()] } else { vec![] },
        ),
        holders: if nobody {
            vec!["the descriptors of 90 processes cannot be read".to_owned()]
        } else {
            vec![]
        },
    }
}

const ALL: u64 = (1 << 41) - 1;

fn printed(facts: &Facts, as_json: bool) -> String {
    let mut out = Vec::new();
    sink::diagnosis(&mut out, &diagnose(facts), as_json).expect("memory can be written");
    String::from_utf8(out).expect("text")
}

#[test]
fn it_is_one_page_that_fits_a_terminal() {
    for (name, capabilities) in [("doctor-root.txt", ALL), ("doctor-user.txt", 0)] {
        let page = printed(&facts(capabilities), false);
        assert_golden(name, page.as_bytes());
        assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    }
}

#[test]
fn every_document_keeps_to_the_schema() {
    let schema = Schema::of_diagnoses();
    for capabilities in [ALL, 0, 1 << 21, 1 << 39] {
        let document = &schema.documents(&printed(&facts(capabilities), true))[0];
        assert_eq!(document["ready"], capabilities == ALL || capabilities == 1 << 21, "{document:#}");
    }
}

/// Whoever runs this test, on whatever host.
#[test]
fn on_this_host_the_exit_code_is_the_verdict() {
    let json = run("doctor --json");
    let document = &Schema::of_diagnoses().documents(&json.stdout)[0];
    assert_eq!(json.code, Some(if document["ready"] == true { 0 } else { 3 }), "{json:#?}");
    let page = run("doctor");
    assert_eq!(page.code, json.code);
    assert!(
        page.stdout.contains("\nWhat will work\n") && page.stdout.contains("\nNext\n"),
        "{}",
        page.stdout
    );
}
