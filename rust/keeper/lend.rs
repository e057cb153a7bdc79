//! In PID 1: a socket of the container's network namespace, lent to the host. It connects where it was made, whoever holds it; so what
//! listens inside can be asked without a program of the image. Connects none itself.

use crate::sys::constants::*;
use crate::sys::fs::Fd;
use crate::sys::{Errno, inet, net};

pub fn socket(family: u8, answer: i32) {
    let made = match family as usize {
        family @ (AF_INET | AF_INET6) => inet::socket(family, SOCK_STREAM),
        _ => Err(Errno::INVAL),
    };
    let errno = made.as_ref().err().map_or(0, |errno| errno.0);
    let fd = made.as_ref().map_or(-1, Fd::raw);
    let fds: &[i32] = if fd < 0 { &[] } else { &[fd] };
    let _ = net::send(answer, &errno.to_le_bytes(), fds, MSG_DONTWAIT);
}
