//! Aborting a socket from outside, as `ss --kill` does.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink, socket_with};

/// `SOCK_DESTROY` of `linux/sock_diag.h`.
const SOCK_DESTROY: u16 = 21;
/// `NLM_F_REQUEST | NLM_F_ACK` of `linux/netlink.h`.
const REQUEST_AND_ACK: u16 = 0x01 | 0x04;
/// `NLMSG_ERROR` of `linux/netlink.h`; error 0 is the acknowledgement.
const NLMSG_ERROR: u16 = 2;
/// `struct nlmsghdr`.
const HEADER: usize = 16;

/// Aborts the IPv4 TCP socket with these ends in the calling thread's namespace: it is reset, and its owner gets
/// `ECONNABORTED`. The state changes in the *caller's* context, with the socket locked as by its owner.
///
/// # Errors
/// `Unsupported` for a kernel without `CONFIG_INET_DIAG_DESTROY`, and for IPv6; `NotFound`; `PermissionDenied`.
pub fn destroy(local: SocketAddr, peer: SocketAddr) -> io::Result<()> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (local.ip(), peer.ip()) else {
        return Err(io::Error::new(ErrorKind::Unsupported, "only IPv4 sockets can be destroyed here"));
    };
    // `struct inet_diag_req_v2`: family, protocol, two bytes that do not count, states, then `inet_diag_sockid`.
    let mut request = vec![libc::AF_INET as u8, libc::IPPROTO_TCP as u8, 0, 0];
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(local.port().to_be_bytes());
    request.extend(peer.port().to_be_bytes());
    for address in [from, to] {
        request.extend(address.octets());
        request.extend([0; 12]);
    }
    // Any interface, any cookie.
    request.extend(0u32.to_ne_bytes());
    request.extend([u8::MAX; 8]);
    let length = u32::try_from(HEADER + request.len()).map_err(io::Error::other)?;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(SOCK_DESTROY.to_ne_bytes());
    message.extend(REQUEST_AND_ACK.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(request);
    let flags = SocketFlags::CLOEXEC;
    let netlink = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::SOCK_DIAG))?;
    rustix::io::write(&netlink, &message)?;
    let mut answer = [0; 512];
    let length = rustix::io::read(&netlink, answer.as_mut_slice())?;
    acknowledged(&answer[..length])
}

fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let error =
        answer.get(HEADER..HEADER + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, error) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(error)) => Err(io::Error::from_raw_os_error(-error)),
        _ => Err(io::Error::new(ErrorKind::InvalidData, format!("SOCK_DESTROY was answered by {answer:?}"))),
    }
}
