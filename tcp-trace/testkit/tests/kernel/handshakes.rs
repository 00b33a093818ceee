//! The peer as a client of a kernel server: half-open connections of every kind.

use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use tcp_trace_testkit::clock::sleep_until;
use tcp_trace_testkit::peer::{HandshakePlan, PATIENCE};
use tcp_trace_testkit::sock::{self, TcpState};
use tcp_trace_testkit::world::{PEER, SERVER};
use tcp_trace_testkit::{ConnOptions, ListenOptions, World};

use super::Test;
use super::util::{SHORT, addr, assert_about, ms, rounds};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("delays_are_exact", delays_are_exact),
    ("syn_acks_are_repeated", || rounds(syn_acks_are_repeated)),
    ("repeated_syn", || rounds(repeated_syn)),
    ("ipv6", || rounds(ipv6)),
    ("syn_then_silence_or_rst", || rounds(syn_then_silence_or_rst)),
    ("deferred_accept", deferred_accept),
    ("fast_open_with_cookie", fast_open_with_cookie),
    ("syn_cookies", syn_cookies),
    ("full_accept_queue", full_accept_queue),
];

fn timestamps() -> ConnOptions {
    ConnOptions { timestamps: true, ..ConnOptions::default() }
}

fn delays_are_exact() -> io::Result<()> {
    let world = World::new()?;
    let listener = world.listen(&ListenOptions::default())?;
    for options in [ConnOptions::default(), timestamps()] {
        for delay in [ms(0), ms(300)] {
            let worst = |_| -> io::Result<Duration> {
                let mut client = world.client(options.clone());
                let handshake = client.handshake_with_delay(delay)?;
                let (server, from) = listener.accept()?;
                assert_eq!(from, PEER);
                assert_eq!(sock::tcp_state(&server)?, TcpState::Established);
                assert_eq!(handshake.retransmitted_syn_acks(), 0);
                client.send_rst()?;
                // The kernel's own measure of the same stretch: from its SYN-ACK to the ACK, in µs.
                let rtt = Duration::from_micros(sock::tcp_info(&server)?.tcpi_rtt.into());
                let ours = Duration::from_nanos(handshake.half_open_ns());
                let (least, most) = handshake.half_open_bounds_ns();
                assert!(ours >= delay, "{ours:?}");
                // RTTs are truncated to µs.
                assert!(
                    rtt + Duration::from_micros(2) >= Duration::from_nanos(least),
                    "{rtt:?} {handshake:?}"
                );
                assert!(
                    rtt <= Duration::from_nanos(most) + Duration::from_micros(2),
                    "{rtt:?} {handshake:?}"
                );
                Ok(ours.abs_diff(delay).max(ours.abs_diff(rtt)))
            };
            // A busy hypervisor may take the virtual CPU away for some ms; hardly three times in a row.
            let errors = (0..3).map(worst).collect::<io::Result<Vec<_>>>()?;
            assert!(errors.iter().min() < Some(&ms(1)), "{delay:?}: off by {errors:?}");
        }
    }
    Ok(())
}

fn syn_acks_are_repeated() -> io::Result<()> {
    let world = World::new()?;
    let listener = world.listen(&ListenOptions::default())?;
    let mut client = world.client(timestamps());
    let handshake = client.handshake_with_delay(ms(3_300))?;
    assert_eq!(sock::tcp_state(&listener.accept()?.0)?, TcpState::Established);
    assert_about(handshake.half_open_ns(), ms(3_300));
    // At 1 s and 3 s, the kernel's timers being up to some ms late.
    assert!(handshake.retransmitted_syn_acks() >= 2, "{handshake:?}");
    let first = handshake.repeated_syn_ack_ns[0] - handshake.syn_ack_ns;
    assert!((1_000_000_000..1_100_000_000).contains(&first), "{first}");
    Ok(())
}

fn repeated_syn() -> io::Result<()> {
    let world = World::new()?;
    let listener = world.listen(&ListenOptions::default())?;
    let plan = HandshakePlan { ack_after: ms(200), repeat_syn_after: Some(ms(100)) };
    let handshake = world.client(ConnOptions::default()).handshake_with(&plan)?;
    assert_eq!(sock::tcp_state(&listener.accept()?.0)?, TcpState::Established);
    assert_eq!(handshake.retransmitted_syn_acks(), 1);
    assert_about(handshake.repeated_syn_ack_ns[0] - handshake.syn_ack_ns, ms(100));
    assert_about(handshake.half_open_ns(), ms(200));
    Ok(())
}

fn ipv6() -> io::Result<()> {
    let world = World::new()?;
    let server = addr("[2001:db8::1]:7001");
    let listener = world.ns.run(|| sock::listen(server, &ListenOptions::default()))?;
    let mut client = world.peer.connect_from(addr("[2001:db8::7]:4000"), server, ConnOptions::default());
    // The first packet to a neighbourless device may wait for nothing, but is allowed a moment.
    let handshake = client.handshake_with_delay(ms(50))?;
    assert_about(handshake.half_open_ns(), ms(50));
    assert_eq!(listener.accept()?.1, client.local());
    Ok(())
}

fn syn_then_silence_or_rst() -> io::Result<()> {
    let world = World::new()?;
    world.ns.sysctl("net.ipv4.tcp_synack_retries", 1)?;
    let _listener = world.listen(&ListenOptions::default())?;
    let mut client = world.client(ConnOptions::default());
    client.send_syn()?;
    client.expect_syn_ack(PATIENCE)?;
    sock::wait_state(&world.ns, SERVER, PEER, Some(TcpState::SynRecv), PATIENCE)?;
    client.send_rst()?;
    sock::wait_state(&world.ns, SERVER, PEER, None, PATIENCE)?;
    // Silence: one repetition at 1 s, dead at 3 s.
    let mut silent = world.client(ConnOptions::default());
    let sent_ns = silent.send_syn()?;
    silent.expect_syn_ack(PATIENCE)?;
    let repeated = silent.expect_syn_ack(PATIENCE)?;
    assert!((1_000_000_000..1_100_000_000).contains(&(repeated.time_ns - sent_ns)));
    sleep_until(sent_ns + 3_300_000_000);
    sock::wait_state(&world.ns, SERVER, PEER, None, SHORT)
}

fn deferred_accept() -> io::Result<()> {
    let world = World::new()?;
    let options = ListenOptions { defer_accept: Some(5), ..ListenOptions::default() };
    let listener = world.listen(&options)?;
    let mut client = world.client(ConnOptions::default());
    client.handshake()?;
    assert!(client.stay_silent(ms(100)).is_empty());
    sock::wait_state(&world.ns, SERVER, PEER, Some(TcpState::SynRecv), SHORT)?;
    client.send_data(b"late")?;
    client.expect_all_acked(PATIENCE)?;
    let mut data = [0; 4];
    listener.accept()?.0.read_exact(&mut data)?;
    assert_eq!(&data, b"late");
    Ok(())
}

fn fast_open_with_cookie() -> io::Result<()> {
    let world = World::new()?;
    world.ns.sysctl("net.ipv4.tcp_fastopen", 3)?;
    let options = ListenOptions { fastopen: Some(5), ..ListenOptions::default() };
    let listener = world.listen(&options)?;
    let mut asking = world.client(ConnOptions { fastopen: Some(vec![]), ..ConnOptions::default() });
    let cookie = asking.handshake()?.syn_ack.segment.options.fastopen;
    let cookie = cookie.expect("the kernel gives a cookie");
    asking.send_rst()?;
    drop((listener.accept()?, asking));

    let mut fast = world.client(ConnOptions { fastopen: Some(cookie), ..ConnOptions::default() });
    fast.send_syn_with_data(b"early")?;
    fast.expect_syn_ack(PATIENCE)?;
    fast.expect_all_acked(PATIENCE)?;
    let (mut server, _) = listener.accept()?;
    assert_eq!(sock::tcp_state(&server)?, TcpState::SynRecv);
    let mut data = [0; 5];
    server.read_exact(&mut data)?;
    assert_eq!(&data, b"early");
    fast.send_ack()?;
    assert_eq!(sock::tcp_state(&server)?, TcpState::Established);
    Ok(())
}

fn syn_cookies() -> io::Result<()> {
    let world = World::new()?;
    world.ns.sysctl("net.ipv4.tcp_syncookies", 2)?;
    let listener = world.listen(&ListenOptions::default())?;
    world.client(ConnOptions::default()).handshake_with_delay(ms(50))?;
    assert_eq!(sock::tcp_state(&listener.accept()?.0)?, TcpState::Established);
    assert_eq!(sock::counters(&world.ns)?["TcpExt.SyncookiesRecv"], 1);
    Ok(())
}

fn full_accept_queue() -> io::Result<()> {
    let world = World::new()?;
    let listener = world.listen(&ListenOptions { backlog: 0, ..ListenOptions::default() })?;
    let connect = |port| world.peer.connect_from((PEER.ip(), port).into(), SERVER, ConnOptions::default());
    let mut early = connect(1);
    early.send_syn()?;
    early.expect_syn_ack(PATIENCE)?;
    let mut late = connect(2);
    late.send_syn()?;
    let answered = late.expect_syn_ack(SHORT);
    early.send_ack()?;
    match answered {
        // Its ACK meets a full queue and is dropped.
        Ok(_) => {
            late.send_ack()?;
            assert!(sock::counters(&world.ns)?["TcpExt.ListenOverflows"] >= 1);
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
    }
    let mut too_late = connect(3);
    too_late.send_syn()?;
    assert_eq!(too_late.expect_syn_ack(SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(listener.accept()?.1.port(), 1);
    Ok(())
}
