//! Published ports: sockets that listen on this machine's loopback, there before anything of the container is. Takes no connection.

use super::plan::Descriptors;
use super::spec::{Port, Spec};
use crate::error::{Error, Result};
use crate::gate::{self, Ours};
use crate::wire::{protocol, role};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard};

const EACCES: i32 = 13;
const EAFNOSUPPORT: i32 = 97;
const EADDRINUSE: i32 = 98;
const EADDRNOTAVAIL: i32 = 99;
/// A number that is free for IPv4 is now and then taken for IPv6.
const TRIES: usize = 64;

/// The sockets until they have been handed over, and their numbers for good.
#[derive(Debug, Default)]
pub struct Published {
    /// With what the keeper is told of each.
    sockets: Mutex<Vec<(Ours, i32)>>,
    /// In the order of the specification.
    pub numbers: Vec<u16>,
}

impl Published {
    pub fn open(spec: &Spec) -> Result<Published> {
        if spec.ports.is_empty() {
            return Ok(Published::default());
        }
        // A copy of this process that got one would hold the port for ever.
        let _gate = gate::spawning();
        let mut published = Published::default();
        for port in &spec.ports {
            let (number, sockets) = listen(port)?;
            let argument = i32::from(port.inside) | i32::from(port.protocol) << 16;
            published.numbers.push(number);
            published.held().extend(sockets.into_iter().map(|socket| (Ours::new(socket), argument)));
        }
        Ok(published)
    }

    fn held(&self) -> MutexGuard<'_, Vec<(Ours, i32)>> {
        self.sockets.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn add_to(&self, descriptors: &mut Descriptors) {
        self.held().iter().for_each(|(socket, argument)| descriptors.add(role::PORT, socket.as_raw_fd(), *argument));
    }

    /// The keeper has them.
    pub fn hand_over(&self) {
        self.held().clear();
    }
}

/// One number for both families, where this machine has both.
fn listen(port: &Port) -> Result<(u16, Vec<OwnedFd>)> {
    let mut tries = 0;
    loop {
        let first = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port.outside);
        let (number, socket) = bind(first, port.protocol).map_err(|error| refused(port, first, &error))?;
        let second = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), number);
        let other = bind(second, port.protocol);
        tries += 1;
        match other.map_err(|error| (error.raw_os_error(), error)) {
            Ok((_, other)) => return Ok((number, vec![socket, other])),
            Err((Some(EAFNOSUPPORT | EADDRNOTAVAIL), _)) => return Ok((number, vec![socket])),
            Err((Some(EADDRINUSE), _)) if port.outside == 0 && tries < TRIES => {}
            Err((_, error)) => return Err(refused(port, second, &error)),
        }
    }
}

fn bind(address: SocketAddr, protocol: u8) -> io::Result<(u16, OwnedFd)> {
    if protocol == protocol::UDP {
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        return Ok((socket.local_addr()?.port(), socket.into()));
    }
    let socket = TcpListener::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok((socket.local_addr()?.port(), socket.into()))
}

fn refused(port: &Port, address: SocketAddr, error: &io::Error) -> Error {
    let errno = error.raw_os_error().unwrap_or(5);
    let note = match errno {
        EADDRINUSE => Some("somebody listens there; 0 takes any number that is free"),
        EACCES => Some("the lowest numbers are root's (sysctl net.ipv4.ip_unprivileged_port_start)"),
        _ => None,
    };
    let step = format!("{}: listen on", port.name);
    Error::Setup { step, path: Some(address.to_string()), errno, note: note.map(str::to_string) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn port(outside: u16, protocol: u8) -> Port {
        Port { name: "ports[80]".into(), inside: 80, protocol, outside }
    }

    #[test]
    fn any_number_that_is_free_is_the_same_for_both_families() {
        for protocol in [protocol::TCP, protocol::UDP] {
            let (number, sockets) = listen(&port(0, protocol)).unwrap();
            assert!(number > 0);
            for (socket, localhost) in sockets.iter().zip([IpAddr::V4(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()])
            {
                let taken = bind(SocketAddr::new(localhost, number), protocol).unwrap_err();
                assert_eq!((taken.raw_os_error(), socket.as_raw_fd() > 2), (Some(EADDRINUSE), true));
            }
        }
    }

    #[test]
    fn one_that_is_taken_is_told_with_its_name() {
        for place in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(theirs) = TcpListener::bind(place) else { continue };
            let number = theirs.local_addr().unwrap().port();
            let Error::Setup { step, path, errno, .. } = listen(&port(number, protocol::TCP)).unwrap_err() else {
                panic!("not a set-up that failed");
            };
            let address = theirs.local_addr().unwrap().to_string();
            assert_eq!((step.as_str(), path, errno), ("ports[80]: listen on", Some(address), EADDRINUSE));
        }
    }
}
