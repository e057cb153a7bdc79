//! One blob, read to its end over as many connections as that takes. The digest is the reader's to check, who hashes what it keeps.

use super::answers;
use super::session::{Answer, Place, Question, Session, Trouble};
use super::wire::Fault;
use crate::error::{Error, Result};
use crate::image::descriptor::Descriptor;
use std::io::Read;
use std::time::Instant;
use ureq::http::Method;
use ureq::http::header::RANGE;

/// Fewer bytes than this in the time of one read are none (a drip).
const SLOW: u64 = 16 << 10;
/// So much of a blob is a success, after which one may fail as often as before: at least the first, and at least the second's part of it.
const STRIDE: u64 = 64 << 10;
const STRIDES: u64 = 64;

/// `read` gives our own errors; as `std::io::Read` they are within one of io.
pub struct Blob<'s, 'a> {
    session: &'s Session<'a>,
    descriptor: &'s Descriptor,
    /// Bytes that were given.
    position: u64,
    body: Option<ureq::BodyReader<'static>>,
    /// Of what comes next: it was given already, the registry starts from the beginning.
    skip: u64,
    takes_ranges: bool,
    attempt: u32,
    /// Where the attempts began to be counted.
    counted_from: u64,
    window: (Instant, u64),
    is_ended: bool,
    /// Put together of what several answers brought.
    pub is_patched: bool,
}

impl<'s, 'a> Blob<'s, 'a> {
    pub fn new(session: &'s Session<'a>, descriptor: &'s Descriptor) -> Blob<'s, 'a> {
        Blob {
            session,
            descriptor,
            position: 0,
            body: None,
            skip: 0,
            takes_ranges: true,
            attempt: 1,
            counted_from: 0,
            window: (Instant::now(), 0),
            is_ended: false,
            is_patched: false,
        }
    }

    fn size(&self) -> u64 {
        self.descriptor.size
    }

    /// 0 at its end, when all bytes that the descriptor promises were there, and no more.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            if self.position == self.size() {
                self.end()?;
                return Ok(0);
            }
            match self.step(buffer) {
                Ok(0) => {}
                Ok(length) => return Ok(length),
                Err(trouble) => self.again(trouble)?,
            }
        }
    }

    fn step(&mut self, buffer: &mut [u8]) -> std::result::Result<usize, Trouble> {
        self.session.cancel().check()?;
        let mut body = match self.body.take() {
            Some(body) => body,
            None => self.open()?,
        };
        let wanted = if self.skip > 0 { self.skip } else { self.size() - self.position };
        let most = buffer.len().min(usize::try_from(wanted).unwrap_or(usize::MAX));
        let passing =
            |text: &str| Trouble::Passing(self.session.failure(&format!("{}: {text}", self.descriptor.digest)), None);
        let read = body.read(&mut buffer[..most]);
        self.session.cancel().check()?;
        let length = match read {
            Ok(0) => return Err(passing(&format!("cut after {} of {} bytes", self.position, self.size()))),
            Ok(length) => length,
            Err(error) => return Err(passing(&Fault::of_body(error).text)),
        };
        self.window.1 += length as u64;
        let idle = self.session.wire.patience.idle;
        if self.window.0.elapsed() >= idle {
            if self.window.1 < SLOW {
                return Err(passing("next to nothing comes"));
            }
            self.window = (Instant::now(), 0);
        }
        self.body = Some(body);
        if self.skip > 0 {
            self.skip -= length as u64;
            return Ok(0);
        }
        self.position += length as u64;
        Ok(length)
    }

    fn again(&mut self, trouble: Trouble) -> Result<()> {
        self.body = None;
        if self.position - self.counted_from >= STRIDE.max(self.size() / STRIDES) {
            (self.attempt, self.counted_from) = (1, self.position);
        }
        self.attempt += 1;
        self.session.pause(self.attempt, trouble)?;
        self.is_patched |= self.position > 0;
        Ok(())
    }

    fn open(&mut self) -> std::result::Result<ureq::BodyReader<'static>, Trouble> {
        let (path, scope) =
            (self.session.path(&format!("blobs/{}", self.descriptor.digest)), self.session.pull_scope());
        let is_range = self.position > 0 && self.takes_ranges;
        let headers = if is_range { vec![(RANGE, format!("bytes={}-", self.position))] } else { Vec::new() };
        let question = Question::new(Method::GET, Place::Path(&path), &scope);
        let answer = self.session.once(&Question { headers, is_document: false, ..question })?;
        self.window = (Instant::now(), 0);
        self.skip = 0;
        match answer.status {
            200 => {
                self.check_whole(&answer)?;
                self.skip = self.position;
            }
            206 if is_range => self.check_range(&answer)?,
            416 if is_range => {
                self.takes_ranges = false;
                return Err(Trouble::Passing(self.session.failure("a range that the registry does not have"), None));
            }
            404 => {
                let text = format!("{}: the registry does not have {}", self.session.name(), self.descriptor.digest);
                return Err(Error::Registry { text, status: Some(404), code: Some("BLOB_UNKNOWN".into()) }.into());
            }
            _ => return Err(self.session.refusal(answer).into()),
        }
        Ok(answer.body.into_reader())
    }

    fn check_whole(&self, answer: &Answer) -> Result<()> {
        if answers::text(&answer.headers, "content-encoding").is_some_and(|coding| coding != "identity") {
            return Err(self.session.failure("a blob in an encoding that was not asked for"));
        }
        match answer.body.content_length() {
            Some(length) if length != self.size() => Err(self.wrong_size(&length.to_string())),
            _ => Ok(()),
        }
    }

    fn check_range(&mut self, answer: &Answer) -> std::result::Result<(), Trouble> {
        let size = self.size();
        match answers::content_range(&answer.headers) {
            Some((first, _, total)) if first == self.position && total.is_none_or(|total| total == size) => Ok(()),
            _ => {
                self.takes_ranges = false;
                Err(Trouble::Passing(self.session.failure("another range than was asked for"), None))
            }
        }
    }

    fn wrong_size(&self, came: &str) -> Error {
        let (name, digest, size) = (self.session.name(), &self.descriptor.digest, self.size());
        Error::DigestMismatch(format!("{name}: {digest} has {size} bytes by its descriptor, and {came} came"))
    }

    /// Nothing may follow. What comes instead of the end does not matter: all is there, and its digest will say whether it is right.
    fn end(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.is_ended, true) {
            return Ok(());
        }
        let after = self.body.take().map(|mut body| body.read(&mut [0; 1]));
        if matches!(after, Some(Ok(1))) { Err(self.wrong_size("more")) } else { Ok(()) }
    }
}

impl Read for Blob<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        Blob::read(self, buffer).map_err(std::io::Error::other)
    }
}
