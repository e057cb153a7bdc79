//! Questions to one registry about one repository: http or https, redirects, authorization, and asking again. Every way through here ends.

mod authorize;

use super::answers;
use super::auth::Given;
use super::cancel::Cancel;
use super::conf::registries::{Endpoint, Security};
use super::patience::Patience;
use super::url::{Origin, Url};
use super::wire::{Fault, Kind, Payload, Wire};
use crate::error::{Error, Result};
use crate::image::digest::cut;
use authorize::Authorization;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use ureq::Body;
use ureq::http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use ureq::http::{HeaderMap, Method};

const REDIRECTS_MAX: u32 = 5;

/// Why a question has no answer.
#[derive(Debug)]
pub enum Trouble {
    Final(Error),
    /// It may be answered later; not before this time, where the registry said one.
    Passing(Error, Option<Duration>),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Final(error)
    }
}

/// What is asked, as often as it takes.
pub struct Question<'q> {
    pub method: Method,
    /// From `/v2/` on, or a whole URL that the registry gave.
    pub place: Place<'q>,
    pub headers: Vec<(HeaderName, String)>,
    /// What the token has to be good for.
    pub scope: &'q str,
    pub content: Content<'q>,
    /// The answer's body is small, and wanted at once.
    pub is_document: bool,
}

/// What is sent, from its beginning each time.
#[derive(Clone, Copy)]
pub enum Content<'q> {
    Empty,
    Bytes(&'q [u8]),
    /// A reader, and how many bytes it gives.
    Stream(&'q dyn Fn() -> Result<(Box<dyn Read + 'q>, u64)>),
}

impl<'q> Question<'q> {
    pub fn new(method: Method, place: Place<'q>, scope: &'q str) -> Question<'q> {
        Question { method, place, headers: Vec::new(), scope, content: Content::Empty, is_document: true }
    }

    pub fn with(self, content: Content<'q>) -> Question<'q> {
        Question { content, ..self }
    }
}

#[derive(Clone, Copy)]
pub enum Place<'q> {
    Path(&'q str),
    Url(&'q Url),
}

pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub url: Url,
    pub body: Body,
}

pub struct Session<'a> {
    pub wire: Wire<'a>,
    pub endpoint: Endpoint,
    authorization: Mutex<Authorization<'a>>,
    /// http or https, once that is known.
    home: Mutex<Option<Origin>>,
}

impl<'a> Session<'a> {
    pub fn new(endpoint: Endpoint, given: &'a Given, patience: Patience, cancel: &'a Cancel) -> Session<'a> {
        let wire = Wire::new(cancel, patience, &endpoint.host, endpoint.security.clone());
        let home = match endpoint.security {
            Security::Verified => Origin::of(&endpoint.host, true),
            _ => None,
        };
        Session { wire, endpoint, authorization: Mutex::new(Authorization::new(given)), home: Mutex::new(home) }
    }

    pub fn cancel(&self) -> &'a Cancel {
        self.wire.cancel
    }

    pub fn name(&self) -> String {
        format!("{}/{}", self.endpoint.account, self.endpoint.repository)
    }

    pub fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.endpoint.repository)
    }

    pub fn pull_scope(&self) -> String {
        format!("repository:{}:pull", self.endpoint.repository)
    }

    pub fn failure(&self, text: &str) -> Error {
        Error::Registry { text: format!("{}: {text}", self.name()), status: None, code: None }
    }

    fn fault(&self, fault: Fault) -> Trouble {
        let error = self.failure(&fault.text);
        match fault.kind {
            Kind::Passing => Trouble::Passing(error, None),
            Kind::Refused | Kind::Tls | Kind::Final => Trouble::Final(error),
        }
    }

    /// Again while the trouble passes.
    pub fn retried<T>(&self, mut ask: impl FnMut() -> std::result::Result<T, Trouble>) -> Result<T> {
        let mut attempt = 1;
        loop {
            let trouble = match ask() {
                Ok(answer) => return Ok(answer),
                Err(trouble) => trouble,
            };
            attempt += 1;
            self.pause(attempt, trouble)?;
        }
    }

    /// Before the attempt of this number; Err where there is none any more.
    pub fn pause(&self, attempt: u32, trouble: Trouble) -> Result<()> {
        let (error, after) = match trouble {
            Trouble::Final(error) => return Err(error),
            Trouble::Passing(error, after) => (error, after),
        };
        let patience = self.wire.patience;
        match patience.before(attempt, after) {
            Some(pause) if attempt <= patience.attempts => self.cancel().sleep(pause),
            _ => Err(error),
        }
    }

    /// The answer's head, with what comes with it; statuses that pass are asked again.
    pub fn ask(&self, question: &Question<'_>) -> Result<Answer> {
        self.retried(|| self.once(question))
    }

    /// A whole small body.
    pub fn document(&self, question: &Question<'_>, most: u64) -> Result<(Answer, Vec<u8>)> {
        self.retried(|| {
            let mut answer = self.once(question)?;
            let bytes = self.body(&mut answer, most)?;
            Ok((answer, bytes))
        })
    }

    pub fn body(&self, answer: &mut Answer, most: u64) -> std::result::Result<Vec<u8>, Trouble> {
        let too_long = || Trouble::Final(self.failure(&format!("an answer of more than {most} bytes")));
        if answer.body.content_length().is_some_and(|length| length > most) {
            return Err(too_long());
        }
        let mut bytes = Vec::new();
        let read = answer.body.as_reader().take(most + 1).read_to_end(&mut bytes);
        self.cancel().check()?;
        read.map_err(|error| self.fault(Fault::of_body(error)))?;
        if bytes.len() as u64 > most { Err(too_long()) } else { Ok(bytes) }
    }

    /// One time, with as many redirects and one authorization as it needs.
    pub fn once(&self, question: &Question<'_>) -> std::result::Result<Answer, Trouble> {
        let mut is_fresh = false;
        loop {
            let (answer, generation) = self.follow(question)?;
            match answer.status {
                401 if is_fresh || !self.is_home(&answer.url.origin) => {
                    return Err(self.refused(answer, "the registry refuses the credentials").into());
                }
                401 => {
                    self.authorize(&answer.headers, question.scope, generation)?;
                    is_fresh = true;
                }
                408 | 429 | 500 | 502 | 503 | 504 => {
                    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                    let after = answers::retry_after(&answer.headers, now.as_secs());
                    return Err(Trouble::Passing(self.refusal(answer), after));
                }
                _ => return Ok(answer),
            }
        }
    }

    fn is_home(&self, origin: &Origin) -> bool {
        self.home.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(origin)
    }

    fn follow(&self, question: &Question<'_>) -> std::result::Result<(Answer, u64), Trouble> {
        let (mut answer, generation) = self.first(question)?;
        let mut redirects = 0;
        let is_safe = question.method == Method::GET || question.method == Method::HEAD;
        while matches!(answer.status, 301 | 302 | 303 | 307 | 308) && is_safe {
            redirects += 1;
            if redirects > REDIRECTS_MAX {
                return Err(self.failure(&format!("more than {REDIRECTS_MAX} redirects")).into());
            }
            let url = self.redirected(&answer).map_err(|why| self.failure(&why))?;
            answer = self.send(question, &url)?.map_err(|fault| self.fault(fault))?;
        }
        Ok((answer, generation))
    }

    fn redirected(&self, answer: &Answer) -> std::result::Result<Url, String> {
        let target = answers::text(&answer.headers, "location").ok_or("a redirect that does not say where to")?;
        let url = answer.url.join(target).map_err(|why| format!("a redirect to where nobody goes: {why}"))?;
        if answer.url.origin.is_https && !url.origin.is_https {
            return Err("a redirect from https to http, which is not followed".into());
        }
        Ok(url)
    }

    /// To the registry itself, by the scheme that it speaks.
    fn first(&self, question: &Question<'_>) -> std::result::Result<(Answer, u64), Trouble> {
        let generation = self.authorization().generation;
        let known = self.home.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Place::Url(url) = question.place {
            return Ok((self.send(question, url)?.map_err(|fault| self.fault(fault))?, generation));
        }
        let Place::Path(path) = question.place else { return Err(self.failure("no place").into()) };
        let place = |is_https: bool| {
            let origin = known.clone().or_else(|| Origin::of(&self.endpoint.host, is_https));
            let url =
                origin.ok_or("its host is none".to_string()).and_then(|origin| Url::parse(&format!("{origin}{path}")));
            url.map_err(|why| self.failure(&why))
        };
        if known.is_some() {
            let url = place(true)?;
            return Ok((self.send(question, &url)?.map_err(|fault| self.fault(fault))?, generation));
        }
        // docker's order on this machine is the other one; but a server that speaks http may wait for the end of a line in a TLS hello.
        let https_first = self.endpoint.security == Security::Insecure;
        let url = place(https_first)?;
        let first = self.send(question, &url)?;
        let is_other = match &first {
            Ok(answer) => !https_first && answer.status == 400,
            // Also where nobody listens: the two have ports of their own where none is said.
            Err(_) => true,
        };
        if is_other {
            let url = place(!https_first)?;
            if let Ok(answer) = self.send(question, &url)? {
                return Ok((self.at_home(answer), generation));
            }
        }
        Ok((self.at_home(first.map_err(|fault| self.fault(fault))?), generation))
    }

    fn at_home(&self, answer: Answer) -> Answer {
        *self.home.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer.url.origin.clone());
        answer
    }

    /// Authorization goes to the registry alone, whoever names the URL.
    fn send(&self, question: &Question<'_>, url: &Url) -> Result<std::result::Result<Answer, Fault>> {
        let mut headers = HeaderMap::new();
        for (name, value) in &question.headers {
            let value = HeaderValue::from_str(value)
                .map_err(|_| self.failure("a header with characters that it cannot have"))?;
            headers.append(name.clone(), value);
        }
        if self.is_home(&url.origin)
            && let Some(value) = self.authorization().header(question.scope)
        {
            headers.insert(AUTHORIZATION, value);
        }
        let mut stream;
        let payload = match question.content {
            Content::Empty => Payload::Empty,
            Content::Bytes(bytes) => Payload::Bytes(bytes),
            Content::Stream(open) => {
                stream = open()?;
                Payload::Stream(&mut *stream.0, stream.1)
            }
        };
        let answered = self.wire.exchange(&question.method, url, &headers, payload, question.is_document)?;
        Ok(answered.map(|response| {
            let (parts, body) = response.into_parts();
            Answer { status: parts.status.as_u16(), headers: parts.headers, url: url.clone(), body }
        }))
    }

    /// An answer that is none of those that were hoped for.
    pub fn refusal(&self, mut answer: Answer) -> Error {
        let bytes = self.body(&mut answer, answers::ERROR_MAX).unwrap_or_default();
        let said = answers::error(&bytes);
        let status = answer.status;
        let text = match &said {
            Some((code, message)) if !message.is_empty() => {
                format!("{}: {status} {code}: {}", self.name(), cut(message))
            }
            Some((code, _)) => format!("{}: {status} {code}", self.name()),
            None => format!("{}: the registry answers {status}", self.name()),
        };
        match (status, said.as_ref().map(|(code, _)| code.as_str())) {
            (401 | 403, _) => Error::Auth(text),
            (404, None | Some("MANIFEST_UNKNOWN" | "NAME_UNKNOWN" | "NOT_FOUND")) => Error::ImageNotFound(text),
            (_, code) => Error::Registry { text, status: Some(status), code: code.map(String::from) },
        }
    }

    fn refused(&self, answer: Answer, why: &str) -> Error {
        match self.refusal(answer) {
            Error::Auth(text) => Error::Auth(format!("{text} ({why})")),
            other => other,
        }
    }
}
