//! What the surveys of the incident find: at its start what was there before, at its end what is left.

use tcp_trace_common::state::{ESTABLISHED, FIN_WAIT2, TIME_WAIT};
use tcp_trace_core::survey::{ContainerFacts, Facts, ProcessFacts, Runtime, SocketCounters, SocketRow};

use crate::{
    incident::{NGINX, ORDERS, SHOP, WORKER},
    look::{
        self, ALL, Look, REPORT, REQUESTS, close_wait, container, dead, listener, namespace, process, row,
        time_wait,
    },
    tape::{MS, SECOND, Tape},
};

const COUNTERS: SocketCounters = SocketCounters {
    listen_overflows: 17,
    listen_drops: 19,
    syncookies_sent: 4,
    syncookies_received: 3,
    syncookies_failed: 0,
    request_queue_full_cookies: 4,
    request_queue_full_drops: 0,
    embryonic_resets: 8,
    time_wait_overflows: 0,
    passive_opens: 90_210,
    active_opens: 3_141,
    attempt_fails: 59,
};

const DYING: [(u64, &str); 3] =
    [(510, "198.18.7.41:1024"), (511, "198.18.8.42:1024"), (512, "198.18.8.43:1024")];

/// Two connections that leaked long before, the listener that they came in on, and two that will end.
pub(crate) fn at_start(tape: &mut Tape) {
    let mut look = Look::default();
    orders(&mut look, 0);
    look.socket(row(13, ESTABLISHED, "10.0.0.4:9000", "10.2.0.22:50500"), &[(ORDERS, 14)]);
    look.socket(row(7, ESTABLISHED, "10.0.0.4:34988", "10.0.3.2:6379"), &[]);
    let namespaces = vec![namespace(COUNTERS)];
    look.facts = Facts { processes: vec![orders_api()], namespaces, ..Facts::default() };
    look.record(tape, ALL);
}

/// Requests that will have died by the end: one before any timer could have ended it.
pub(crate) fn meanwhile(tape: &mut Tape) {
    let mut look = Look::default();
    for (cookie, peer) in DYING {
        look.socket(look::request(cookie, "10.0.0.4:443", peer), &[]);
    }
    look.facts = Facts { namespaces: vec![namespace(COUNTERS)], ..Facts::default() };
    look.record(tape, REQUESTS);
}

/// What is wrong by now.
pub(crate) fn at_end(tape: &mut Tape) {
    let mut look = Look::default();
    orders(&mut look, 29_000);
    look.socket(listener(100, "0.0.0.0:443", (0, 511)), &[(NGINX, 6), (WORKER, 6)]);
    look.socket(listener(101, "0.0.0.0:8080", (1, 128)), &[(SHOP, 9)]);
    look.socket(listener(102, "[::]:443", (0, 511)), &[(NGINX, 7), (WORKER, 7)]);
    java(&mut look);
    half_open(&mut look, tape);
    waiting(&mut look);
    let counters = SocketCounters {
        listen_overflows: 20,
        listen_drops: 22,
        syncookies_sent: 5,
        syncookies_received: 4,
        request_queue_full_cookies: 5,
        embryonic_resets: 10,
        passive_opens: 90_228,
        active_opens: 3_149,
        attempt_fails: 66,
        ..COUNTERS
    };
    let nginx = |id| {
        let container = ContainerFacts {
            id: "nginx.service".into(),
            name: None,
            runtime: Runtime::Systemd,
            image: None,
            ..container("", "")
        };
        ProcessFacts { container: Some(container), ..process(id, "/usr/sbin/nginx", "www-data", (38, 4096)) }
    };
    let shop = process(SHOP, "/usr/lib/jvm/bin/java", "shop", (212, 65_536));
    look.facts = Facts {
        processes: vec![orders_api(), nginx(NGINX), nginx(WORKER), shop],
        cgroups: vec![(1, "/".into(), None)],
        namespaces: vec![namespace(counters)],
        listeners: Vec::new(),
    };
    look.record(tape, REPORT);
}

fn orders_api() -> ProcessFacts {
    ProcessFacts {
        cgroup: Some("/system.slice/docker-4f1c9a52e0b7.scope".into()),
        container: Some(container("orders", "registry.example/orders:7")),
        ..process(ORDERS, "/srv/orders-api", "app", (1_018, 1_024))
    }
}

/// The sockets of `orders-api` that stay, `later` milliseconds after the start.
fn orders(look: &mut Look, later: u32) {
    look.socket(listener(10, "0.0.0.0:9000", (3, 128)), &[(ORDERS, 7)]);
    let peer = "10.2.0.21:40122";
    look.socket(close_wait(11, "10.0.0.4:9000", peer, 1, 2_400_000 + later), &[(ORDERS, 12)]);
    let peer = "10.2.0.21:40188";
    look.socket(close_wait(12, "10.0.0.4:9000", peer, 0, 1_860_000 + later), &[(ORDERS, 13)]);
}

/// Seven connections that the shop has not closed: of every kind, and the last one not even accepted.
fn java(look: &mut Look) {
    let peers = ["10.1.0.11", "10.1.0.12", "10.1.0.11", "10.1.0.13", "10.1.0.11", "10.1.0.12", "10.1.0.11"];
    for ((number, peer), unread) in (0_u16..).zip(peers).zip([0, 1, 1, 514, 1, 1, 1]) {
        let peer = format!("{peer}:{}", 52_000 + number);
        let socket = close_wait(220 + u64::from(number), "10.0.0.4:8080", &peer, unread, 20_000);
        let fd = 40 + u32::from(number);
        match number {
            6 => look.socket(SocketRow { inode: None, ..socket }, &[]),
            2 => look.socket(socket, &[(SHOP, fd), (WORKER, 30)]),
            4 => look.socket(socket, &[]),
            _ => look.socket(socket, &[(SHOP, fd)]),
        }
    }
}

/// Three requests that are live, and three that have died.
fn half_open(look: &mut Look, tape: &Tape) {
    for number in 0..3 {
        let peer = format!("198.18.7.{}:1024", 30 + number);
        look.socket(look::request(500 + number, "10.0.0.4:443", &peer), &[]);
    }
    for ((cookie, peer), ago) in DYING.into_iter().zip([2_500 * MS, 8 * SECOND, 9 * SECOND]) {
        look.dead.push(dead(tape, cookie, ago, "10.0.0.4:443", peer));
    }
}

/// Time-wait sockets: those of connections that were seen, an orphan, and forty from before the start.
fn waiting(look: &mut Look) {
    for number in 0..4 {
        let peer = format!("203.0.113.{}:61000", 7 + number);
        look.socket(time_wait(240 + number, TIME_WAIT, "10.0.0.4:443", &peer), &[]);
    }
    look.socket(time_wait(200, TIME_WAIT, "127.0.0.1:40514", "127.0.0.1:8080"), &[]);
    look.socket(time_wait(400, TIME_WAIT, "[2001:db8::10]:53122", "[2001:db8:0:1::53]:443"), &[]);
    look.socket(time_wait(401, TIME_WAIT, "10.0.0.4:50001", "198.51.100.66:6667"), &[]);
    look.socket(time_wait(13, FIN_WAIT2, "10.0.0.4:9000", "10.2.0.22:50500"), &[]);
    for number in 0..40 {
        let local = format!("10.0.0.4:{}", 32_800 + number);
        look.socket(time_wait(600 + number, TIME_WAIT, &local, "10.0.3.7:5432"), &[]);
    }
}
