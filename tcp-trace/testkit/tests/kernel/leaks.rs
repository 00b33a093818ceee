//! Leaks and crowds are what they say.

use std::io;

use tcp_trace_testkit::NetNs;
use tcp_trace_testkit::clock::monotonic_ns;
use tcp_trace_testkit::leak::{Leak, LeakKind, UNREAD_BYTES, crowd};
use tcp_trace_testkit::sock::{self, TcpState};

use super::Test;

pub(crate) const TESTS: &[(&str, Test)] =
    &[("each_kind_has_its_queue", each_kind_has_its_queue), ("a_crowd_is_complete", a_crowd_is_complete)];

fn each_kind_has_its_queue() -> io::Result<()> {
    let ns = NetNs::new()?;
    let leak = Leak::start(&ns, 10, 7_001)?;
    let entries = sock::table(&ns)?;
    assert_eq!(leak.sockets.len(), 40);
    for socket in &leak.sockets {
        let entry =
            entries.iter().find(|entry| (entry.local, entry.remote) == (socket.local, socket.peer)).unwrap();
        assert_eq!(entry.state, TcpState::CloseWait);
        let (queue, accepted) = match socket.kind {
            LeakKind::ForgotClose => (0, true),
            LeakKind::NeverLooked => (1, true),
            LeakKind::UnreadData => (UNREAD_BYTES + 1, true),
            LeakKind::NeverAccepted => (1, false),
        };
        assert_eq!(
            (entry.rx_queue, entry.inode != 0, socket.fd.is_some()),
            (queue, accepted, accepted),
            "{socket:?}"
        );
        assert!(socket.fin_after_ns <= socket.fin_before_ns && socket.fin_before_ns < monotonic_ns());
    }
    Ok(())
}

fn a_crowd_is_complete() -> io::Result<()> {
    let ns = NetNs::new()?;
    let helpers = crowd(&ns, 500, 900)?;
    let entries = sock::table(&ns)?;
    assert_eq!(entries.iter().filter(|entry| entry.state == TcpState::Established).count(), 1_000);
    drop(helpers);
    Ok(())
}
