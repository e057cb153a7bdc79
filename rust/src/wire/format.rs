//! Numbers and texts as bytes, read in place and written into what has room. Knows no message.

use core::ffi::CStr;

/// Reads what `Writer` wrote; None where the bytes end early.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(head)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub fn i32(&mut self) -> Option<i32> {
        self.u32().map(|value| value as i32)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        let body = self.take(length)?;
        self.take(1)?;
        Some(body)
    }

    /// Text in place as a C string: None also where it has a zero inside.
    pub fn text(&mut self) -> Option<&'a CStr> {
        let length = self.u32()? as usize;
        CStr::from_bytes_with_nul(self.take(length + 1)?).ok()
    }

    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Where a writer puts its bytes.
pub trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

/// A sink of fixed size; what does not fit is dropped and remembered.
pub struct Fixed<const N: usize> {
    bytes: [u8; N],
    used: usize,
    pub overflowed: bool,
}

impl<const N: usize> Default for Fixed<N> {
    fn default() -> Self {
        Fixed::new()
    }
}

impl<const N: usize> Fixed<N> {
    pub const fn new() -> Self {
        Fixed { bytes: [0; N], used: 0, overflowed: false }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    pub fn free(&mut self) -> &mut [u8] {
        &mut self.bytes[self.used..]
    }

    pub fn advance(&mut self, count: usize) {
        self.used = (self.used + count).min(N);
    }

    pub fn clear(&mut self) {
        self.used = 0;
        self.overflowed = false;
    }
}

impl<const N: usize> Sink for Fixed<N> {
    fn put(&mut self, bytes: &[u8]) {
        match self.bytes.get_mut(self.used..self.used + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.used += bytes.len();
            }
            None => self.overflowed = true,
        }
    }
}

#[cfg(not(keeper))]
impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// The writing half, on any sink.
pub trait Write: Sink {
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }
    fn put_i32(&mut self, value: i32) {
        self.put(&value.to_le_bytes());
    }
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_u32(bytes.len() as u32);
        self.put(bytes);
        self.put(&[0]);
    }
}

impl<S: Sink> Write for S {}

/// What a list of numbers is made of: written and read by the same width.
pub trait Number: Sized {
    fn write(self, out: &mut impl Write);
    fn read(from: &mut Reader<'_>) -> Option<Self>;
}

macro_rules! numbers {
    ($($kind:ident $put:ident),*) => {
        $(impl Number for $kind {
            fn write(self, out: &mut impl Write) {
                out.$put(self);
            }
            fn read(from: &mut Reader<'_>) -> Option<Self> {
                from.$kind()
            }
        })*
    };
}

numbers!(u8 put_u8, u16 put_u16, u32 put_u32, i32 put_i32, u64 put_u64);

/// A number in decimal with a closing zero, without allocation.
pub struct Decimal {
    digits: [u8; 21],
    start: usize,
}

impl Decimal {
    pub fn new(mut value: u64) -> Decimal {
        let mut digits = [0u8; 21];
        let mut start = 20;
        loop {
            start -= 1;
            digits[start] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                return Decimal { digits, start };
            }
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.digits[self.start..20]
    }

    pub fn text(&self) -> &CStr {
        CStr::from_bytes_with_nul(&self.digits[self.start..]).unwrap_or(c"")
    }
}
