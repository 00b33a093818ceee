//! Cgroup paths as the runtimes make them, and what they name.

use tcp_trace_core::{
    container::{LogName, identify, seen_from, telling_path, v2_path},
    survey::{Runtime, ServiceClass},
};

const A: &str = "aaaaaaaaaaaaaaaa0123456789abcdef0123456789abcdef0123456789abcdef";
const B: &str = "bbbbbbbbbbbbbbbb0123456789abcdef0123456789abcdef0123456789abcdef";
const UID: &str = "12345678-90ab-cdef-1234-567890abcdef";

/// `A`, `B`, `UID` and `U_D` (with underscores) stand for ids.
fn path(pattern: &str) -> String {
    let underscores = UID.replace('-', "_");
    pattern.replace("{A}", A).replace("{B}", B).replace("{UID}", UID).replace("{U_D}", &underscores)
}

/// `RUNTIME ID [pod UID CLASS]`, ids shortened as in the patterns.
fn say(pattern: &str) -> String {
    let path = path(pattern);
    let Some(identity) = identify(&path) else { return "nothing".to_owned() };
    assert!(path.starts_with(identity.root), "{path}: {}", identity.root);
    let facts = identity.facts;
    let mut said = format!("{} {}", facts.runtime.name(), facts.id);
    if let Some(uid) = facts.pod_uid {
        let class = match facts.qos {
            Some(ServiceClass::Guaranteed) => "guaranteed",
            Some(ServiceClass::Burstable) => "burstable",
            Some(ServiceClass::BestEffort) => "best-effort",
            None => "?",
        };
        said += &format!(" pod {uid} {class}");
    }
    said.replace(A, "A").replace(B, "B").replace(UID, "UID")
}

#[track_caller]
fn check(table: &[(&str, &str)]) {
    for (pattern, expected) in table {
        assert_eq!(say(pattern), *expected, "{pattern}");
    }
}

#[test]
fn each_runtime_by_both_cgroup_drivers() {
    check(&[
        ("/docker/{A}", "docker A"),
        ("/system.slice/docker-{A}.scope", "docker A"),
        ("/custom.slice/docker-{A}.scope/init", "docker A"),
        ("/ecs/0123456789abcdef/{A}", "docker A"),
        ("/system.slice/cri-containerd-{A}.scope", "containerd A"),
        ("/default/{A}", "containerd A"),
        ("/system.slice/nerdctl-{A}.scope", "containerd A"),
        ("/machine.slice/libpod-{A}.scope/container", "podman A"),
        ("/libpod_parent/libpod-{A}", "podman A"),
        ("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope/container", "podman A"),
        ("/lxc.payload.web", "lxc web"),
        ("/lxc.payload/web", "lxc web"),
        ("/lxc/web", "lxc web"),
        ("/lxc.payload.user-1000_web/system.slice/nginx.service", "lxc user-1000_web"),
    ]);
}

#[test]
fn pods_by_both_cgroup_drivers() {
    check(&[
        ("/kubepods/burstable/pod{UID}/{A}", "kubernetes A pod UID burstable"),
        ("/kubepods/besteffort/pod{UID}/{A}", "kubernetes A pod UID best-effort"),
        ("/kubepods/pod{UID}/{A}", "kubernetes A pod UID guaranteed"),
        ("/kubepods/pod{UID}/crio-{A}", "cri-o A pod UID guaranteed"),
        (
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{U_D}.slice/cri-containerd-{A}.scope",
            "containerd A pod UID best-effort",
        ),
        ("/kubepods.slice/kubepods-pod{U_D}.slice/crio-{A}.scope", "cri-o A pod UID guaranteed"),
        (
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{U_D}.slice/cri-containerd-{A}.scope",
            "containerd A pod UID burstable",
        ),
        (
            "/system.slice/containerd.service/kubepods-burstable-pod{U_D}.slice:cri-containerd:{A}",
            "containerd A pod UID burstable",
        ),
        (
            "/kubepods/burstable/pod0123456789abcdef0123456789abcdef/{A}",
            "kubernetes A pod 0123456789abcdef0123456789abcdef burstable",
        ),
    ]);
}

#[test]
fn of_nested_containers_the_innermost() {
    check(&[
        ("/docker/{A}/docker/{B}", "docker B"),
        (
            "/docker/{A}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{U_D}.slice/cri-containerd-{B}.scope",
            "containerd B pod UID guaranteed",
        ),
        ("/docker/{A}/system.slice/containerd.service", "docker A"),
        ("/kubepods/burstable/pod{UID}/{A}/docker/{B}", "docker B pod UID burstable"),
        ("/lxc.payload.host/machine.slice/libpod-{B}.scope", "podman B"),
        ("/docker/{A}/lxc.payload.web", "lxc web"),
    ]);
}

#[test]
fn systemd_units_where_there_is_no_container() {
    check(&[
        ("/system.slice/nginx.service", "systemd nginx.service"),
        ("/system.slice/nginx.service/worker/3", "systemd nginx.service"),
        ("/user.slice/user-1000.slice/session-3.scope", "systemd session-3.scope"),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/gnome-x\\x2dy.scope",
            "systemd gnome-x\\x2dy.scope",
        ),
        ("/init.scope", "systemd init.scope"),
        ("/machine.slice/libpod-conmon-{A}.scope", "systemd libpod-conmon-A.scope"),
    ]);
}

#[test]
fn monitors_and_what_only_looks_like_a_container_are_none() {
    check(&[
        ("/", "nothing"),
        ("", "nothing"),
        ("/user.slice/user-1000.slice", "nothing"),
        ("/lxc.monitor.web", "nothing"),
        ("/lxc.monitor/web", "nothing"),
        ("/lxc/", "nothing"),
        ("/lxc.payload.", "nothing"),
        ("/libpod_parent/conmon", "nothing"),
        ("/docker", "nothing"),
        ("/docker/buildx", "nothing"),
        ("/docker/{A}0", "nothing"),
        ("/unknown/{A}", "nothing"),
        ("/kubepods/burstable/pod{UID}", "nothing"),
        ("/burstable/pod{UID}/{A}", "nothing"),
        ("/kubepods/burstable/podUID/{A}", "nothing"),
        ("/mykubepods-pod{U_D}.slice/{A}", "nothing"),
        ("/.service", "nothing"),
        ("/x:cri-containerd:short", "nothing"),
        ("/memory:/process_api/36e2bff276dac10b1d9b0747e9405ecb", "nothing"),
    ]);
    let monitor =
        format!("/kubepods.slice/kubepods-pod{}.slice/crio-conmon-{A}.scope", UID.replace('-', "_"));
    assert_eq!(identify(&monitor).unwrap().facts.runtime, Runtime::Systemd);
}

#[test]
fn the_root_is_the_containers_own_cgroup() {
    let path = path("/docker/{A}/system.slice/cron.service (deleted)");
    assert_eq!(identify(&path).unwrap().root, format!("/docker/{A}"));
    assert_eq!(identify("/a.service/b").unwrap().root, "/a.service");
}

#[test]
fn a_hostile_name_stays_what_it_is() {
    let identity = identify("/lxc.payload.\u{1b}[31m\u{202e}:x/ü").unwrap();
    assert_eq!(identity.facts.name.as_deref(), Some("\u{1b}[31m\u{202e}:x"));
    assert_eq!(identity.root, "/lxc.payload.\u{1b}[31m\u{202e}:x");
    assert!(identify(&"/ü/pod-pod.slice:".repeat(500)).is_none());
}

#[test]
fn the_hierarchy_that_says_most_is_chosen() {
    let v2 = "0::/system.slice/nginx.service\n";
    assert_eq!(telling_path(v2), Some("/system.slice/nginx.service"));
    let v1 = path("12:pids:/docker/{A}\n11:memory:/docker/{A}\n1:name=systemd:/docker/{A}\n");
    assert_eq!(telling_path(&v1), Some(path("/docker/{A}").as_str()));
    // Docker with the cgroupfs driver on a host whose systemd has both kinds.
    let hybrid =
        path("5:memory:/docker/{A}\n1:name=systemd:/docker/{A}\n0::/system.slice/containerd.service\n");
    assert_eq!(telling_path(&hybrid), Some(path("/docker/{A}").as_str()));
    assert_eq!(v2_path(&hybrid), Some("/system.slice/containerd.service"));
    let inner = path("5:memory:/docker/{A}\n4:pids:/docker/{A}/docker/{B}\n0::/\n");
    assert_eq!(telling_path(&inner), Some(path("/docker/{A}/docker/{B}").as_str()));
    let unmanaged = "9:name=systemd:/\n4:memory:/some/a:b\n0::/\n";
    assert_eq!(telling_path(unmanaged), Some("/some/a:b"));
    assert_eq!(telling_path("9:cpu:/some\n1:name=systemd:/cron.service\n0::/\n"), Some("/cron.service"));
    assert_eq!(telling_path("0::/\n"), Some("/"));
    assert_eq!(telling_path("0::/gone.service (deleted)\n"), Some("/gone.service"));
    for broken in ["", "\n\n", "0:", "0::relative", "::::"] {
        assert_eq!(telling_path(broken), None, "{broken:?}");
        assert_eq!(v2_path(broken), None, "{broken:?}");
    }
}

#[test]
fn the_kubelets_links_are_taken_apart() {
    let name = path("web-7d4b9-x2_shop_cart-api-{A}.log");
    let whole = LogName { pod: "web-7d4b9-x2", namespace: "shop", container: "cart-api", id: A };
    assert_eq!(LogName::parse(&name), Some(whole));
    for other in
        ["web_shop_cart-{A}", "web_shop_cart-12.log", "web_shop-{A}.log", "a_b_c_d-{A}.log", "__-{A}.log"]
    {
        assert_eq!(LogName::parse(&path(other)), None, "{other}");
    }
}

#[test]
fn paths_of_a_cgroup_namespace_are_joined_to_its_root() {
    let root = "/kubepods/burstable/pod11111111-2222-3333-4444-555555555555/own";
    let seen = |path: &str| seen_from(&format!("0::{path}\n"), root);
    for (path, whole) in [
        ("/", root.to_owned()),
        ("/inner", format!("{root}/inner")),
        ("/../../podX/id", "/kubepods/burstable/podX/id".to_owned()),
        ("/../../../../init.scope", "/init.scope".to_owned()),
        ("/../../../..", "/".to_owned()),
        ("/..not/upwards", format!("{root}/..not/upwards")),
        // More steps than there are: another host's hierarchy, or a lie.
        ("/../../../../../x", "/../../../../../x".to_owned()),
    ] {
        assert_eq!(seen(path), format!("0::{whole}\n"), "{path}");
    }
    let hybrid = "12:pids:/../x\n0::/../x\n";
    assert_eq!(seen_from(hybrid, "/a/b"), "12:pids:/../x\n0::/a/x\n", "other hierarchies have other roots");
    assert_eq!(seen_from("0::/x\n", "/"), "0::/x\n");
}
