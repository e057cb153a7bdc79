//! A blob or a manifest to a registry: looked for, mounted, sent in one piece, or in several.

use super::answers;
use super::session::{Answer, Content, Place, Question, Session, Trouble};
use super::url::{Url, escape};
use crate::error::{Error, Result};
use crate::image::descriptor::Descriptor;
use crate::image::digest::Digest;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use ureq::http::Method;
use ureq::http::header::{CONTENT_RANGE, CONTENT_TYPE};

const BYTES: &str = "application/octet-stream";

/// How a blob got there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    Present,
    Mounted,
    Transferred,
}

/// A blob's file, counted while it is read; each attempt reads it anew.
pub struct Source<'f> {
    pub open: &'f (dyn Fn() -> Result<File> + Sync),
    /// Told how many bytes have been read.
    pub read: &'f (dyn Fn(u64) + Sync),
}

struct Counting<'f> {
    file: std::io::Take<File>,
    done: u64,
    told: &'f (dyn Fn(u64) + Sync),
}

impl Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.done += length as u64;
        (self.told)(self.done);
        Ok(length)
    }
}

impl Session<'_> {
    pub fn push_scope(&self, from: Option<&str>) -> String {
        let own = format!("repository:{}:pull,push", self.endpoint.repository);
        from.map_or(own.clone(), |from| format!("{own} repository:{from}:pull"))
    }

    pub fn has_blob(&self, blob: &Descriptor, scope: &str) -> Result<bool> {
        let path = self.path(&format!("blobs/{}", blob.digest));
        let answer = self.ask(&Question::new(Method::HEAD, Place::Path(&path), scope))?;
        match answer.status {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(self.refusal(answer)),
        }
    }

    /// `from`: a repository of the same registry that has it. `chunk`: the bytes of one piece; None is all in one.
    pub fn send_blob(
        &self,
        blob: &Descriptor,
        source: &Source<'_>,
        from: Option<&str>,
        chunk: Option<u64>,
    ) -> Result<Sent> {
        let scope = self.push_scope(from);
        if self.has_blob(blob, &self.push_scope(None))? {
            return Ok(Sent::Present);
        }
        let own = self.push_scope(None);
        let first = match self.begin(blob, from, &scope) {
            // A mount is a help, where it is allowed.
            Err(Error::Auth(_) | Error::Registry { .. } | Error::ImageNotFound(_)) if from.is_some() => {
                self.begin(blob, None, &own)?
            }
            other => other?,
        };
        let Some(url) = first else { return Ok(Sent::Mounted) };
        let (mut begun, scope) = (Some(url), own);
        let mut pieces = chunk;
        self.retried(|| {
            let url = match begun.take() {
                Some(url) => url,
                None => {
                    self.begin(blob, None, &scope)?.ok_or_else(|| self.failure("an upload that was not asked for"))?
                }
            };
            let answer = match pieces {
                None => self.in_one(blob, source, &url, &scope)?,
                Some(size) => self.in_pieces(blob, source, url, &scope, size)?,
            };
            match answer.status {
                201 | 204 => self.check_stored(&answer, &blob.digest).map_err(Trouble::from),
                // Something on the way takes no bodies of this size.
                413 if pieces.is_none() => {
                    pieces = Some(4 << 20);
                    Err(Trouble::Passing(self.refusal(answer), None))
                }
                // The upload is forgotten: begin again.
                404 | 416 => Err(Trouble::Passing(self.refusal(answer), None)),
                _ => Err(self.refusal(answer).into()),
            }
        })?;
        Ok(Sent::Transferred)
    }

    fn check_stored(&self, answer: &Answer, digest: &Digest) -> Result<()> {
        match answers::text(&answer.headers, "docker-content-digest") {
            Some(said) if said != digest.to_string() => Err(Error::DigestMismatch(format!(
                "{}: {digest} was sent, and the registry stored another one",
                self.name()
            ))),
            _ => Ok(()),
        }
    }

    /// Where to send it; None: it has been mounted.
    fn begin(&self, blob: &Descriptor, from: Option<&str>, scope: &str) -> Result<Option<Url>> {
        let mut path = self.path("blobs/uploads/");
        if let Some(from) = from {
            path = format!("{path}?mount={}&from={}", blob.digest, escape(from));
        }
        let answer = self.ask(&Question::new(Method::POST, Place::Path(&path), scope).with(Content::Bytes(b"")))?;
        match answer.status {
            201 if from.is_some() => Ok(None),
            202 => self.location(&answer).map(Some),
            _ => Err(self.refusal(answer)),
        }
    }

    fn location(&self, answer: &Answer) -> Result<Url> {
        let target =
            answers::text(&answer.headers, "location").ok_or_else(|| self.failure("an upload without a place"))?;
        let url =
            answer.url.join(target).map_err(|why| self.failure(&format!("an upload to where nobody goes: {why}")))?;
        if answer.url.origin.is_https && !url.origin.is_https {
            return Err(self.failure("an upload from https to http, which is not followed"));
        }
        Ok(url)
    }

    fn in_one(
        &self,
        blob: &Descriptor,
        source: &Source<'_>,
        url: &Url,
        scope: &str,
    ) -> std::result::Result<Answer, Trouble> {
        let url = url.with("digest", &blob.digest.to_string()).map_err(|why| self.failure(&why))?;
        self.transfer(Method::PUT, &url, source, (0, blob.size), Vec::new(), scope)
    }

    fn in_pieces(
        &self,
        blob: &Descriptor,
        source: &Source<'_>,
        mut url: Url,
        scope: &str,
        size: u64,
    ) -> std::result::Result<Answer, Trouble> {
        let mut sent = 0;
        while sent < blob.size {
            let length = size.min(blob.size - sent);
            let range = vec![(CONTENT_RANGE, format!("{sent}-{}", sent + length - 1))];
            let answer = self.transfer(Method::PATCH, &url, source, (sent, length), range, scope)?;
            if answer.status != 202 {
                return Ok(answer);
            }
            (url, sent) = (self.location(&answer)?, sent + length);
        }
        let url = url.with("digest", &blob.digest.to_string()).map_err(|why| self.failure(&why))?;
        self.once(&Question::new(Method::PUT, Place::Url(&url), scope).with(Content::Bytes(b"")))
    }

    fn transfer(
        &self,
        method: Method,
        url: &Url,
        source: &Source<'_>,
        (first, length): (u64, u64),
        mut headers: Vec<(ureq::http::HeaderName, String)>,
        scope: &str,
    ) -> std::result::Result<Answer, Trouble> {
        headers.push((CONTENT_TYPE, BYTES.into()));
        let open = || {
            let mut file = (source.open)()?;
            let fail = |error: std::io::Error| {
                Error::setup("read a blob of the store", error.raw_os_error().unwrap_or(libc::EIO))
            };
            file.seek(SeekFrom::Start(first)).map_err(fail)?;
            let reader: Box<dyn Read> = Box::new(Counting { file: file.take(length), done: first, told: source.read });
            Ok((reader, length))
        };
        let question = Question::new(method, Place::Url(url), scope).with(Content::Stream(&open));
        self.once(&Question { headers, ..question })
    }

    /// A manifest or index under a tag or its digest.
    pub fn send_manifest(&self, version: &str, media_type: &str, bytes: &[u8], digest: &Digest) -> Result<()> {
        let (path, scope) = (self.path(&format!("manifests/{version}")), self.push_scope(None));
        let headers = vec![(CONTENT_TYPE, media_type.to_string())];
        let question = Question::new(Method::PUT, Place::Path(&path), &scope).with(Content::Bytes(bytes));
        let answer = self.ask(&Question { headers, ..question })?;
        match answer.status {
            201 => self.check_stored(&answer, digest),
            _ => Err(self.refusal(answer)),
        }
    }
}
