//! The few interface ioctls needed: bring up, give an address. They act in the calling thread's
//! network namespace.

use std::ffi::{c_char, c_int, c_short};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

/// How long a kernel worker may take to make a new IPv6 address usable.
const USABLE: Duration = Duration::from_secs(5);

/// An `ifreq` that names the interface; its union holds zero flags.
///
/// # Errors
/// `InvalidInput` when the name has 16 bytes or more.
pub(crate) fn request(name: &str) -> io::Result<libc::ifreq> {
    let mut ifr_name: [c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
    if name.len() >= ifr_name.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("interface name too long: {name:?}"),
        ));
    }
    for (to, from) in ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as c_char;
    }
    // The address variant zeroes the whole `sockaddr` part that the ioctls here read or write.
    let zero = libc::sockaddr { sa_family: 0, sa_data: [0; 14] };
    Ok(libc::ifreq { ifr_name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_addr: zero } })
}

/// One `ioctl` whose argument is a pointer to `T`.
///
/// # Safety
/// The kernel must read and write no more than a `T` for this `op`.
pub(crate) unsafe fn ioctl<T>(fd: impl AsFd, op: libc::c_ulong, argument: &mut T) -> io::Result<()> {
    // SAFETY: the descriptor is open, the pointer is valid for a `T`, and the caller vouches that `op` takes one.
    let done: c_int =
        unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), op as libc::Ioctl, std::ptr::from_mut(argument)) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn datagram_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    Ok(socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

/// `ip link set NAME up`.
pub(crate) fn up(name: &str) -> io::Result<()> {
    let mut ifr = request(name)?;
    ifr.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq.
    unsafe { ioctl(datagram_socket(AddressFamily::INET)?, libc::SIOCSIFFLAGS, &mut ifr) }
}

/// `ip addr add ADDR/PREFIX dev NAME`; the route to the prefix comes when the interface is up.
pub(crate) fn set_ipv4(name: &str, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    let socket = datagram_socket(AddressFamily::INET)?;
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    for (op, value) in [(libc::SIOCSIFADDR, address), (libc::SIOCSIFNETMASK, Ipv4Addr::from_bits(mask))] {
        let mut ifr = request(name)?;
        let mut sa_data: [c_char; 14] = [0; 14];
        // sockaddr_in after the family: port (2 bytes), then the address.
        for (to, from) in sa_data[2..6].iter_mut().zip(value.octets()) {
            *to = from as c_char;
        }
        ifr.ifr_ifru.ifru_addr = libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data };
        // SAFETY: both operations read an ifreq.
        unsafe { ioctl(&socket, op, &mut ifr) }?;
    }
    Ok(())
}

/// `ip -6 addr add ADDR/PREFIX dev NAME`; returns when the address can be used.
pub(crate) fn set_ipv6(name: &str, address: Ipv6Addr, prefix: u8) -> io::Result<()> {
    let socket = datagram_socket(AddressFamily::INET6)?;
    let index = netdevice::name_to_index(&socket, name)?;
    let mut ifr = libc::in6_ifreq {
        ifr6_addr: libc::in6_addr { s6_addr: address.octets() },
        ifr6_prefixlen: u32::from(prefix),
        ifr6_ifindex: c_int::try_from(index).map_err(io::Error::other)?,
    };
    // SAFETY: on an AF_INET6 socket SIOCSIFADDR reads an in6_ifreq.
    unsafe { ioctl(&socket, libc::SIOCSIFADDR, &mut ifr) }?;
    // Even without duplicate address detection a kernel worker (`addrconf_dad_work`, net/ipv6/addrconf.c) has to
    // take the mark away that lets nobody bind to it.
    let deadline = Instant::now() + USABLE;
    while is_tentative(address)? {
        if Instant::now() > deadline {
            let text = format!("{address} on {name}: still tentative after {USABLE:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// A line of `if_inet6`: address, index, prefix length, scope and flags in hex, name.
fn is_tentative(address: Ipv6Addr) -> io::Result<bool> {
    let digits = format!("{:032x}", address.to_bits());
    let text = std::fs::read_to_string("/proc/thread-self/net/if_inet6")?;
    let line = text.lines().find(|line| line.starts_with(&digits));
    let flags = line.and_then(|line| u32::from_str_radix(line.split_ascii_whitespace().nth(4)?, 16).ok());
    Ok(flags.is_none_or(|flags| flags & libc::IFA_F_TENTATIVE != 0))
}
