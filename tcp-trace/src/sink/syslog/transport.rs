//! How messages travel.

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket},
    os::unix::net::UnixDatagram,
    path::Path,
    time::Duration,
};

use rustix::net::{RecvFlags, recv};

use super::{Address, Frames};
use crate::shown::shown;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most that a datagram over IPv4 can hold.
const DATAGRAM: usize = 65_507;

/// A way to a receiver; it is made when there is something to send.
#[derive(Debug)]
pub(super) struct Transport {
    address: Address,
    open: Option<Open>,
}

#[derive(Debug)]
enum Open {
    Unix(UnixDatagram),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Transport {
    pub(super) fn new(address: &Address) -> Self {
        Self { address: address.clone(), open: None }
    }

    /// Appends a message as it travels: over a connection with its length before it.
    pub(super) fn frame(&self, out: &mut Vec<u8>, message: &[u8]) {
        if let Address::Tcp(_) = self.address {
            out.extend_from_slice(message.len().to_string().as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(message);
    }

    /// Sends messages. After a failure the way is made anew; with it comes how many were sent.
    pub(super) fn send(&mut self, frames: &Frames) -> Result<(), (usize, String)> {
        // Without a look, the first messages after the receiver has gone would vanish in the kernel.
        self.open = self.open.take().filter(|open| !matches!(open, Open::Tcp(stream) if is_over(stream)));
        let failed = |(sent, error): (usize, io::Error)| (sent, said(&self.address, &error));
        let mut open = match self.open.take() {
            Some(open) => open,
            None => Open::new(&self.address).map_err(|error| failed((0, error)))?,
        };
        open.send(frames).map_err(failed)?;
        self.open = Some(open);
        Ok(())
    }
}

impl Open {
    fn new(address: &Address) -> io::Result<Self> {
        match address {
            Address::Unix(path) => unix(path).map(Self::Unix),
            Address::Udp(end) => {
                let to = resolve(end)?.next().ok_or(io::ErrorKind::NotFound)?;
                let any: SocketAddr = if to.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
                let socket = UdpSocket::bind(any)?;
                socket.connect(to)?;
                socket.set_write_timeout(Some(PATIENCE))?;
                Ok(Self::Udp(socket))
            }
            Address::Tcp(end) => tcp(end).map(Self::Tcp),
        }
    }

    fn send(&mut self, frames: &Frames) -> Result<(), (usize, io::Error)> {
        match self {
            Self::Unix(socket) => datagrams(frames, |message| socket.send(message)),
            Self::Udp(socket) => datagrams(frames, |message| socket.send(message)),
            Self::Tcp(stream) => {
                let mut written = 0;
                while let Some(left) = frames.bytes.get(written..).filter(|left| !left.is_empty()) {
                    match stream.write(left) {
                        Ok(count) if count > 0 => written += count,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        // The next connection begins with the message that this one has broken off.
                        Ok(_) => return Err((frames.within(written), io::ErrorKind::WriteZero.into())),
                        Err(error) => return Err((frames.within(written), error)),
                    }
                }
                Ok(())
            }
        }
    }
}

fn datagrams(frames: &Frames, send: impl Fn(&[u8]) -> io::Result<usize>) -> Result<(), (usize, io::Error)> {
    for (sent, message) in frames.iter().enumerate() {
        while let Err(error) = send(message.get(..DATAGRAM).unwrap_or(message)) {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err((sent, error));
            }
        }
    }
    Ok(())
}

impl Frames {
    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(start..*end).unwrap_or_default())
    }

    /// How many of them are within the first bytes.
    fn within(&self, bytes: usize) -> usize {
        self.ends.partition_point(|end| *end <= bytes)
    }
}

fn unix(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn resolve(end: &str) -> io::Result<impl Iterator<Item = SocketAddr>> {
    end.to_socket_addrs()
}

/// The first address that answers.
fn tcp(end: &str) -> io::Result<TcpStream> {
    let mut error = io::Error::from(io::ErrorKind::NotFound);
    for to in resolve(end)? {
        match TcpStream::connect_timeout(&to, PATIENCE) {
            Ok(stream) => {
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(failed) => error = failed,
        }
    }
    Err(error)
}

/// Whether the receiver has closed or reset a connection.
fn is_over(stream: &TcpStream) -> bool {
    let mut byte = [0; 1];
    match recv(stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((count, _)) => count == 0,
        Err(error) => error != rustix::io::Errno::AGAIN && error != rustix::io::Errno::INTR,
    }
}

fn said(address: &Address, error: &io::Error) -> String {
    let (way, hint) = match address {
        Address::Unix(path) => (format!("unix:{}", shown(path)), "is a syslog daemon running?"),
        Address::Udp(end) => (format!("udp:{end}"), "is the name right?"),
        Address::Tcp(end) => (format!("tcp:{end}"), "does it listen there?"),
    };
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("syslog at {way} has taken nothing for {} s", PATIENCE.as_secs())
        }
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            format!("syslog at {way}: {error}; {hint}")
        }
        _ => format!("syslog at {way}: {error}"),
    }
}
