//! Real TCP on the real kernel, inside throw-away network namespaces.
//!
//! Everything a live test or a benchmark needs to make sockets go through exact state sequences at
//! exact moments; nothing here knows of tcp-trace. Nothing of the host is changed: every interface,
//! address, sysctl and packet lives in a [`NetNs`] that dies with its last descriptor.
//!
//! | module | gives |
//! |---|---|
//! | [`netns`] | a fresh namespace; run closures, threads, processes and sysctls in it |
//! | [`tun`] | a TUN device in it, the wire to the hand-made peer |
//! | [`packet`] | TCP segments to and from bytes |
//! | [`peer`] | the hand-made TCP peer: exact control over each segment and its time |
//! | [`sock`] | the kernel's side: listeners with options, `TCP_INFO`, socket tables, counters |
//! | [`world`] | a namespace with a device and a peer, ready to use |
//! | [`workload`] | bounded connect/accept/close churn on loopback |
//! | [`truth`] | processes that hand their sockets to each other, and the truth about each socket |
//! | [`leak`] | CLOSE_WAIT sockets of every kind, and crowds of idle ones |
//! | [`helper`] | separate processes with their own pid and comm, driven over pipes |
//! | [`latency`] | a histogram of durations |
//! | [`scale`] | smaller loads for slower machines |
//! | [`container`] | a helper as the process of a real container |
//! | [`clock`] | `CLOCK_MONOTONIC`, the tracer's clock |
//!
//! # A client that lets the server wait 300 ms for its final ACK
//!
//! ```no_run
//! use std::time::Duration;
//! use tcp_trace_testkit::{ConnOptions, ListenOptions, NetNs, Peer, Tun, sock};
//!
//! # fn main() -> std::io::Result<()> {
//! let ns = NetNs::new()?;
//! let peer = Peer::new(Tun::open(&ns, "tun0", &Default::default())?)?;
//! let server = "198.18.0.1:7001".parse().unwrap();
//! let listener = ns.run(|| sock::listen(server, &ListenOptions::default()))?;
//!
//! let mut client = peer.connect_from("198.18.7.1:4000".parse().unwrap(), server, ConnOptions::default());
//! let handshake = client.handshake_with_delay(Duration::from_millis(300))?;
//! let (accepted, _) = listener.accept()?;
//! assert_eq!(sock::tcp_state(&accepted)?, sock::TcpState::Established);
//! println!("half open for {} ns", handshake.half_open_ns());
//! # Ok(())
//! # }
//! ```
//!
//! Errors are `io::Error`s that say what was awaited; a timeout is always `ErrorKind::TimedOut`.

pub mod clock;
pub mod container;
pub mod helper;
mod iface;
pub mod latency;
pub mod leak;
pub mod netns;
pub mod packet;
pub mod peer;
pub mod scale;
pub mod sock;
pub mod truth;
pub mod tun;
pub mod workload;
pub mod world;

pub use container::Container;
pub use helper::Helper;
pub use netns::{NetNs, require_root};
pub use packet::{Flags, Segment};
pub use peer::{Conn, ConnOptions, Peer};
pub use sock::ListenOptions;
pub use tun::{Tun, TunConfig};
pub use world::World;
