//! A namespace with a TUN device and a peer on it: what most tests begin with.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
};

use crate::{Conn, ConnOptions, ListenOptions, NetNs, Peer, Tun, TunConfig, peer::PATIENCE, sock};

/// Where kernel servers listen.
pub const SERVER: SocketAddr = end([198, 18, 0, 1], 7001);
/// The peer's end.
pub const PEER: SocketAddr = end([198, 18, 7, 1], 4000);

const fn end([a, b, c, d]: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port)
}

/// A fresh namespace with a peer behind `tun0`.
#[derive(Debug)]
pub struct World {
    /// The namespace.
    pub ns: NetNs,
    /// The peer.
    pub peer: Peer,
}

impl World {
    /// Makes one.
    ///
    /// # Errors
    /// When the namespace or the device cannot be made.
    pub fn new() -> io::Result<Self> {
        Self::with(&TunConfig::default())
    }

    /// Makes one whose device has these addresses.
    ///
    /// # Errors
    /// As [`World::new`].
    pub fn with(config: &TunConfig) -> io::Result<Self> {
        let ns = NetNs::new()?;
        let peer = Peer::new(Tun::open(&ns, "tun0", config)?)?;
        Ok(Self { ns, peer })
    }

    /// A kernel server at [`SERVER`].
    ///
    /// # Errors
    /// As [`sock::listen`].
    pub fn listen(&self, options: &ListenOptions) -> io::Result<TcpListener> {
        self.ns.run(|| sock::listen(SERVER, options))
    }

    /// The peer, about to connect from [`PEER`] to [`SERVER`].
    #[must_use]
    pub fn client(&self, options: ConnOptions) -> Conn {
        self.peer.connect_from(PEER, SERVER, options)
    }

    /// A connection of which the peer is the client and the kernel the server.
    ///
    /// # Errors
    /// When the handshake fails.
    pub fn served(&self) -> io::Result<(Conn, TcpStream)> {
        let listener = self.listen(&ListenOptions::default())?;
        let mut client = self.client(ConnOptions::default());
        client.handshake()?;
        Ok((client, listener.accept()?.0))
    }

    /// A connection of which the kernel is the client and the peer, at [`PEER`], the server.
    ///
    /// # Errors
    /// When the handshake fails.
    pub fn connected(&self) -> io::Result<(Conn, TcpStream)> {
        let listener = self.peer.listen(PEER);
        let client = self.ns.clone().spawn("connect", || TcpStream::connect(PEER))?;
        let conn = listener.accept(ConnOptions::default(), PATIENCE)?;
        let client = client.join().map_err(|_panic| io::Error::other("the connecting thread panicked"))?;
        Ok((conn, client?))
    }
}
