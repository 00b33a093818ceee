//! Sockets that change all the time.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tcp_trace_testkit::{
    ListenOptions, NetNs, sock,
    truth::{Truth, TruthPlan},
};

use crate::child::Running;

/// Numbers that look random and are the same each time (xorshift64*).
#[derive(Debug)]
pub(super) struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit.max(1)
    }
}

/// A load in a namespace of its own.
#[derive(Debug)]
pub(super) struct Load {
    ns: NetNs,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<()>>,
    /// A namespace that no process lives in is not found.
    _inhabitant: Running,
}

impl Load {
    /// Sockets of this process, in every state, with data in their queues.
    pub(super) fn of_one_process() -> Result<Self> {
        Self::start(|ns, stop| {
            let ns = ns.clone();
            ns.run(|| Pool::new()?.keep_on(stop))
        })
    }

    /// Sockets that processes hand to each other.
    pub(super) fn of_many_processes() -> Result<Self> {
        Self::start(|ns, stop| {
            while !stop.load(Ordering::Relaxed) {
                // The kernel puts a ring of io_uring away after its process, and the listener in it with it.
                if let Err(error) = Truth::of(ns, &TruthPlan { connections: 400 }) {
                    crate::check::say(&format!("{error}; another round"));
                    thread::sleep(Duration::from_millis(500));
                }
            }
            Ok(())
        })
    }

    fn start(work: impl FnOnce(&NetNs, &AtomicBool) -> io::Result<()> + Send + 'static) -> Result<Self> {
        let ns = NetNs::new()?;
        // Enough of TIME_WAIT to be seen, not so many that all else is lost among them.
        ns.sysctl("net.ipv4.tcp_max_tw_buckets", 100)?;
        let inhabitant = Running::start_in(&ns, Command::new("sleep").arg("1000000"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("load".into()).spawn({
            let (ns, stop) = (ns.clone(), Arc::clone(&stop));
            move || work(&ns, &stop)
        })?;
        Ok(Self { ns, stop, thread, _inhabitant: inhabitant })
    }

    pub(super) fn ns(&self) -> &NetNs {
        &self.ns
    }

    pub(super) fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_panic| anyhow::anyhow!("the load panicked"))?.context("the load")
    }
}

/// Sockets, and what happens to them.
struct Pool {
    random: Random,
    listeners: Vec<TcpListener>,
    open: Vec<TcpStream>,
    /// Listeners whose queues are full: who connects there stays in SYN_SENT, or half-open.
    full: TcpListener,
    waiting: Vec<std::os::fd::OwnedFd>,
}

/// At most so many sockets at a time.
const MOST: usize = 80;

impl Pool {
    fn new() -> io::Result<Self> {
        let at = |address| sock::listen(SocketAddr::new(address, 0), &ListenOptions::default());
        let listeners = vec![
            at(IpAddr::V4(Ipv4Addr::LOCALHOST))?,
            at(IpAddr::V6(Ipv6Addr::LOCALHOST))?,
            at(IpAddr::V6(Ipv6Addr::UNSPECIFIED))?,
        ];
        for listener in &listeners {
            listener.set_nonblocking(true)?;
        }
        let full = sock::listen(
            SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            &ListenOptions { backlog: 1, ..ListenOptions::default() },
        )?;
        Ok(Self { random: Random::default(), listeners, open: Vec::new(), full, waiting: Vec::new() })
    }

    fn keep_on(&mut self, stop: &AtomicBool) -> io::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            self.step()?;
            let pause = self.random.below(3_000);
            thread::sleep(Duration::from_micros(pause));
        }
        Ok(())
    }

    fn step(&mut self) -> io::Result<()> {
        match self.random.below(10) {
            0..=2 if self.open.len() < MOST => self.connect(),
            3 => self.wait_in_vain(),
            4..=6 => self.with_one(|stream, random| {
                let bytes = usize::try_from(random.below(5_000)).unwrap_or(0);
                // Whether it can be written is not the question.
                let _ = stream.write(&vec![b'x'; bytes]);
            }),
            7 => self.with_one(|stream, random| {
                let mut bytes = vec![0; usize::try_from(random.below(8_000)).unwrap_or(0)];
                let _ = stream.read(&mut bytes);
            }),
            8 => self.with_one(|stream, _| {
                let _ = stream.shutdown(Shutdown::Write);
            }),
            _ => self.close(),
        }
    }

    fn connect(&mut self) -> io::Result<()> {
        let which = self.random.below(4);
        let Some(listener) = self.listeners.get(usize::try_from(which.min(2)).unwrap_or(0)) else {
            return Ok(());
        };
        let ip = if which == 1 || which == 2 {
            IpAddr::V6(Ipv6Addr::LOCALHOST)
        } else {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        };
        let client = sock::connect(None, SocketAddr::new(ip, listener.local_addr()?.port()))?;
        client.set_nonblocking(true)?;
        self.open.push(client);
        // Now and then some wait for somebody to accept them; not many, because a full queue would stop us.
        let most = match self.random.below(8) {
            0 => 0,
            1 => MOST,
            _ => 1,
        };
        for _ in 0..most {
            let Ok((server, _)) = listener.accept() else { break };
            server.set_nonblocking(true)?;
            self.open.push(server);
        }
        Ok(())
    }

    /// A connection to a listener whose queue is full.
    fn wait_in_vain(&mut self) -> io::Result<()> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
        if self.waiting.len() > 6 {
            self.waiting.remove(0);
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        match connect(&socket, &self.full.local_addr()?).map_err(io::Error::from) {
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                return Err(error);
            }
            _ => self.waiting.push(socket),
        }
        Ok(())
    }

    fn with_one(&mut self, act: impl FnOnce(&mut TcpStream, &mut Random)) -> io::Result<()> {
        let which = usize::try_from(self.random.below(self.open.len() as u64)).unwrap_or(0);
        if let Some(stream) = self.open.get_mut(which) {
            act(stream, &mut self.random);
        }
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        let which = usize::try_from(self.random.below(self.open.len() as u64)).unwrap_or(0);
        let stream = self.open.swap_remove(which);
        if self.random.below(6) == 0 {
            sock::abort_on_close(&stream)?;
        }
        Ok(())
    }
}
