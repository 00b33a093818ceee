use super::*;
use crate::session::Host;

/// Every capability that there is.
const ALL: u64 = (1 << 41) - 1;

fn bit(capability: Capability) -> u64 {
    1 << capability.number()
}

fn refused(errno: Option<i32>) -> Attempt {
    Attempt::Refused { errno, reason: "no".into() }
}

/// A host on which everything works, for who may everything.
fn facts() -> Facts {
    let hook = |name: &str, kind, loss: bool| Trial {
        name: name.into(),
        kind,
        target: "x".into(),
        attempt: Attempt::Works,
        loss: loss.then(|| "y".into()),
    };
    Facts {
        host: Host { name: "h".into(), kernel: "6.12".into(), boot_id: None },
        kernel: Some((6, 12)),
        program: "/bin/tcp-trace".into(),
        has_object: true,
        privileges: Privileges {
            uid: 0,
            effective: Capabilities(ALL),
            bounding: Capabilities(ALL),
            first_user_namespace: true,
            first_pid_namespace: true,
            seccomp: false,
            bpf_reaches_kernel: true,
            memlock: None,
            landlock: Some(7),
            filters: true,
        },
        lockdown: Ok("none".into()),
        perf_event_paranoid: Some(2),
        unprivileged_bpf_disabled: Some(1),
        btf: BtfFacts { attempt: Attempt::Works, bytes: Some(1), members: vec![] },
        tracefs: Tracefs { mounted: Some("/t".into()), attempt: Attempt::Works, fields: vec![] },
        ring_buffer: Attempt::Works,
        cgroup: CgroupFacts { mode: CgroupMode::Unified, cgroup2: Some("/c".into()), is_root: true },
        runtimes: vec![],
        container: None,
        systemd: false,
        hooks: vec![
            hook("set_state", HookKind::TpBtf, false),
            hook("set_state", HookKind::Tracepoint, false),
            hook("half_open", HookKind::SockOps, true),
            hook("time_wait", HookKind::Fexit, true),
            hook("last_close", HookKind::TpBtf, true),
            hook("holders", HookKind::Iter, true),
        ],
        sock_diag: Attempt::Works,
        destroy: Attempt::Works,
        namespaces: (1, vec![]),
        holders: vec![],
    }
}

fn lacking(capabilities: &[Capability]) -> Facts {
    let mut facts = facts();
    facts.privileges.effective = Capabilities(capabilities.iter().fold(ALL, |bits, one| bits & !bit(*one)));
    facts
}

fn cause_id(facts: &Facts, kind: HookKind, errno: Option<i32>) -> &'static str {
    cause(facts, kind, &refused(errno)).unwrap().id()
}

#[test]
fn where_nothing_is_missing_nothing_is_next() {
    let found = diagnose(&facts());
    assert!(found.ready && found.next.is_none());
    assert!(found.tiers.iter().all(|tier| tier.works == Works::Yes && tier.missing.is_empty()), "{found:#?}");
    assert!(found.checks.iter().all(|check| check.status != Status::Limits), "{found:#?}");
}

#[test]
fn a_capability_is_the_cause_only_of_what_its_lack_leads_to() {
    let no_bpf = lacking(&[Capability::SysAdmin, Capability::Bpf]);
    assert_eq!(cause_id(&no_bpf, HookKind::TpBtf, Some(EPERM)), "capabilities");
    // The verifier's complaint is not about rights, nor is an unknown function.
    assert_eq!(cause_id(&no_bpf, HookKind::TpBtf, Some(22)), "kernel");
    assert_eq!(cause_id(&no_bpf, HookKind::Fexit, None), "kernel");
    // One that is not needed.
    let no_net = lacking(&[Capability::SysAdmin, Capability::NetAdmin]);
    assert_eq!(cause_id(&no_net, HookKind::SockOps, Some(EPERM)), "capabilities");
    assert_eq!(cause_id(&no_net, HookKind::TpBtf, Some(EPERM)), "kernel");
    assert_eq!(cause_id(&no_net, HookKind::Fexit, Some(EPERM)), "lockdown");
    // CAP_SYS_ADMIN stands in for them.
    let admin = lacking(&[Capability::Bpf, Capability::Perfmon]);
    assert_eq!(cause_id(&admin, HookKind::Fexit, Some(EPERM)), "lockdown");
    assert!(diagnose(&admin).ready);
}

#[test]
fn of_several_causes_the_one_that_comes_first_is_named() {
    let mut facts = lacking(&[Capability::SysAdmin, Capability::Bpf]);
    facts.privileges.first_user_namespace = false;
    facts.privileges.seccomp = true;
    facts.privileges.bpf_reaches_kernel = false;
    let of = |facts: &Facts| cause_id(facts, HookKind::TpBtf, Some(EPERM));
    assert_eq!(of(&facts), "capabilities");
    facts.privileges.effective = Capabilities(ALL);
    assert_eq!(of(&facts), "user_namespace");
    facts.privileges.first_user_namespace = true;
    assert_eq!(of(&facts), "seccomp");
    facts.privileges.seccomp = false;
    facts.kernel = Some((5, 10));
    facts.privileges.memlock = Some(65_536);
    assert_eq!(of(&facts), "kernel", "the limit could have been raised");
    facts.privileges.effective = Capabilities(ALL & !bit(Capability::SysResource));
    assert_eq!(of(&facts), "memlock");
    facts.kernel = Some((5, 11));
    assert_eq!(of(&facts), "kernel");
    facts.btf.attempt = Attempt::Refused { errno: Some(2), reason: "no BTF".into() };
    assert_eq!(of(&facts), "btf");
    assert_eq!(cause_id(&facts, HookKind::Tracepoint, Some(22)), "kernel");
    facts.has_object = false;
    assert_eq!(of(&facts), "build");
}

#[test]
fn the_next_thing_is_the_most_worth_that_a_command_gets() {
    let set = |facts: &mut Facts, name: &str, kind: HookKind, errno| {
        let is_it = |trial: &&mut Trial| trial.name == name && trial.kind == kind;
        facts.hooks.iter_mut().find(is_it).unwrap().attempt = refused(errno);
    };
    let mut facts = lacking(&[]);
    set(&mut facts, "time_wait", HookKind::Fexit, Some(EPERM));
    let next = diagnose(&facts).next.unwrap();
    assert!(next.gives.starts_with("tier 2") && next.command.is_none() && next.how.is_some(), "{next:?}");
    facts.cgroup = CgroupFacts { mode: CgroupMode::Legacy, cgroup2: None, is_root: false };
    set(&mut facts, "half_open", HookKind::SockOps, None);
    let next = diagnose(&facts).next.unwrap();
    assert!(next.gives.starts_with("tier 1s") && next.reason.contains("no cgroup2"), "{next:?}");
    assert!(next.command.unwrap().ends_with("mount -t cgroup2 none /sys/fs/cgroup/unified"));
    // What cannot be explained is no next thing.
    facts = self::facts();
    facts.holders = vec!["one process cannot be read".into()];
    assert!(diagnose(&facts).next.is_none());
    assert_eq!(diagnose(&facts).tiers[4].works, Works::Partly);
}

#[test]
fn who_may_nothing_is_told_the_way_that_there_is() {
    let nothing = |uid, container: Option<&str>, systemd| {
        let mut facts = facts();
        facts.privileges.uid = uid;
        facts.privileges.effective = Capabilities(0);
        facts.privileges.bounding = Capabilities(0);
        facts.container = container.map(str::to_owned);
        facts.systemd = systemd;
        for trial in &mut facts.hooks {
            trial.attempt = refused(Some(EPERM));
        }
        let found = diagnose(&facts);
        assert!(!found.ready && found.tiers[0].works == Works::No);
        let next = found.next.unwrap();
        assert_eq!(next.reason, "this process lacks CAP_BPF and CAP_PERFMON");
        (next.command, next.how.unwrap())
    };
    let (command, how) = nothing(1000, None, true);
    assert_eq!(command.as_deref(), Some("sudo /bin/tcp-trace report"));
    assert_eq!(how, "or once and for all: sudo setcap cap_bpf,cap_perfmon+ep /bin/tcp-trace");
    let (command, how) = nothing(0, Some("Docker"), true);
    assert_eq!(
        (command, how.as_str()),
        (None, "to start the container with --cap-add=BPF --cap-add=PERFMON, or with --privileged")
    );
    assert_eq!(nothing(0, None, true).0.as_deref(), Some("systemd-run --pipe --wait /bin/tcp-trace report"));
    let (command, how) = nothing(0, None, false);
    assert!(command.is_none() && how.contains("root itself lacks CAP_BPF and CAP_PERFMON here"), "{how}");
}

#[test]
fn the_verdict_is_that_of_the_program() {
    // `tcp-trace report` asks for the capabilities before it tries.
    let without = lacking(&[Capability::SysAdmin, Capability::Perfmon]);
    assert!(!diagnose(&without).ready);
    let mut one = facts();
    one.hooks.retain(|trial| trial.kind != HookKind::TpBtf || trial.name != "set_state");
    assert!(diagnose(&one).ready, "the perf tracepoint will do");
    one.hooks.retain(|trial| trial.kind != HookKind::Tracepoint);
    assert!(!diagnose(&one).ready);
}
