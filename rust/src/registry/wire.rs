//! One request and its answer on a connection. Knows origins, certificates and proxies; nothing of registries, and no credentials.

use super::cancel::Cancel;
use super::conf::registries::Security;
use super::conf::{certs, proxy};
use super::patience::Patience;
use super::url::{Origin, Url};
use crate::error::Result;
use crate::image::digest::cut;
use std::collections::HashMap;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use ureq::http::{HeaderMap, Method, Request, Response};
use ureq::{Agent, Body, SendBody};

const USER_AGENT: &str = concat!("pycontainer/", env!("CARGO_PKG_VERSION"));
const CONNECT: Duration = Duration::from_secs(10);
const BUFFER: usize = 64 << 10;

/// Why there is no answer.
#[derive(Debug)]
pub struct Fault {
    pub text: String,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Asked again it may answer.
    Passing,
    /// Nobody listens there.
    Refused,
    /// It does not speak TLS, or is not who it says.
    Tls,
    Final,
}

impl Fault {
    pub fn of(error: &ureq::Error) -> Fault {
        use std::io::ErrorKind;
        let kind = match error {
            ureq::Error::Io(io) if io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => Kind::Tls,
            ureq::Error::Io(io) if io.kind() == ErrorKind::ConnectionRefused => Kind::Refused,
            ureq::Error::Rustls(_) | ureq::Error::Tls(_) => Kind::Tls,
            ureq::Error::Io(_) | ureq::Error::Timeout(_) | ureq::Error::Protocol(_) => Kind::Passing,
            ureq::Error::LargeResponseHeader(..) | ureq::Error::BodyStalled => Kind::Passing,
            _ => Kind::Final,
        };
        let text = match error {
            ureq::Error::Timeout(what) => format!("nothing comes ({what})"),
            ureq::Error::Io(io) if kind == Kind::Tls => format!("TLS: {io}"),
            ureq::Error::Io(_) if kind == Kind::Refused => "nobody listens there (connection refused)".into(),
            // Without "(os error 111)", and with the host's name service in words of ours.
            ureq::Error::Io(io) => {
                let text = io.to_string();
                let text = text.split(" (os error").next().unwrap_or_default();
                text.replace("failed to lookup address information", "the host is not found")
            }
            ureq::Error::Protocol(why) => format!("its answer is not HTTP: {why}"),
            other => other.to_string(),
        };
        Fault { text: cut(&text), kind }
    }

    /// Of a body: what ureq says is within an error of io.
    pub fn of_body(error: std::io::Error) -> Fault {
        Fault::of(&ureq::Error::from(error))
    }
}

pub enum Payload<'b> {
    Empty,
    Bytes(&'b [u8]),
    Stream(&'b mut dyn Read, u64),
}

#[derive(Debug)]
pub struct Wire<'a> {
    pub cancel: &'a Cancel,
    pub patience: Patience,
    /// The registry's host, and how it is trusted; others are verified.
    home: (String, Security),
    agents: Mutex<HashMap<Origin, Agent>>,
}

impl<'a> Wire<'a> {
    pub fn new(cancel: &'a Cancel, patience: Patience, host: &str, security: Security) -> Wire<'a> {
        Wire { cancel, patience, home: (host.into(), security), agents: Mutex::default() }
    }

    fn agent(&self, origin: &Origin) -> Result<Agent> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(origin) {
            return Ok(agent.clone());
        }
        let idle = self.patience.idle;
        let mut builder = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(USER_AGENT)
            .accept_encoding("identity")
            .proxy(proxy::of(origin)?)
            .timeout_connect(Some(CONNECT.min(idle)))
            .timeout_send_request(Some(idle))
            .timeout_recv_response(Some(idle))
            .timeout_per_read(Some(idle))
            .timeout_per_write(Some(idle))
            .max_response_header_size(64 << 10)
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER);
        if origin.is_https {
            let is_home = Origin::of(&self.home.0, true).as_ref() == Some(origin);
            let name = if is_home { self.home.0.clone() } else { origin.to_string().replacen("https://", "", 1) };
            let is_verified = !is_home || self.home.1 == Security::Verified;
            builder = builder.tls_config(certs::tls(&name, is_verified)?);
        }
        let agent: Agent = builder.build().into();
        self.cancel.watch(&agent)?;
        agents.insert(origin.clone(), agent.clone());
        Ok(agent)
    }

    /// The answer's head; its body is read by the caller. A body that is one document has to be there in the time of one read.
    pub fn exchange(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        payload: Payload<'_>,
        is_document: bool,
    ) -> Result<std::result::Result<Response<Body>, Fault>> {
        self.cancel.check()?;
        let agent = self.agent(&url.origin)?;
        let mut request = Request::builder().method(method.clone()).uri(url.uri().clone());
        if let Some(all) = request.headers_mut() {
            all.extend(headers.clone());
            if let Payload::Stream(_, length) = &payload {
                all.insert("content-length", (*length).into());
            }
        }
        let no_request = |error: ureq::http::Error| Fault { text: error.to_string(), kind: Kind::Final };
        let time = is_document.then_some(self.patience.idle);
        macro_rules! run {
            ($body:expr) => {
                match request.body($body).map_err(no_request) {
                    Ok(request) => {
                        let request = agent.configure_request(request).timeout_recv_body(time).build();
                        agent.run(request).map_err(|error| Fault::of(&error))
                    }
                    Err(fault) => Err(fault),
                }
            };
        }
        let answered = match payload {
            Payload::Empty => run!(()),
            Payload::Bytes(bytes) => run!(bytes),
            Payload::Stream(reader, _) => run!(SendBody::from_reader(reader)),
        };
        self.cancel.check()?;
        Ok(answered)
    }
}
