//! Programs without a fault, some of which look as if they had one.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tcp_trace_testkit::{
    NetNs, World,
    sock::{self, TcpState},
};

use super::{Animal, Seen, pause, start, tour};
use crate::{
    requirements::{Feature, requires},
    tracer::PATIENCE,
};

const AT: &str = "127.0.0.1:7001";

const fn healthy(name: &'static str, play: fn(&World) -> Seen) -> Animal {
    Animal { name, config: "", arguments: &["--close-wait-after", "1s"], yields: &[], play }
}

pub(super) const ANIMALS: &[Animal] = &[
    healthy("pre-fork server", |world| handing_on(world, "prefork")),
    healthy("forking server", |world| handing_on(world, "fork")),
    healthy("sockets shared with a child", |world| handing_on(world, "share")),
    healthy("health checker with linger 0", checker),
    healthy("idle pool", pool),
];

/// Its idle connections are looked at each second, as a leak's would be.
const LOOKED_AT: &str = "[findings.fork_leak]\nafter_s = 1\nmin_sockets = 1\n";

const NGINX: &[Animal] = &[
    healthy("nginx, keep-alive", |world| nginx(world, &[])),
    healthy("nginx, Connection: close", |world| nginx(world, &["-H", "Connection: close"])),
    Animal {
        name: "nginx, keep-alive, each second",
        config: LOOKED_AT,
        arguments: &["--interval", "1s"],
        yields: &[],
        play: |world| nginx(world, &[]),
    },
];

/// `owners-server`, see the testkit: workers share the listener, or sockets.
fn handing_on(world: &World, kind: &str) -> Seen {
    let server = [format!("listen={AT}"), format!("kind={kind}"), "count=150".to_owned()];
    let server = start(world, "owners-server", "listening", &server.each_ref().map(String::as_str));
    let client = [format!("connect={AT}"), "modes=csh".to_owned(), "count=150".to_owned()];
    let client = start(world, "owners-client", "done", &client.each_ref().map(String::as_str));
    pause(1_500);
    Seen::nothing().alive((server, client))
}

/// It opens a connection, and resets it without a word.
fn checker(world: &World) -> Seen {
    let server = start(world, "server", "listening", &[&format!("listen={AT}")]);
    let mut checker =
        start(world, "client", "ready", &[&format!("connect={AT}"), "count=60", "comm=checker"]);
    for _ in 0..6 {
        checker.send("reset count=10").unwrap();
        checker.expect("done", PATIENCE).unwrap();
        pause(500);
    }
    Seen::nothing().alive((server, checker))
}

fn pool(world: &World) -> Seen {
    let server = start(world, "server", "listening", &[&format!("listen={AT}"), "comm=database"]);
    let mut client = start(world, "client", "ready", &[&format!("connect={AT}"), "count=50", "comm=pool"]);
    client.send("send bytes=100").unwrap();
    client.expect("done", PATIENCE).unwrap();
    pause(3_000);
    Seen::nothing().alive((server, client))
}

pub(super) fn nginx_under_wrk() {
    requires(&[Feature::WebServer]);
    tour(&[NGINX]);
}

/// Asks for three seconds, and leaves.
fn nginx(world: &World, more: &[&str]) -> Seen {
    let web = Web::start(&world.ns);
    let mut command = Command::new("wrk");
    command.args(["-t1", "-c64", "-d3s"]).args(more).arg(format!("http://{AT}/"));
    let wrk = world.ns.command(command.stdin(Stdio::null()).stdout(Stdio::piped())).unwrap();
    let output = wrk.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    pause(1_500);
    Seen::nothing().alive(web)
}

/// nginx, until this is dropped.
struct Web {
    server: Child,
    folder: PathBuf,
}

impl Web {
    fn start(ns: &NetNs) -> Self {
        let folder = std::env::temp_dir().join(format!("tcp-trace-zoo-{}", ns.inum()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("nginx.conf"), configuration()).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&folder).args(["-c", "nginx.conf", "-e", "stderr"]);
        let server = ns.command(command.stdin(Stdio::null()).stderr(Stdio::null())).unwrap();
        let web = Self { server, folder };
        let (at, deadline): (SocketAddr, _) = (AT.parse().unwrap(), Instant::now() + PATIENCE);
        // A look, as an attempt would be told of as one that was refused.
        let listens = |entry: &sock::TableEntry| entry.local == at && entry.state == TcpState::Listen;
        while !sock::table(ns).unwrap().iter().any(listens) {
            assert!(Instant::now() < deadline, "nginx does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        web
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        // SIGTERM has the master end its workers; they would outlive a SIGKILL.
        let _ = kill_process(Pid::from_child(&self.server), Signal::TERM);
        let _ = self.server.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn configuration() -> String {
    format!(
        "daemon off; worker_processes 2; pid nginx.pid; error_log stderr crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
         server {{ listen {AT}; location / {{ return 200 \"a small page\\n\"; }} }} }}\n"
    )
}
