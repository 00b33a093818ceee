//! A socket on its way through a UNIX socket (`SCM_RIGHTS`), with the mode that its first owner has read.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Stands for a mode that was not read yet.
const NO_MODE: u8 = 0;

/// Sends it and closes it here; only then the receiver goes on.
pub(super) fn hand_on(mut to: &UnixStream, stream: TcpStream, mode: Option<u8>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [stream.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no space for one descriptor"));
    }
    let mode = [mode.unwrap_or(NO_MODE)];
    sendmsg(to, &[IoSlice::new(&mode)], &mut control, SendFlags::empty())?;
    drop(stream);
    to.write_all(&[NO_MODE])
}

/// The next socket; `None` when the sender has closed its end.
pub(super) fn receive(mut from: &UnixStream) -> io::Result<Option<(TcpStream, Option<u8>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut mode = [NO_MODE];
    let got = recvmsg(from, &mut [IoSliceMut::new(&mut mode)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if got.bytes == 0 {
        return Ok(None);
    }
    let mut descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let socket = descriptors.next().and_then(|mut some| some.next());
    let socket = socket.ok_or_else(|| io::Error::other("a message without its socket"))?;
    from.read_exact(&mut [0])?;
    Ok(Some((socket.into(), Some(mode[0]).filter(|mode| *mode != NO_MODE))))
}
