//! What can be asked of a repository: its manifests, its tags; and which repositories there are.

use super::answers;
use super::auth::Given;
use super::cancel::supervised;
use super::conf::registries::Registries;
use super::patience::Patience;
use super::session::{Answer, Place, Question, Session};
use super::url::Url;
use crate::error::{Error, Result};
use crate::image::descriptor::{MANIFEST_MAX, media};
use crate::image::digest::{Digest, Hasher};
use crate::image::locks::Check;
use crate::image::reference::Reference;
use serde_json::Value;
use ureq::http::Method;
use ureq::http::header::ACCEPT;

/// Pages of a list, and names in all.
const PAGES_MAX: usize = 1000;
const NAMES_MAX: usize = 1_000_000;
const PAGE_MAX: u64 = 4 << 20;

/// A manifest or index as it came, and what it is said to be.
#[derive(Debug)]
pub struct Fetched {
    pub digest: Digest,
    pub media_type: String,
    pub bytes: Vec<u8>,
}

impl Session<'_> {
    fn manifest_question<'q>(method: Method, path: &'q str, scope: &'q str) -> Question<'q> {
        let headers = media::MANIFESTS.iter().map(|kind| (ACCEPT, kind.to_string())).collect();
        Question { headers, ..Question::new(method, Place::Path(path), scope) }
    }

    /// What a tag or a digest is now. None: this registry does not say; then the manifest itself does.
    pub fn look(&self, version: &str) -> Result<Option<Digest>> {
        let (path, scope) = (self.path(&format!("manifests/{version}")), self.pull_scope());
        let answer = self.ask(&Self::manifest_question(Method::HEAD, &path, &scope))?;
        match answer.status {
            200 => self.said_digest(&answer),
            405 | 501 => Ok(None),
            404 => {
                let sort = if version.contains(':') { "digest" } else { "tag" };
                Err(Error::ImageNotFound(format!(
                    "{}: the registry has no image with the {sort} {version}",
                    self.name()
                )))
            }
            _ => Err(self.refusal(answer)),
        }
    }

    fn said_digest(&self, answer: &Answer) -> Result<Option<Digest>> {
        let said = answers::text(&answer.headers, "docker-content-digest").filter(|said| !said.is_empty());
        said.map(Digest::parse).transpose().map_err(|_| self.failure("a Docker-Content-Digest that is no digest"))
    }

    /// Checked against the digest that was asked for, and against the one in the answer's head.
    pub fn manifest(&self, version: &str, expected: Option<&Digest>) -> Result<Fetched> {
        let (path, scope) = (self.path(&format!("manifests/{version}")), self.pull_scope());
        let question = Self::manifest_question(Method::GET, &path, &scope);
        let (answer, bytes) = self.document(&question, MANIFEST_MAX)?;
        if answer.status != 200 {
            return Err(self.refusal_of(answer, &bytes));
        }
        if answers::text(&answer.headers, "content-encoding").is_some_and(|coding| coding != "identity") {
            return Err(self.failure("a manifest in an encoding that was not asked for"));
        }
        let said = self.said_digest(&answer)?;
        let algorithm = expected.or(said.as_ref()).map_or(crate::image::digest::Algorithm::Sha256, Digest::algorithm);
        let mut hash = Hasher::new(algorithm);
        hash.update(&bytes);
        let digest = hash.finish();
        for promised in expected.into_iter().chain(said.as_ref()) {
            if *promised != digest {
                let text = format!("{}: the manifest {promised} was promised, and {digest} came", self.name());
                return Err(Error::DigestMismatch(text));
            }
        }
        Ok(Fetched { digest, media_type: answers::media_type(&answer.headers), bytes })
    }

    /// Its body has been read.
    fn refusal_of(&self, answer: Answer, bytes: &[u8]) -> Error {
        let body = ureq::Body::builder().data(bytes.to_vec());
        self.refusal(Answer { body, ..answer })
    }

    /// All pages of a list of names under `key`.
    fn list(&self, path: &str, scope: &str, key: &str) -> Result<Vec<String>> {
        let (mut found, mut next): (Vec<String>, Option<Url>) = (Vec::new(), None);
        for _ in 0..PAGES_MAX {
            let place = next.as_ref().map_or(Place::Path(path), Place::Url);
            let (answer, bytes) = self.document(&Question::new(Method::GET, place, scope), PAGE_MAX)?;
            if answer.status != 200 {
                return Err(self.refusal_of(answer, &bytes));
            }
            let bad = || self.failure("a list that cannot be read");
            let whole: Value = serde_json::from_slice(&bytes).map_err(|_| bad())?;
            match whole.get(key) {
                Some(Value::Array(names)) => {
                    for name in names {
                        found.push(name.as_str().ok_or_else(bad)?.to_string());
                    }
                }
                Some(Value::Null) => {}
                _ => return Err(bad()),
            }
            let Some(target) = answers::next_page(&answer.headers) else { return Ok(found) };
            let url =
                answer.url.join(&target).map_err(|why| self.failure(&format!("a next page that is none: {why}")))?;
            if url.origin != answer.url.origin || next.as_ref() == Some(&url) || found.len() > NAMES_MAX {
                return Err(self.failure("a list whose pages lead elsewhere, or do not end"));
            }
            next = Some(url);
        }
        Err(self.failure("a list whose pages do not end"))
    }
}

/// The tags of a repository, in the registry's order.
pub fn tags(name: &Reference, given: &Given, patience: Patience, check: Check<'_>) -> Result<Vec<String>> {
    let endpoint = Registries::load()?.destination(name)?;
    supervised(check, |cancel| {
        let session = Session::new(endpoint, given, patience, cancel);
        session.list(&session.path("tags/list"), &session.pull_scope(), "tags")
    })
}

/// The repositories of a registry, where it tells.
pub fn catalog(host: &str, given: &Given, patience: Patience, check: Check<'_>) -> Result<Vec<String>> {
    let any = Reference::parse(&format!("{host}/catalog"))?;
    let mut endpoint = Registries::load()?.destination(&any)?;
    endpoint.repository = "_catalog".into();
    supervised(check, |cancel| {
        let session = Session::new(endpoint, given, patience, cancel);
        session.list("/v2/_catalog", "registry:catalog:*", "repositories")
    })
}
