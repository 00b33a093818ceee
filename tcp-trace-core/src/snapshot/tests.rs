use std::num::NonZeroU64;

use super::*;
use crate::{
    process::ProcessId,
    survey::{
        NamespaceFacts, Runtime, TcpInfo, Timer,
        sample::{INFO, row},
    },
};

const NETNS: u32 = 1;

fn container(id: &str, runtime: Runtime) -> ContainerFacts {
    ContainerFacts {
        id: id.to_owned(),
        name: Some(format!("{id}-name")),
        runtime,
        image: None,
        pod_uid: None,
        pod: None,
        namespace: None,
        qos: None,
    }
}

fn process_of(pid: u32, container: Option<ContainerFacts>) -> ProcessFacts {
    ProcessFacts {
        id: ProcessId::new(pid, Some(1_000_000_000)),
        comm: format!("p{pid}"),
        exe: None,
        cmdline: vec![format!("/bin/p{pid}")],
        uid: 33,
        user: None,
        nofile: Some(1024),
        fds: Some(7),
        netns: Some(NETNS),
        cgroup: None,
        container,
    }
}

fn end(text: &str) -> Endpoint {
    let end: std::net::SocketAddr = text.parse().unwrap();
    Endpoint { address: end.ip(), port: end.port() }
}

fn socket(cookie: u64, state: TcpState, inode: u32) -> SocketRow {
    SocketRow {
        cookie: NonZeroU64::new(cookie).unwrap(),
        inode: Some(inode).filter(|inode| *inode != 0),
        ..row(state)
    }
}

fn listener(cookie: u64, local: &str, inode: u32) -> SocketRow {
    let peer = Endpoint { address: end(local).address, port: 0 };
    SocketRow { local: end(local), peer, ..socket(cookie, TcpState::Listen, inode) }
}

fn gathered(sockets: Vec<SocketRow>, holders: &[(u32, u32, u32)], processes: Vec<ProcessFacts>) -> Gathered {
    let namespace = NamespaceFacts {
        inum: NETNS,
        name: None,
        port_range: None,
        syncookies: None,
        synack_retries: None,
        somaxconn: None,
        time_wait_reuse: None,
        counters: None,
    };
    Gathered {
        host: Host { name: "host".into(), kernel: "6.12".into(), boot_id: None },
        anchor: ClockAnchor { monotonic_ns: 0, boottime_ns: 0, unix_ns: 1_700_000_000_000_000_000 },
        time: Timestamp(0),
        sockets,
        holders: holders.iter().map(|&(inode, pid, fd)| Holder { inode, pid, fd }).collect(),
        holders_complete: true,
        has_requests: true,
        facts: Facts { processes, namespaces: vec![namespace], ..Facts::default() },
        degradations: Vec::new(),
    }
}

/// `PIDS OWNER_STATE STATE COUNT` of each group.
fn groups(gathered: &Gathered, selection: &Selection) -> Vec<String> {
    let text = |group: &Group| {
        let pids: Vec<_> = group.processes.iter().map(|process| process.pid.to_string()).collect();
        let owner = serde_json::to_value(group.owner_state).unwrap();
        format!("{} {} {} {}", pids.join("+"), owner.as_str().unwrap(), group.state, group.count)
    };
    snapshot(gathered, selection).groups.iter().map(text).collect()
}

fn all() -> Selection {
    Selection { sockets: true, ..Selection::default() }
}

#[test]
fn every_owner_has_its_own_word() {
    let rows = vec![
        listener(1, "0.0.0.0:80", 10),
        socket(2, TcpState::Established, 11),
        socket(3, TcpState::Established, 12),
        socket(4, TcpState::Established, 0),
        socket(5, TcpState::NewSynReceived, 0),
        socket(6, TcpState::LastAck, 0),
        socket(7, TcpState::SynSent, 13),
    ];
    let holders = [(10, 1, 3), (11, 2, 4), (12, 2, 5), (12, 3, 5), (12, 3, 6)];
    let mut gathered = gathered(rows, &holders, vec![process_of(1, None)]);
    let mut found = groups(&gathered, &all());
    found.sort();
    assert_eq!(
        found,
        [
            " in_flight SYN_SENT 1",
            " orphaned LAST_ACK 1",
            "1 half_open NEW_SYN_RECV 1",
            "1 held LISTEN 1",
            "1 never_accepted ESTABLISHED 1",
            "2 held ESTABLISHED 1",
            "2+3 shared ESTABLISHED 1",
        ]
    );
    let document = snapshot(&gathered, &all());
    let shared = document.sockets.unwrap().into_iter().find(|socket| socket.cookie == 3).unwrap();
    let fds: Vec<_> = shared.holders.iter().map(|holder| (holder.pid, holder.fds.clone())).collect();
    assert_eq!(fds, [(2, vec![5]), (3, vec![5, 6])]);
    assert_eq!(shared.holders[0].comm, None, "nothing is known of that process");
    gathered.holders_complete = false;
    assert!(groups(&gathered, &all()).contains(&" not_permitted SYN_SENT 1".to_owned()));
}

#[test]
fn the_listener_is_the_one_bound_to_the_address_itself() {
    let child = SocketRow { local: end("198.18.0.1:80"), ..socket(9, TcpState::CloseWait, 0) };
    let blamed = |listeners: Vec<SocketRow>| {
        let rows = listeners.into_iter().chain([child.clone()]).collect();
        let holders = [(10, 1, 3), (11, 2, 3)];
        let groups = groups(&gathered(rows, &holders, Vec::new()), &all());
        groups.into_iter().find(|group| group.contains("CLOSE_WAIT")).unwrap()
    };
    let any = listener(1, "0.0.0.0:80", 10);
    assert_eq!(blamed(vec![any.clone(), listener(2, "198.18.0.1:80", 11)]), "2 never_accepted CLOSE_WAIT 1");
    assert_eq!(blamed(vec![any.clone(), listener(2, "198.18.0.9:80", 11)]), "1 never_accepted CLOSE_WAIT 1");
    assert_eq!(blamed(vec![listener(1, "[::]:80", 10)]), "1 never_accepted CLOSE_WAIT 1", "dual-stack");
    assert_eq!(blamed(vec![any.clone(), listener(2, "0.0.0.0:80", 11)]), "1+2 never_accepted CLOSE_WAIT 1");
    let elsewhere = SocketRow { netns: 2, ..any };
    assert_eq!(blamed(vec![elsewhere, listener(2, "0.0.0.0:81", 11)]), " never_accepted CLOSE_WAIT 1");
}

#[test]
fn a_group_is_as_old_as_its_oldest_and_exact_only_if_all_are() {
    let aged = |cookie, inode, ack, data| {
        let info =
            TcpInfo { last_ack_received_ms: ack, last_data_received_ms: data, data_segments_in: 1, ..INFO };
        SocketRow {
            info: Some(info),
            receive_queue: 1,
            send_queue: 2,
            ..socket(cookie, TcpState::CloseWait, inode)
        }
    };
    let holders = [(10, 1, 3), (11, 1, 4)];
    let oldest = |rows| {
        let group = snapshot(&gathered(rows, &holders, Vec::new()), &all()).groups.remove(0);
        (group.oldest_ns, group.oldest_exact, group.receive_queue, group.send_queue, group.kinds)
    };
    let kinds = Some(Kinds { never_looked: 2, ..Kinds::default() });
    let both = vec![aged(1, 10, 5_000, 5_000), aged(2, 11, 9_000, 9_000)];
    assert_eq!(oldest(both), (Some(9_000_000_000), Some(true), Some(2), Some(4), kinds));
    let younger_unsure = vec![aged(1, 10, 5_000, 7_000), aged(2, 11, 9_000, 9_000)];
    assert_eq!(oldest(younger_unsure), (Some(9_000_000_000), Some(false), Some(2), Some(4), kinds));
    let time_wait =
        SocketRow { timer: Timer::TimeWait, expires_ms: 50_000, ..socket(3, TcpState::TimeWait, 0) };
    assert_eq!(oldest(vec![time_wait]), (Some(9_990_000_000), Some(false), None, None, None));
}

#[test]
fn listeners_show_their_queues() {
    let queue = |row, receive_queue| SocketRow { receive_queue, send_queue: 128, ..row };
    let rows = vec![
        queue(listener(1, "0.0.0.0:80", 10), 5),
        queue(listener(2, "0.0.0.0:80", 11), 2),
        queue(listener(3, "0.0.0.0:81", 12), 9),
        socket(4, TcpState::NewSynReceived, 0),
    ];
    let mut gathered = gathered(rows, &[(10, 1, 3), (11, 2, 3), (12, 3, 3)], Vec::new());
    let shown = |gathered: &Gathered| -> Vec<_> {
        let text = |end: &Listener| {
            let pids: Vec<_> = end.processes.iter().map(|process| process.pid).collect();
            (
                end.local.port,
                end.sockets,
                end.accept_queue.length,
                end.accept_queue.limit,
                end.syn_queue,
                pids,
            )
        };
        snapshot(gathered, &all()).listeners.iter().map(text).collect()
    };
    let expected = vec![(81, 1, 9, 128, Some(0), vec![3]), (80, 2, 7, 256, Some(1), vec![1, 2])];
    assert_eq!(shown(&gathered), expected);
    gathered.has_requests = false;
    assert_eq!(shown(&gathered)[0].4, None, "not listed is not 0");
}

#[test]
fn containers_are_known_from_the_process_the_cgroup_or_the_namespace() {
    let docker = |id: &str| container(id, Runtime::Docker);
    let rows = vec![
        socket(1, TcpState::Established, 10),
        SocketRow { cgroup_id: Some(77), ..socket(2, TcpState::LastAck, 0) },
        socket(3, TcpState::TimeWait, 0),
        SocketRow { netns: 2, ..socket(4, TcpState::TimeWait, 0) },
    ];
    let mut gathered = gathered(rows, &[(10, 1, 3)], vec![process_of(1, Some(docker("web")))]);
    gathered.facts.cgroups = vec![(77, "/db".to_owned(), Some(docker("db")))];
    let found = |gathered: &Gathered| -> Vec<_> {
        let mut sockets = snapshot(gathered, &all()).sockets.unwrap();
        sockets.sort_by_key(|socket| socket.cookie);
        sockets.into_iter().map(|s| (s.container.map(|one| one.id), s.container_source)).collect()
    };
    let (web, db) = (Some("web".to_owned()), Some("db".to_owned()));
    let expected = vec![
        (web.clone(), Some(ContainerSource::Process)),
        (db, Some(ContainerSource::Cgroup)),
        (web.clone(), Some(ContainerSource::Netns)),
        (None, None),
    ];
    assert_eq!(found(&gathered), expected);
    let only = Selection { container: web, ..all() };
    assert_eq!(snapshot(&gathered, &only).sockets.unwrap().len(), 2);
    gathered.facts.processes.push(process_of(9, None));
    assert_eq!(found(&gathered)[2], (None, None), "a process of the host is there as well");
    gathered.facts.processes = vec![process_of(1, Some(container("unit", Runtime::Systemd)))];
    assert_eq!(found(&gathered)[2], (None, None), "a unit has no namespace");
    gathered.facts.processes = vec![process_of(1, None)];
    assert_eq!(found(&gathered)[0], (None, Some(ContainerSource::Process)), "known to be in none");
}

#[test]
fn filters_restrict() {
    let v6 = SocketRow {
        local: end("[2001:db8::1]:443"),
        peer: end("[2001:db8::7]:5000"),
        family: 10,
        ..socket(3, TcpState::Established, 12)
    };
    let rows = vec![
        listener(1, "[::]:80", 10),
        socket(2, TcpState::CloseWait, 11),
        v6,
        SocketRow { cgroup_id: Some(5), netns: 2, ..socket(4, TcpState::TimeWait, 0) },
    ];
    let gathered = gathered(rows, &[(10, 1, 3), (11, 2, 3), (12, 2, 4)], Vec::new());
    let cookies = |selection: Selection| -> Vec<u64> {
        let sockets = snapshot(&gathered, &Selection { sockets: true, ..selection }).sockets.unwrap();
        let mut cookies: Vec<_> = sockets.iter().map(|socket| socket.cookie).collect();
        cookies.sort_unstable();
        cookies
    };
    let by = |filter| cookies(Selection { filter, ..Selection::default() });
    assert_eq!(by(FilterSpec { pid: Some(2), ..FilterSpec::default() }), [2, 3]);
    assert_eq!(by(FilterSpec { netns: Some(2), ..FilterSpec::default() }), [4]);
    assert_eq!(by(FilterSpec { cgroup_ids: vec![5], ..FilterSpec::default() }), [4]);
    assert_eq!(by(FilterSpec { ip_version: Some(4), ..FilterSpec::default() }), [1, 2, 4]);
    assert_eq!(by(FilterSpec { ip_version: Some(6), ..FilterSpec::default() }), [1, 3]);
    assert_eq!(by(FilterSpec { local_ports: vec![443], ..FilterSpec::default() }), [3]);
    assert_eq!(by(FilterSpec { peer_ports: vec![4000, 5000], ..FilterSpec::default() }), [2, 3, 4]);
    assert_eq!(cookies(Selection { states: vec![TcpState::CloseWait], ..Selection::default() }), [2]);
}
