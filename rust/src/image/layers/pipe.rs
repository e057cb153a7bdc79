//! A pipe of a few buffers between two threads of one layer: bounded, with buffers that come back, and an end that is said.

use super::PACE;
use std::io::{BufRead, Error, Read, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};

const SIZE: usize = 256 << 10;
const DEPTH: usize = 4;

#[derive(Debug)]
enum Message {
    Data(Vec<u8>, usize),
    /// Said, so that the end of a thread that failed is not taken for it.
    End,
    Failed(Error),
}

#[derive(Debug)]
pub struct Writer {
    to: SyncSender<Message>,
    spent: Receiver<Vec<u8>>,
}

#[derive(Debug)]
pub struct Reader<'a> {
    from: Receiver<Message>,
    back: Sender<Vec<u8>>,
    buffer: Vec<u8>,
    at: usize,
    length: usize,
    is_at_end: bool,
    stop: &'a AtomicBool,
}

pub fn pipe(stop: &AtomicBool) -> (Writer, Reader<'_>) {
    let (to, from) = sync_channel(DEPTH);
    let (back, spent) = channel();
    let reader = Reader { from, back, buffer: Vec::new(), at: 0, length: 0, is_at_end: false, stop };
    (Writer { to, spent }, reader)
}

impl Writer {
    pub fn buffer(&self) -> Vec<u8> {
        self.spent.try_recv().unwrap_or_else(|_| vec![0; SIZE])
    }

    /// False once nobody reads any more.
    pub fn send(&self, buffer: Vec<u8>, length: usize) -> bool {
        self.to.send(Message::Data(buffer, length)).is_ok()
    }

    pub fn finish(self, done: Result<()>) {
        let _ = self.to.send(done.map_or_else(Message::Failed, |()| Message::End));
    }
}

impl BufRead for Reader<'_> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        while self.at == self.length && !self.is_at_end {
            match self.from.recv_timeout(PACE) {
                Ok(Message::Data(buffer, length)) => {
                    let spent = std::mem::replace(&mut self.buffer, buffer);
                    (self.at, self.length) = (0, length);
                    if !spent.is_empty() {
                        let _ = self.back.send(spent);
                    }
                }
                Ok(Message::End) => self.is_at_end = true,
                Ok(Message::Failed(error)) => return Err(error),
                Err(RecvTimeoutError::Disconnected) => return Err(Error::other("it came to an end too early")),
                Err(RecvTimeoutError::Timeout) if self.stop.load(Ordering::Relaxed) => {
                    return Err(Error::other("interrupted"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        Ok(&self.buffer[self.at..self.length])
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let data = self.fill_buf()?;
        let n = data.len().min(buffer.len());
        buffer[..n].copy_from_slice(&data[..n]);
        self.consume(n);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_nobody_said_is_an_error() {
        let stop = AtomicBool::new(false);
        let (writer, mut reader) = pipe(&stop);
        assert!(writer.send(b"abc".to_vec(), 2));
        drop(writer);
        let mut found = Vec::new();
        assert!(reader.read_to_end(&mut found).is_err());
        assert_eq!(found, b"ab");
    }

    #[test]
    fn what_was_sent_comes_in_order_and_within_bounds() {
        let stop = AtomicBool::new(false);
        let (writer, mut reader) = pipe(&stop);
        let found = std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..100u8 {
                    let mut buffer = writer.buffer();
                    buffer[0] = number;
                    assert!(writer.send(buffer, 1));
                }
                writer.finish(Ok(()));
            });
            let mut found = Vec::new();
            reader.read_to_end(&mut found).unwrap();
            found
        });
        assert_eq!(found, (0..100).collect::<Vec<u8>>());
    }

    #[test]
    fn who_waits_is_interrupted_and_who_writes_sees_that_nobody_reads() {
        let stop = AtomicBool::new(true);
        let (writer, mut reader) = pipe(&stop);
        assert!(reader.fill_buf().is_err());
        drop(reader);
        assert!(!writer.send(Vec::new(), 0));
    }
}
