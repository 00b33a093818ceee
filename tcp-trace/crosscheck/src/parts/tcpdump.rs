//! tcpdump, and the times of handshakes: from the SYN to the final ACK at a server, from the SYN to its answer at a client.
//!
//! The peer is made by hand, behind a TUN device, so that each handshake takes as long as it is meant to. What tcpdump
//! captures on that device is the kernel's own time of each packet.

use std::{collections::HashMap, net::SocketAddr, process::Command, thread, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tcp_trace_testkit::{
    ConnOptions, ListenOptions, World, clock, sock,
    world::{PEER, SERVER},
};

use crate::{
    check::{self, Check, Outcome},
    child::{self, Running},
};

/// How long each answer is kept back, in turn; for the last one the other side repeats itself.
const DELAYS_MS: [u64; 8] = [0, 1, 3, 10, 30, 100, 300, 1_300];
/// From a packet's time to the state that it makes there are microseconds of the kernel's own work, unless a CPU is taken away.
const WITHIN_NS: u64 = 2_000_000;

pub(crate) fn run(check: &Check, outcome: &mut Outcome) -> Result<()> {
    let Some(tcpdump) = child::find("tcpdump") else {
        outcome.lack("tcpdump is not installed (apt-get install tcpdump)");
        return Ok(());
    };
    let world = World::new()?;
    let netns = world.ns.inum().to_string();
    let ours = check.tcp_trace(&["stream", "--closed", "--json", "--strict", "--netns", &netns])?;
    let mut command = Command::new(tcpdump);
    // Without -Z it would become another user, whom nobody has to know here.
    command.args(["-Z", "root", "-i", "tun0", "-n", "-l", "-tt", "--time-stamp-precision=nano", "tcp"]);
    let mut capture = Running::start_in(&world.ns, &mut command)?;
    capture.wait_for("listening on")?;
    let rounds = if check.quick { 1 } else { 20 };
    let delays = DELAYS_MS.into_iter().cycle().take(DELAYS_MS.len() * rounds);
    for (number, delay) in (0_u16..).zip(delays) {
        let delay = Duration::from_millis(delay);
        serve(&world, PEER.port() + 2 * number, delay)?;
        connect(&world, SocketAddr::new(PEER.ip(), PEER.port() + 2 * number + 1), delay)?;
    }
    thread::sleep(Duration::from_millis(500));
    let capture = capture.stop()?.succeeded()?;
    let ours = check::stop(ours)?;
    let said = capture.stderr()?;
    outcome.holds(
        &format!("tcpdump has dropped nothing: {said}"),
        said.contains("\n0 packets dropped by kernel"),
    );
    let mut handshakes = Handshakes::default();
    capture.each_line(|line| {
        Packet::parse(line).into_iter().for_each(|packet| handshakes.add(&packet));
        Ok(())
    })?;
    let (mut half_open, mut connects) = (Errors::default(), Errors::default());
    ours.each_line(|line| {
        let closed: Value = serde_json::from_str(line)?;
        let port =
            closed["peer"]["port"].as_u64().and_then(|port| u16::try_from(port).ok()).context("no port")?;
        let seen =
            handshakes.0.get(&port).with_context(|| format!("tcpdump has no handshake with port {port}"))?;
        match closed["role"].as_str() {
            Some("server") => half_open.add(port, seen.ack_ns, seen, &closed["half_open_ns"]),
            _ => connects.add(port, seen.syn_ack_ns, seen, &closed["connect_ns"]),
        }
        Ok(())
    })?;
    let each = (DELAYS_MS.len() * rounds) as u64;
    outcome.equal("half-open times, the handshakes that were made", half_open.times.len() as u64, each);
    outcome.equal("connect times, the handshakes that were made", connects.times.len() as u64, each);
    half_open.tell("half-open time, apart from tcpdump's", outcome);
    connects.tell("connect time, apart from tcpdump's", outcome);
    Ok(())
}

/// The kernel is the server; the client's final ACK comes late.
fn serve(world: &World, port: u16, delay: Duration) -> Result<()> {
    let listener = world.listen(&ListenOptions::default())?;
    let mut client =
        world.peer.connect_from(SocketAddr::new(PEER.ip(), port), SERVER, ConnOptions::default());
    client.handshake_with_delay(delay)?;
    let (server, _) = listener.accept()?;
    sock::abort_on_close(&server)?;
    Ok(())
}

/// The kernel is the client; the answer to its SYN comes late.
fn connect(world: &World, to: SocketAddr, delay: Duration) -> Result<()> {
    let listener = world.peer.listen(to);
    let client = world.ns.spawn("connect", move || sock::connect(None, to))?;
    let mut conn = listener.next_syn(ConnOptions::default(), Duration::from_secs(5))?;
    clock::sleep_until(clock::monotonic_ns() + clock::as_ns(delay));
    conn.send_syn_ack()?;
    let client = client.join().map_err(|_panic| anyhow::anyhow!("the connecting thread panicked"))??;
    sock::abort_on_close(&client)?;
    Ok(())
}

/// A line of tcpdump.
#[derive(Debug, PartialEq, Eq)]
struct Packet {
    at_ns: u64,
    from: u16,
    to: u16,
    flags: String,
}

impl Packet {
    /// `1700000000.123456789 IP 198.18.7.1.4000 > 198.18.0.1.7001: Flags [S.], seq …`
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [time, "IP" | "IP6", from, ">", to, "Flags", flags, ..] = words.as_slice() else { return None };
        let (seconds, fraction) = time.split_once('.')?;
        let nanos: u64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
        let port = |end: &str| end.trim_end_matches(':').rsplit_once('.')?.1.parse().ok();
        Some(Self {
            at_ns: seconds.parse::<u64>().ok()? * 1_000_000_000 + nanos,
            from: port(from)?,
            to: port(to)?,
            flags: flags.trim_matches(['[', ']', ',']).to_owned(),
        })
    }
}

/// The first packets of each kind, of one connection.
#[derive(Clone, Copy, Debug, Default)]
struct Handshake {
    syn_ns: u64,
    syn_ack_ns: u64,
    /// The client's ACK of the SYN-ACK that was last.
    ack_ns: u64,
    client: u16,
}

/// By the port of the peer's end, of which each is used once.
#[derive(Debug, Default)]
struct Handshakes(HashMap<u16, Handshake>);

impl Handshakes {
    fn add(&mut self, packet: &Packet) {
        let Packet { at_ns, from, to, flags } = packet;
        let is_peers =
            |port: &u16| *port != SERVER.port() && (PEER.port()..PEER.port() + 1_000).contains(port);
        let Some(port) = [from, to].into_iter().find(|port| is_peers(port)) else { return };
        let handshake = self.0.entry(*port).or_default();
        let first = |time: &mut u64| {
            if *time == 0 {
                *time = *at_ns;
            }
        };
        match flags.as_str() {
            "S" => {
                handshake.client = *from;
                first(&mut handshake.syn_ns);
            }
            "S." => first(&mut handshake.syn_ack_ns),
            "." if *from == handshake.client => first(&mut handshake.ack_ns),
            _ => {}
        }
    }
}

/// How far the two are apart.
#[derive(Debug, Default)]
struct Errors {
    times: Vec<u64>,
    wrong: Vec<String>,
}

impl Errors {
    fn add(&mut self, port: u16, end_ns: u64, seen: &Handshake, ours: &Value) {
        let theirs = end_ns.saturating_sub(seen.syn_ns);
        let Some(ours) = ours.as_u64() else {
            self.wrong.push(format!("port {port}: tcp-trace does not know it, tcpdump has {theirs} ns"));
            return;
        };
        self.times.push(ours.abs_diff(theirs));
        if ours.abs_diff(theirs) > WITHIN_NS {
            self.wrong.push(format!("port {port}: tcp-trace has {ours} ns, tcpdump {theirs} ns"));
        }
    }

    fn tell(mut self, what: &str, outcome: &mut Outcome) {
        self.times.sort_unstable();
        let at = |share: usize| {
            self.times.get((self.times.len().saturating_sub(1)) * share / 100).copied().unwrap_or(0)
        };
        let micros = |ns: u64| ns as f64 / 1e3;
        outcome.figure(
            what,
            format!(
                "p50 {:.1} µs, p99 {:.1} µs, most {:.1} µs",
                micros(at(50)),
                micros(at(99)),
                micros(at(100))
            ),
        );
        self.wrong.into_iter().for_each(|wrong| outcome.difference(format!("{what}: {wrong}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read() {
        let line = "1700000000.123456789 IP 198.18.7.1.4000 > 198.18.0.1.7001: Flags [S.], seq 1, ack 2, win 3, length 0";
        let packet = Packet { at_ns: 1_700_000_000_123_456_789, from: 4000, to: 7001, flags: "S.".into() };
        assert_eq!(Packet::parse(line), Some(packet));
        assert_eq!(Packet::parse("tcpdump: listening on tun0"), None);
    }

    #[test]
    fn the_first_of_each_kind_counts() {
        let mut handshakes = Handshakes::default();
        for (at, from, to, flags) in [
            (1, 4000, 7001, "S"),
            (2, 7001, 4000, "S."),
            (5, 7001, 4000, "S."),
            (9, 4000, 7001, "."),
            (11, 4000, 7001, "."),
        ] {
            handshakes.add(&Packet { at_ns: at, from, to, flags: flags.into() });
        }
        let Handshake { syn_ns, syn_ack_ns, ack_ns, .. } = handshakes.0[&4000];
        assert_eq!((syn_ns, syn_ack_ns, ack_ns), (1, 2, 9));
    }

    #[test]
    fn what_is_too_far_apart_is_wrong() {
        let seen = Handshake { syn_ns: 1_000, ..Handshake::default() };
        let mut errors = Errors::default();
        errors.add(1, 2_000, &seen, &1_100.into());
        errors.add(2, 10_000_000, &seen, &1_100.into());
        errors.add(3, 2_000, &seen, &Value::Null);
        assert_eq!((errors.times, errors.wrong.len()), (vec![100, 9_997_900], 2));
    }
}
