//! Sockets: pairs, messages with descriptors and credentials, the loopback interface. No protocol.

use super::constants::*;
use super::fs::{Fd, ioctl};
use super::{Result, call, nr};

/// SCM_MAX_FD of the kernel.
pub const MAX_FDS: usize = 253;

#[repr(C)]
struct IoVec {
    base: usize,
    length: usize,
}

#[repr(C)]
struct MsgHdr {
    name: usize,
    name_length: u32,
    iov: *const IoVec,
    iov_length: usize,
    control: usize,
    control_length: usize,
    flags: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CmsgHdr {
    length: usize,
    level: i32,
    kind: i32,
}

/// Two control messages: the descriptors and the credentials (12 bytes, padded to 16).
const CONTROL_ROOM: usize = (2 * size_of::<CmsgHdr>() + 16 + MAX_FDS * 4).next_multiple_of(8);

/// Room for the credentials and MAX_FDS descriptors, aligned as control messages are.
#[repr(C, align(8))]
struct Control {
    bytes: [u8; CONTROL_ROOM],
}

/// Who sent a message, as the kernel says (SCM_CREDENTIALS).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Credentials {
    pub pid: i32,
    pub uid: u32,
    pub gid: u32,
}

/// What recvmsg brought besides the bytes.
pub struct Received {
    pub length: usize,
    pub fds: [i32; MAX_FDS],
    pub fd_count: usize,
    pub sender: Option<Credentials>,
    pub truncated: bool,
}

pub fn socketpair() -> Result<(Fd, Fd)> {
    pair(SOCK_SEQPACKET)
}

/// A pair for a stream of bytes, without boundaries.
pub fn stream_pair() -> Result<(Fd, Fd)> {
    pair(SOCK_STREAM)
}

fn pair(kind: usize) -> Result<(Fd, Fd)> {
    let mut ends = [0i32; 2];
    let arguments = [AF_UNIX, kind | SOCK_CLOEXEC, 0, ends.as_mut_ptr() as usize];
    // SAFETY: the array lives across the call.
    unsafe { call(nr::SOCKETPAIR, arguments) }?;
    Ok((Fd::own(ends[0]), Fd::own(ends[1])))
}

/// Asks the kernel to attach the sender's pid, uid and gid to each message received on `fd`.
pub fn pass_credentials(fd: i32) -> Result<()> {
    let on = 1i32;
    // SAFETY: the option value lives across the call.
    unsafe { call(nr::SETSOCKOPT, [fd as usize, SOL_SOCKET, SO_PASSCRED, &raw const on as usize, 4]) }.map(drop)
}

/// Who is at the other end of an accepted connection, as the kernel saw it when it was made (SO_PEERCRED): its effective ids.
pub fn peer(fd: i32) -> Result<Credentials> {
    let mut seen = Credentials::default();
    let mut length = size_of::<Credentials>() as u32;
    let arguments = [fd as usize, SOL_SOCKET, SO_PEERCRED, &raw mut seen as usize, &raw mut length as usize];
    // SAFETY: both results live across the call.
    unsafe { call(nr::GETSOCKOPT, arguments) }?;
    // SAFETY: written by the kernel behind our back.
    Ok(unsafe { core::ptr::read_volatile(&raw const seen) })
}

/// One message, whole, with descriptors. Never raises SIGPIPE.
pub fn send(fd: i32, data: &[u8], fds: &[i32], flags: usize) -> Result<usize> {
    let iov = IoVec { base: data.as_ptr() as usize, length: data.len() };
    let mut control = Control { bytes: [0; CONTROL_ROOM] };
    let length = size_of::<CmsgHdr>() + fds.len() * 4;
    control.bytes[..8].copy_from_slice(&length.to_ne_bytes());
    control.bytes[8..12].copy_from_slice(&(SOL_SOCKET as i32).to_ne_bytes());
    control.bytes[12..16].copy_from_slice(&SCM_RIGHTS.to_ne_bytes());
    for (i, fd) in fds.iter().enumerate() {
        control.bytes[16 + i * 4..20 + i * 4].copy_from_slice(&fd.to_ne_bytes());
    }
    let used = if fds.is_empty() { 0 } else { length.next_multiple_of(8) };
    let header = MsgHdr {
        name: 0,
        name_length: 0,
        iov: &iov,
        iov_length: 1,
        control: if used == 0 { 0 } else { control.bytes.as_ptr() as usize },
        control_length: used,
        flags: 0,
    };
    // SAFETY: header, vector, data and control live across the call.
    unsafe { call(nr::SENDMSG, [fd as usize, &raw const header as usize, MSG_NOSIGNAL | flags]) }
}

/// One message with what came along; descriptors are close-on-exec.
pub fn receive(fd: i32, buffer: &mut [u8], flags: usize) -> Result<Received> {
    let iov = IoVec { base: buffer.as_mut_ptr() as usize, length: buffer.len() };
    let mut control = Control { bytes: [0; CONTROL_ROOM] };
    let mut header = MsgHdr {
        name: 0,
        name_length: 0,
        iov: &iov,
        iov_length: 1,
        control: control.bytes.as_mut_ptr() as usize,
        control_length: CONTROL_ROOM,
        flags: 0,
    };
    // SAFETY: header, vector, buffer and control live across the call.
    let length = unsafe { call(nr::RECVMSG, [fd as usize, &raw mut header as usize, flags | MSG_CMSG_CLOEXEC]) }?;
    let mut received = Received { length, fds: [-1; MAX_FDS], fd_count: 0, sender: None, truncated: false };
    received.truncated = header.flags & (MSG_CTRUNC | MSG_TRUNC) != 0;
    read_control(&control.bytes[..header.control_length.min(CONTROL_ROOM)], &mut received);
    Ok(received)
}

fn read_control(control: &[u8], received: &mut Received) {
    let word = |at: usize| i32::from_ne_bytes([control[at], control[at + 1], control[at + 2], control[at + 3]]);
    let mut at = 0;
    while at + 16 <= control.len() {
        let length = word(at) as usize; // the upper half is zero: no message comes near 4 GiB
        if length < 16 || at + length > control.len() {
            return;
        }
        match (word(at + 8), word(at + 12)) {
            (1, SCM_RIGHTS) => {
                for i in 0..(length - 16) / 4 {
                    received.fds[received.fd_count] = word(at + 16 + i * 4);
                    received.fd_count += 1;
                }
            }
            (1, SCM_CREDENTIALS) if length >= 28 => {
                let (pid, uid, gid) = (word(at + 16), word(at + 20) as u32, word(at + 24) as u32);
                received.sender = Some(Credentials { pid, uid, gid });
            }
            _ => {}
        }
        at += length.next_multiple_of(8);
    }
}

/// Brings `lo` of this network namespace up; the kernel then adds 127.0.0.1 and ::1 itself.
pub fn raise_loopback() -> Result<()> {
    const SIOCSIFFLAGS: usize = 0x8914;
    const IFF_UP: u16 = 1;
    const IFF_RUNNING: u16 = 0x40;
    // SAFETY: no pointers.
    let socket = unsafe { call(nr::SOCKET, [AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0]) }.map(|fd| Fd::own(fd as i32))?;
    let mut request = [0u8; 40]; // struct ifreq: 16 bytes of name, then the flags
    request[..2].copy_from_slice(b"lo");
    request[16..18].copy_from_slice(&(IFF_UP | IFF_RUNNING).to_ne_bytes());
    ioctl(socket.raw(), SIOCSIFFLAGS, request.as_mut_ptr() as usize).map(drop)
}
