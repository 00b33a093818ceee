//! The full screen, driven through a terminal of its own: what stands on it, and that the terminal is given back.

use std::{fs, thread, time::Duration};

use rustix::process::Signal;
use tcp_trace_testkit::{Helper, NetNs};

use crate::{Test, pty::Pty, tracer::PATIENCE};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("a_leak_stands_at_the_top", a_leak_stands_at_the_top),
    ("the_terminal_is_given_back_after_a_signal", the_terminal_is_given_back_after_a_signal),
    ("it_stops_and_goes_on", it_stops_and_goes_on),
    ("it_follows_the_size_of_the_window", it_follows_the_size_of_the_window),
];

const LEAK: u64 = 37;

/// A server that keeps what its client closes, and is called what no terminal should see.
fn leak(ns: &NetNs) -> (Helper, Helper) {
    let mut server = Helper::spawn(ns, "leaky-server", &["listen=127.0.0.1:7001", "comm=leaky<b>"]).unwrap();
    server.expect("listening", PATIENCE).unwrap();
    let mut client = Helper::spawn(ns, "client", &["connect=127.0.0.1:7001", "count=40"]).unwrap();
    client.expect("ready", PATIENCE).unwrap();
    client.send(&format!("close count={LEAK}")).unwrap();
    for _ in 0..LEAK {
        server.expect("eof", PATIENCE).unwrap();
    }
    (server, client)
}

fn start(ns: &NetNs) -> Pty {
    Pty::spawn(&["top", "--close-wait-after", "500ms", "--netns", &ns.inum().to_string()], (80, 24))
}

fn a_leak_stands_at_the_top() {
    let ns = NetNs::new().unwrap();
    let mut screen = start(&ns);
    screen.wait_for("PROCESSES");
    let (server, _client) = leak(&ns);
    let who = format!("leaky<b> ({})", server.pid());
    screen.wait_for("close_wait_leak");
    let text = screen.wait_for(&format!("{LEAK} connections of {who}"));
    let first = text.lines().skip_while(|line| !line.contains("PROCESSES")).nth(2).unwrap();
    assert!(first.contains(&who) && first.contains(&LEAK.to_string()), "{text}");
    assert!(text.contains("0 lost") && text.contains("LIVE"), "{text}");
    screen.send("2");
    let text = screen.wait_for("STATES");
    let row = text.lines().find(|line| line.contains("CLOSE_WAIT")).unwrap();
    assert!(row.contains(&LEAK.to_string()), "{text}");
    screen.send("3");
    screen.wait_for(&format!("PROCESS {who}"));
    screen.send("4");
    screen.wait_for("127.0.0.1:7001");
    screen.send("5");
    screen.wait_for("→ FIN_WAIT2");
    screen.send("?");
    screen.wait_for("this help");
    screen.send("qq");
    let (code, raw) = screen.end();
    assert_eq!(code, Some(0), "{raw}");
    assert!(raw.contains(" + 0 lost (balanced)"), "{raw}");
}

fn the_terminal_is_given_back_after_a_signal() {
    let ns = NetNs::new().unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let mut screen = start(&ns);
        screen.wait_for("PROCESSES");
        assert!(screen.is_raw());
        screen.signal(signal);
        let (code, raw) = screen.end();
        assert_eq!(code, Some(0), "{signal:?}: {raw}");
    }
}

fn it_stops_and_goes_on() {
    let ns = NetNs::new().unwrap();
    for by_key in [true, false] {
        let mut screen = start(&ns);
        screen.wait_for("PROCESSES");
        if by_key {
            screen.send("\u{1a}");
        } else {
            screen.signal(Signal::TSTP);
        }
        let stat = format!("/proc/{}/stat", screen.pid());
        let stopped = || fs::read_to_string(&stat).unwrap().contains(") T ");
        for _ in 0..500 {
            if stopped() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert!(stopped(), "it does not stop");
        assert!(!screen.is_raw(), "whoever has the terminal now can use it");
        screen.forget();
        screen.signal(Signal::CONT);
        screen.wait_for("PROCESSES");
        screen.send("q");
        let (code, raw) = screen.end();
        assert_eq!(code, Some(0), "{raw}");
    }
}

fn it_follows_the_size_of_the_window() {
    let ns = NetNs::new().unwrap();
    let mut screen = start(&ns);
    screen.wait_for("PROCESSES");
    screen.resize((120, 40));
    let footer = |text: &str| text.lines().nth(39).is_some_and(|line| line.contains("5 stream"));
    screen.wait_until("the footer in the last row", |text| footer(text));
    screen.send("q");
    assert_eq!(screen.end().0, Some(0));
}
