//! A TUN device inside a namespace: the kernel's TCP on one side, our packets on the other.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::iface;
use crate::netns::{NetNs, about};

/// The largest packet read or written, in bytes; a TUN device's MTU is 1,500.
pub const MAX_PACKET: usize = 2048;

/// The kernel's addresses on a [`Tun`] device.
///
/// Every other address of the prefixes belongs to the hand-made peer: the route to them leads into the device.
#[derive(Clone, Copy, Debug)]
pub struct TunConfig {
    /// IPv4 address and prefix length. Default: 198.18.0.1/16 (a range reserved for benchmarks).
    pub v4: (Ipv4Addr, u8),
    /// IPv6 address and prefix length. Default: 2001:db8::1/64 (a range reserved for documentation).
    pub v6: Option<(Ipv6Addr, u8)>,
}

impl Default for TunConfig {
    fn default() -> Self {
        Self {
            v4: (Ipv4Addr::new(198, 18, 0, 1), 16),
            v6: Some((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 64)),
        }
    }
}

/// An open TUN device (`IFF_TUN | IFF_NO_PI`): one `read` or `write` is one IP packet.
#[derive(Debug)]
pub struct Tun {
    fd: OwnedFd,
    name: String,
}

impl Tun {
    /// Makes the device in `ns`, gives it its addresses (no duplicate address detection) and brings it up.
    ///
    /// # Errors
    /// `NotFound` without `/dev/net/tun`; `InvalidInput` for an unusable name; what the kernel says otherwise.
    pub fn open(ns: &NetNs, name: &str, config: &TunConfig) -> io::Result<Self> {
        let fd =
            ns.run(|| create(name, config)).map_err(|error| about(&error, &format!("TUN device {name}")))?;
        Ok(Self { fd, name: name.to_owned() })
    }

    /// The interface's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Hands one IP packet to the kernel. Its TCP has usually handled it when this returns.
    ///
    /// # Errors
    /// What the kernel says, e.g. `InvalidInput` for a packet that is not IP.
    pub fn write(&self, packet: &[u8]) -> io::Result<()> {
        let written = rustix::io::write(&self.fd, packet)?;
        if written == packet.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Takes the next IP packet the kernel sends (blocks until there is one); returns its length in bytes.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read(&self, buffer: &mut [u8; MAX_PACKET]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.fd, buffer.as_mut_slice())?)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Runs inside the namespace: the device belongs to the one `/dev/net/tun` was opened in.
fn create(name: &str, config: &TunConfig) -> io::Result<OwnedFd> {
    let fd = OwnedFd::from(File::options().read(true).write(true).open("/dev/net/tun")?);
    let mut ifr = iface::request(name)?;
    ifr.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as std::ffi::c_short;
    // SAFETY: TUNSETIFF reads and writes an ifreq.
    unsafe { iface::ioctl(&fd, libc::TUNSETIFF as libc::c_ulong, &mut ifr) }?;
    let (v4, prefix) = config.v4;
    iface::set_ipv4(name, v4, prefix)?;
    if config.v6.is_some() {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_dad"), "0")?;
    }
    iface::up(name)?;
    if let Some((v6, prefix)) = config.v6 {
        iface::set_ipv6(name, v6, prefix)?;
    }
    Ok(fd)
}
