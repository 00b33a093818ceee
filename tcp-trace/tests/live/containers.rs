//! Processes, and those in containers that a real runtime has started.

use std::fs;

use rustc_hash::FxHashSet;
use tcp_trace::survey::{
    containers::{Containers, ResolveError},
    holders, processes,
};
use tcp_trace_core::survey::{ContainerFacts, Runtime};
use tcp_trace_testkit::{Container, Helper, NetNs, container::Network};

use crate::{
    Test,
    requirements::{Feature, requires},
    rights::{DAC_READ_SEARCH, SYS_ADMIN, nobody_with, usual},
    tracer::{PATIENCE, Tracer},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("a_process_and_what_it_holds_are_described", a_process_and_what_it_holds_are_described),
    ("a_leak_is_in_its_container", a_leak_is_in_its_container),
    ("it_is_found_by_name_and_by_id", it_is_found_by_name_and_by_id),
    (
        "a_leak_from_before_the_start_is_reported_under_its_container",
        a_leak_from_before_the_start_is_reported,
    ),
    ("a_filter_takes_a_container_by_its_name", a_filter_takes_a_container_by_its_name),
    ("a_container_on_the_hosts_network_is_told_apart", a_container_on_the_hosts_network_is_told_apart),
    ("without_cap_dac_read_search_it_has_no_name", without_cap_dac_read_search_it_has_no_name),
];

const LEAK: usize = 5;

fn start(name: &str, network: Network) -> (Container, String) {
    let mut container = Container::start(name, network, "leaky-server", &["listen=127.0.0.1:0"]).unwrap();
    let address = container.helper.expect("listening", PATIENCE).unwrap().get("addr").unwrap().to_owned();
    (container, address)
}

/// The server keeps what the client, which is in its namespace but in no container, closes.
fn leak(container: &mut Container, ns: &NetNs, address: &str, count: usize) -> Helper {
    let arguments = [format!("connect={address}"), format!("count={count}")];
    let mut client = Helper::spawn(ns, "client", &arguments.each_ref().map(String::as_str)).unwrap();
    client.expect("ready", PATIENCE).unwrap();
    client.send("close").unwrap();
    for _ in 0..count {
        container.helper.expect("eof", PATIENCE).unwrap();
    }
    client
}

/// 500 sockets that a container leaked before anybody looked: listed at once, under its name and its process.
fn a_leak_from_before_the_start_is_reported() {
    requires(&[Feature::ContainerRuntime]);
    let (mut container, address) = start("tt-old", Network::None);
    let ns = container.netns().unwrap();
    let _client = leak(&mut container, &ns, &address, 500);
    let before = tcp_trace::host::monotonic();
    let tracer = Tracer::start(&["report", "--json", "--close-wait-after", "1ms"]);
    let report = tracer.report();
    let truth = tcp_trace::host::monotonic().since(before) + 60_000_000_000;
    let processes = report["close_wait"]["processes"].as_array().unwrap();
    let row = processes.iter().find(|row| row["process"]["pid"] == container.pid()).unwrap();
    assert_eq!((&row["count"], &row["process"]["comm"]), (&500.into(), &"leaky-server".into()));
    let facts = serde_json::to_value(expected(&container)).unwrap();
    assert_eq!(row["process"]["container"], facts);
    assert_eq!(row["kinds"]["forgot_close"], 500, "{}", row["kinds"]);
    for socket in row["sockets"].as_array().unwrap() {
        assert_eq!((&socket["owner_source"], &socket["owner_state"]), (&"fd".into(), &"held".into()));
        assert_eq!(socket["fds"].as_array().unwrap().len(), 1, "{socket}");
        assert!(socket["age_ns"].as_u64().unwrap() < truth && !socket["age_exact"].is_null(), "{socket}");
    }
    let containers = report["containers"].as_array().unwrap();
    let summary = containers.iter().find(|row| row["container"] == facts).unwrap();
    assert_eq!((&summary["close_wait"], &summary["processes"]), (&500.into(), &1.into()), "{summary}");
}

/// By its name, and by the beginning of its id; of two containers, one.
fn a_filter_takes_a_container_by_its_name() {
    requires(&[Feature::ContainerRuntime]);
    let (mut wanted, address) = start("tt-this", Network::Host);
    let (mut other, elsewhere) = start("tt-other", Network::Host);
    let host = NetNs::of_process(std::process::id()).unwrap();
    for id in [wanted.name(), &wanted.id()[..12]].map(str::to_owned) {
        let tracer = Tracer::start(&["report", "--json", "--close-wait-after", "1ms", "--container", &id]);
        let _clients = [leak(&mut wanted, &host, &address, LEAK), leak(&mut other, &host, &elsewhere, LEAK)];
        let report = tracer.report();
        let processes = report["close_wait"]["processes"].as_array().unwrap();
        let pids: Vec<_> = processes.iter().map(|row| row["process"]["pid"].clone()).collect();
        assert_eq!(pids, [wanted.pid()], "{processes:?}");
        assert!(report["loss"]["filtered"].as_u64() > Some(0), "the other one's: {}", report["loss"]);
    }
}

fn expected(container: &Container) -> ContainerFacts {
    ContainerFacts {
        id: container.id().to_owned(),
        name: Some(container.name().to_owned()),
        runtime: Runtime::Podman,
        image: Some(container.image()),
        pod_uid: None,
        pod: None,
        namespace: None,
        qos: None,
    }
}

/// Inode numbers of CLOSE_WAIT sockets in a process's namespace.
fn in_close_wait(pid: u32) -> FxHashSet<u32> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let fields = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    fields.filter(|fields| fields[3] == "08").map(|fields| fields[9].parse().unwrap()).collect()
}

/// On every kernel: before 6.2 the descriptors have to be counted.
fn a_process_and_what_it_holds_are_described() {
    let ns = NetNs::new().unwrap();
    let mut server = Helper::spawn(&ns, "leaky-server", &["listen=127.0.0.1:7001", "comm=a)(b"]).unwrap();
    server.expect("listening", PATIENCE).unwrap();
    let mut client = Helper::spawn(&ns, "client", &["connect=127.0.0.1:7001", "count=9"]).unwrap();
    client.expect("ready", PATIENCE).unwrap();
    for _ in 0..9 {
        server.expect("accepted", PATIENCE).unwrap();
    }
    let facts = processes::facts(server.pid(), &mut Containers::new()).unwrap();
    assert_eq!((facts.comm.as_str(), facts.netns), ("a)(b", Some(ns.inum())));
    let listed = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    assert_eq!(facts.fds, Some(listed as u64));
    let now = tcp_trace::host::clock_anchor().boottime_ns;
    assert!(now - facts.id.start_ns.unwrap() < 5_000_000_000, "{facts:?}");
    let (holders, _) = holders::scan(None);
    assert_eq!(holders.iter().filter(|holder| holder.pid == server.pid()).count(), 10);
    assert_eq!(holders.iter().filter(|holder| holder.pid == client.pid()).count(), 9);
}

/// Its name stands in files of the runtime, which are root's; its id in its cgroup.
fn without_cap_dac_read_search_it_has_no_name() {
    requires(&[Feature::ContainerRuntime]);
    let (mut container, address) = start("tt-named", Network::None);
    let ns = container.netns().unwrap();
    let _client = leak(&mut container, &ns, &address, LEAK);
    let whole = serde_json::to_value(expected(&container)).unwrap();
    let all = usual() | 1 << SYS_ADMIN;
    for (rights, name) in
        [(all, whole["name"].clone()), (all & !(1 << DAC_READ_SEARCH), serde_json::Value::Null)]
    {
        let arguments = ["report", "--json", "--close-wait-after", "1ms"];
        let report = Tracer::start_under(&arguments, move || nobody_with(rights)).report();
        let processes = report["close_wait"]["processes"].as_array().unwrap();
        let row = processes.iter().find(|row| row["process"]["pid"] == container.pid()).unwrap();
        let found = &row["process"]["container"];
        assert_eq!((&found["name"], &found["id"]), (&name, &whole["id"]), "{found}");
    }
}

fn a_leak_is_in_its_container() {
    requires(&[Feature::ContainerRuntime]);
    let (mut container, address) = start("tt-leak", Network::None);
    let ns = container.netns().unwrap();
    let client = leak(&mut container, &ns, &address, LEAK);

    let leaked = in_close_wait(container.pid());
    assert_eq!(leaked.len(), LEAK);
    let (found, _) = holders::scan(Some(&leaked));
    assert!(found.iter().all(|holder| holder.pid == container.pid()), "{found:?}");
    assert_eq!(found.iter().map(|holder| holder.inode).collect::<FxHashSet<_>>(), leaked);

    let mut containers = Containers::new();
    let facts = processes::facts(container.pid(), &mut containers).unwrap();
    assert_eq!(facts.container, Some(expected(&container)), "{:?}", facts.cgroup);
    assert_eq!((facts.comm.as_str(), facts.exe.as_deref()), ("leaky-server", Some("/helper")));
    assert_eq!(facts.netns, Some(ns.inum()));
    assert!(facts.fds.unwrap() > LEAK as u64);
    let outside = processes::facts(client.pid(), &mut containers).unwrap();
    assert!(outside.container.is_none_or(|other| other.runtime == Runtime::Systemd), "{:?}", outside.cgroup);

    let (path, whole) = (facts.cgroup.unwrap(), expected(&container));
    let pid = container.pid();
    drop(container);
    assert_eq!(processes::facts(pid, &mut containers), None, "it is gone");
    assert_eq!(containers.of_path(&path), Some(whole), "and what it was is not forgotten");
}

fn it_is_found_by_name_and_by_id() {
    requires(&[Feature::ContainerRuntime]);
    let (mut container, address) = start("tt-name", Network::None);
    let (other, _) = start("tt-other", Network::None);
    let ns = container.netns().unwrap();
    let mut containers = Containers::new();
    for text in [container.name(), container.id(), &container.id()[..12]] {
        let found = containers.resolve(text).unwrap();
        assert_eq!(found.facts, expected(&container), "{text}");
        assert_eq!((found.pids, found.netns), (vec![container.pid()], Some(ns.inum())), "{text}");
        assert_eq!((found.host_netns, found.shared_netns), (false, false), "{text}");
        for id in &found.cgroup_ids {
            let (path, facts) = containers.of_cgroup_id(*id).unwrap();
            assert_eq!(facts, Some(expected(&container)), "{path}");
        }
        assert_eq!(found.cgroup_ids.is_empty(), tcp_trace::bpf::cgroup_mount_point().is_none());
    }
    let _client = leak(&mut container, &ns, &address, LEAK);
    assert!(containers.resolve(container.name()).unwrap().shared_netns, "the client is there as well");
    assert_eq!(containers.resolve(other.name()).unwrap().pids, [other.pid()]);
    let error = containers.resolve("tt-nobody").unwrap_err();
    assert!(matches!(&error, ResolveError::Unknown { .. }), "{error}");
    for name in [container.name(), other.name()] {
        assert!(error.to_string().contains(&format!("{name} (podman ")), "{error}");
    }
}

fn a_container_on_the_hosts_network_is_told_apart() {
    requires(&[Feature::ContainerRuntime]);
    let (container, _) = start("tt-host", Network::Host);
    let mut containers = Containers::new();
    let facts = processes::facts(container.pid(), &mut containers).unwrap();
    assert_eq!(facts.container, Some(expected(&container)));
    let found = containers.resolve(container.name()).unwrap();
    assert_eq!((found.host_netns, found.shared_netns), (true, true));
    assert_eq!(found.pids, [container.pid()]);
}
