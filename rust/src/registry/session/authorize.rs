//! What a session shows to its registry: nothing, a user and a password, or a token. Asked for by the registry, never sent before.

use super::{Answer, Session};
use crate::error::{Error, Result};
use crate::registry::auth::challenge::{self, Challenge};
use crate::registry::auth::token::{self, Token};
use crate::registry::auth::{Given, Secret, base64, find, realm};
use crate::registry::url::{Url, escape};
use crate::registry::wire::{Fault, Payload};
use std::collections::HashMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Instant;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use ureq::http::{HeaderMap, Method};

const CLIENT: &str = "pycontainer";

pub struct Authorization<'a> {
    given: &'a Given,
    /// Looked up once.
    secret: Option<Option<Secret>>,
    basic: Option<HeaderValue>,
    /// By scope.
    tokens: HashMap<String, Token>,
    /// Raised with each change: who was refused before it has only to try again.
    pub generation: u64,
}

impl<'a> Authorization<'a> {
    pub fn new(given: &'a Given) -> Self {
        Authorization { given, secret: None, basic: None, tokens: HashMap::new(), generation: 0 }
    }

    pub fn header(&self, scope: &str) -> Option<HeaderValue> {
        if let Some(token) = self.tokens.get(scope).filter(|token| token.until > Instant::now()) {
            return secret_header(&format!("Bearer {}", token.text));
        }
        self.basic.clone()
    }
}

/// Marked so that nothing prints it.
fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    secret_header(&format!("Basic {}", base64(format!("{user}:{password}").as_bytes())))
}

impl<'a> Session<'a> {
    pub fn authorization(&self) -> MutexGuard<'_, Authorization<'a>> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a 401 asks for. Others who are refused meanwhile wait here, and take what the first one was given.
    pub fn authorize(&self, headers: &HeaderMap, scope: &str, generation: u64) -> Result<()> {
        let mut state = self.authorization();
        if state.generation != generation {
            return Ok(());
        }
        let challenges = self.challenges(headers)?;
        let named = |name: &str| challenges.iter().find(|challenge| challenge.scheme == name);
        let bearer = named("bearer");
        if bearer.is_none() && named("basic").is_none() {
            return Err(self.unauthorized("the registry asks for credentials of a kind that is not known"));
        }
        let secret = match &state.secret {
            Some(secret) => secret.clone(),
            None => find(state.given, &self.endpoint.account, &self.endpoint.repository, self.cancel())?,
        };
        state.secret = Some(secret.clone());
        match (bearer, secret) {
            (Some(_), Some(Secret::Bearer(text))) => {
                if !token::is_token(&text) {
                    return Err(self.unauthorized("the token is too long, or has characters that no header takes"));
                }
                let until = Instant::now() + std::time::Duration::from_secs(86_400);
                state.tokens.insert(scope.into(), Token { text, until });
            }
            (Some(challenge), secret) => {
                let token = self.fetch_token(challenge, scope, secret.as_ref())?;
                state.tokens.insert(scope.into(), token);
            }
            (None, Some(Secret::Password { user, password })) => state.basic = basic(&user, &password),
            (None, Some(_)) => {
                return Err(self.unauthorized("the registry asks for a user and a password, and there is a token"));
            }
            (None, None) => {
                return Err(self.unauthorized("the registry asks for a user and a password, and none are known: give auth=, or log in (podman login, docker login)"));
            }
        }
        state.generation += 1;
        Ok(())
    }

    fn unauthorized(&self, why: &str) -> Error {
        Error::Auth(format!("{}: {why}", self.name()))
    }

    fn challenges(&self, headers: &HeaderMap) -> Result<Vec<Challenge>> {
        let mut found = Vec::new();
        for value in headers.get_all("www-authenticate").iter().take(8) {
            let text = value.to_str().map_err(|_| self.unauthorized("a WWW-Authenticate that is no text"))?;
            found.extend(
                challenge::parse(text)
                    .map_err(|why| self.unauthorized(&format!("a WWW-Authenticate that cannot be read: {why}")))?,
            );
        }
        Ok(found)
    }

    fn fetch_token(&self, challenge: &Challenge, scope: &str, secret: Option<&Secret>) -> Result<Token> {
        let home = self.home.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let home = home.ok_or_else(|| self.failure("no answer yet"))?;
        let said = challenge.get("realm").unwrap_or_default();
        let realm = realm::check(&home, said).map_err(|why| {
            let said = crate::image::digest::cut(said.split(['?', '#']).next().unwrap_or_default());
            self.unauthorized(&format!("the token server {said:?} that the registry names is not asked: {why}"))
        })?;
        let scopes = token::scope(scope, challenge.get("scope"));
        let service = challenge.get("service").unwrap_or_default();
        let answer = self.retried(|| {
            let asked = match secret {
                Some(Secret::Identity(identity)) => self.exchange_identity(&realm, service, &scopes, identity)?,
                other => self.get_token(&realm, service, &scopes, other)?,
            };
            let mut answer = asked.map_err(|fault| self.fault(fault))?;
            match answer.status {
                200 => Ok(self.body(&mut answer, token::ANSWER_MAX)?),
                429 | 500 | 502 | 503 | 504 => Err(super::Trouble::Passing(self.refusal(answer), None)),
                status => Err(self.unauthorized(&format!("the token server answers {status}")).into()),
            }
        })?;
        token::parse(&answer, Instant::now()).map_err(|why| self.unauthorized(&format!("the token server: {why}")))
    }

    fn get_token(
        &self,
        realm: &Url,
        service: &str,
        scopes: &[String],
        secret: Option<&Secret>,
    ) -> Result<std::result::Result<Answer, Fault>> {
        let mut url = realm.clone();
        let parameters = scopes.iter().map(|scope| ("scope", scope.as_str()));
        for (name, value) in
            Some(("service", service)).filter(|(_, value)| !value.is_empty()).into_iter().chain(parameters)
        {
            url = url.with(name, value).map_err(|why| self.unauthorized(&why))?;
        }
        let mut headers = HeaderMap::new();
        if let Some(Secret::Password { user, password }) = secret {
            url = url.with("account", user).map_err(|why| self.unauthorized(&why))?;
            headers.extend(basic(user, password).map(|value| (AUTHORIZATION, value)));
        }
        self.ask_realm(&Method::GET, &url, &headers, Payload::Empty)
    }

    fn exchange_identity(
        &self,
        realm: &Url,
        service: &str,
        scopes: &[String],
        identity: &str,
    ) -> Result<std::result::Result<Answer, Fault>> {
        let encoded = |text: &str| escape(text).replace(['/'], "%2F").replace(':', "%3A");
        let form = format!(
            "grant_type=refresh_token&service={}&client_id={CLIENT}&scope={}&refresh_token={}",
            encoded(service),
            encoded(&scopes.join(" ")),
            encoded(identity)
        );
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        self.ask_realm(&Method::POST, realm, &headers, Payload::Bytes(form.as_bytes()))
    }

    /// Its redirects are not followed: where they lead to is not the host that was looked at.
    fn ask_realm(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        payload: Payload<'_>,
    ) -> Result<std::result::Result<Answer, Fault>> {
        let answered = self.wire.exchange(method, url, headers, payload, true)?;
        Ok(answered.map(|response| {
            let (parts, body) = response.into_parts();
            Answer { status: parts.status.as_u16(), headers: parts.headers, url: url.clone(), body }
        }))
    }
}
