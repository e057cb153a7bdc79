//! Internet sockets: addresses, connections made and accepted, datagrams. No name is looked up, nothing waits.

use super::constants::*;
use super::fs::Fd;
use super::{Errno, Result, call, nr};

const IPPROTO_TCP: usize = 6;
const TCP_NODELAY: usize = 1;
const SO_ERROR: usize = 4;
const SO_LINGER: usize = 13;
const SHUT_WR: usize = 1;

/// struct sockaddr_in or sockaddr_in6. What the kernel leaves out is zero, so that two of them can be compared.
#[repr(C, align(4))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Address {
    bytes: [u8; 28],
}

impl Address {
    /// 127.0.0.1 or ::1 at a port; `family` is AF_INET or AF_INET6.
    pub fn loopback(family: usize, port: u16) -> Address {
        let mut bytes = [0; 28];
        bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        bytes[2..4].copy_from_slice(&port.to_be_bytes());
        if family == AF_INET {
            bytes[4..8].copy_from_slice(&[127, 0, 0, 1]);
        } else {
            bytes[23] = 1;
        }
        Address { bytes }
    }

    fn length(&self) -> usize {
        if u16::from_ne_bytes([self.bytes[0], self.bytes[1]]) as usize == AF_INET { 16 } else { 28 }
    }
}

/// Not blocking, close-on-exec, of this network namespace. `kind` is SOCK_STREAM or SOCK_DGRAM.
pub fn socket(family: usize, kind: usize) -> Result<Fd> {
    // SAFETY: no pointers.
    unsafe { call(nr::SOCKET, [family, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0]) }.map(|fd| Fd::own(fd as i32))
}

/// EINPROGRESS where the answer comes later.
pub fn connect(fd: i32, to: &Address) -> Result<()> {
    // SAFETY: the address lives across the call.
    unsafe { call(nr::CONNECT, [fd as usize, to.bytes.as_ptr() as usize, to.length()]) }.map(drop)
}

/// The next connection that waits, not blocking.
pub fn accept(listener: i32) -> Result<Fd> {
    // SAFETY: the peer's address is not asked for.
    unsafe { call(nr::ACCEPT4, [listener as usize, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK]) }.map(|fd| Fd::own(fd as i32))
}

/// The peer reads what was sent, and then the end.
pub fn end_writing(fd: i32) -> Result<()> {
    // SAFETY: no pointers.
    unsafe { call(nr::SHUTDOWN, [fd as usize, SHUT_WR]) }.map(drop)
}

/// What became of a connection that was under way, or broke one; the kernel forgets it.
pub fn take_error(fd: i32) -> Result<()> {
    let (mut error, mut length) = (0i32, 4u32);
    let arguments = [fd as usize, SOL_SOCKET, SO_ERROR, &raw mut error as usize, &raw mut length as usize];
    // SAFETY: value and length live across the call.
    unsafe { call(nr::GETSOCKOPT, arguments) }?;
    // SAFETY: written by the kernel behind our back.
    match unsafe { core::ptr::read_volatile(&raw const error) } {
        0 => Ok(()),
        error => Err(Errno(error)),
    }
}

/// Each piece goes out as it comes.
pub fn send_at_once(fd: i32) -> Result<()> {
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, &[1])
}

/// Closing it tells the peer that the connection broke (RST), not that it ended.
pub fn reset_on_close(fd: i32) -> Result<()> {
    set_option(fd, SOL_SOCKET, SO_LINGER, &[1, 0])
}

fn set_option(fd: i32, level: usize, option: usize, value: &[i32]) -> Result<()> {
    let arguments = [fd as usize, level, option, value.as_ptr() as usize, size_of_val(value)];
    // SAFETY: the value lives across the call.
    unsafe { call(nr::SETSOCKOPT, arguments) }.map(drop)
}

/// To whom the socket is connected. Never raises SIGPIPE.
pub fn send(fd: i32, data: &[u8]) -> Result<usize> {
    // SAFETY: the data is readable for its length; no address.
    unsafe { call(nr::SENDTO, [fd as usize, data.as_ptr() as usize, data.len(), MSG_NOSIGNAL, 0, 0]) }
}

pub fn send_to(fd: i32, data: &[u8], to: &Address) -> Result<usize> {
    let address = to.bytes.as_ptr() as usize;
    let arguments = [fd as usize, data.as_ptr() as usize, data.len(), MSG_NOSIGNAL, address, to.length()];
    // SAFETY: data and address are readable for their lengths.
    unsafe { call(nr::SENDTO, arguments) }
}

/// One datagram and who sent it.
pub fn receive_from(fd: i32, buffer: &mut [u8]) -> Result<(usize, Address)> {
    let mut from = Address::default();
    let mut length = size_of::<Address>() as u32;
    let address = &raw mut from as usize;
    let arguments = [fd as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, address, &raw mut length as usize];
    // SAFETY: buffer, address and length are ours across the call.
    let count = unsafe { call(nr::RECVFROM, arguments) }?;
    // SAFETY: written by the kernel behind our back.
    Ok((count, unsafe { core::ptr::read_volatile(&raw const from) }))
}
