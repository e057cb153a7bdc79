//! registries.conf (containers-registries.conf(5)): where a name is really looked for. Short names are Docker Hub's, whatever a file says
//! of unqualified-search-registries.

use super::{place, read, user_directory};
use crate::error::{Error, Result};
use crate::image::digest::cut;
use crate::image::reference::{HUB, Reference};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const SYSTEM: &str = "/etc/containers/registries.conf";
/// Where Docker Hub answers.
const HUB_REGISTRY: &str = "registry-1.docker.io";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Security {
    /// https, and the certificate is verified.
    Verified,
    /// A file says `insecure`: https without verification, else http.
    Insecure,
    /// On this machine itself, and no file says anything: http, else https without verification, as docker has it.
    Loopback,
}

/// One place where a repository may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// With its port where one was said.
    pub host: String,
    pub repository: String,
    pub security: Security,
    /// As credentials are kept for it: Docker Hub's under its own name, not that of the machine which answers.
    pub account: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
struct Entry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    insecure: Option<bool>,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default, rename = "mirror")]
    mirrors: Vec<Mirror>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mirror {
    location: String,
    insecure: Option<bool>,
    pull_from_mirror: Option<String>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default, rename = "registry")]
    entries: Vec<Entry>,
    /// Version 1 of the format.
    registries: Option<toml::Table>,
}

/// All entries that count, by prefix.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Registries {
    entries: BTreeMap<String, Entry>,
}

impl Registries {
    /// As podman reads them: one file, then what lies in the .d directories, whose entries replace those of the same prefix.
    pub fn load() -> Result<Registries> {
        let user = user_directory().map(|directory| directory.join("registries.conf"));
        let named = place("CONTAINERS_REGISTRIES_CONF");
        let mut drop_ins = vec![PathBuf::from(format!("{SYSTEM}.d"))];
        let file = match (named, &user) {
            (Some(named), _) => named,
            (None, Some(user)) if user.is_file() => {
                drop_ins.clear();
                user.clone()
            }
            _ => SYSTEM.into(),
        };
        drop_ins.extend(user.map(|user| user.with_extension("conf.d")));
        let mut found = Registries::default();
        for path in std::iter::once(file).chain(drop_ins.iter().flat_map(|directory| in_order(directory))) {
            if let Some(bytes) = read(&path)? {
                let bad = |why: String| Error::Image(format!("{}: {why}", path.display()));
                let text = String::from_utf8(bytes).map_err(|_| bad("it is not UTF-8".into()))?;
                found.add(&text).map_err(bad)?;
            }
        }
        Ok(found)
    }

    /// Of one file's text.
    pub fn parse(text: &str) -> std::result::Result<Registries, String> {
        let mut found = Registries::default();
        found.add(text).map(|()| found)
    }

    fn add(&mut self, text: &str) -> std::result::Result<(), String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        if file.registries.is_some() {
            return Err("it is in version 1 of its format, which is no longer read: write [[registry]] tables".into());
        }
        for mut entry in file.entries {
            entry.location = entry.location.trim_end_matches('/').to_string();
            if entry.prefix.is_empty() {
                entry.prefix = entry.location.clone();
            }
            entry.prefix = entry.prefix.trim_end_matches('/').to_string();
            let is_wild = entry.prefix.starts_with("*.");
            if entry.location.is_empty() && !is_wild {
                return Err(format!("the registry {:?} has no location", cut(&entry.prefix)));
            }
            if is_wild && entry.prefix.contains('/') {
                return Err(format!("the prefix {:?} has a path after its wildcard", cut(&entry.prefix)));
            }
            for mirror in &mut entry.mirrors {
                mirror.location = mirror.location.trim_end_matches('/').to_string();
                if !matches!(mirror.pull_from_mirror.as_deref(), None | Some("all" | "digest-only" | "tag-only")) {
                    return Err(format!(
                        "pull-from-mirror of {:?} is none of all, digest-only, tag-only",
                        cut(&mirror.location)
                    ));
                }
            }
            let places = entry.mirrors.iter().map(|mirror| &mirror.location).chain(Some(&entry.location));
            if let Some(bad) = places.into_iter().find(|place| place.contains("://")) {
                return Err(format!("the location {:?} has a scheme, and none belongs there", cut(bad)));
            }
            self.entries.insert(entry.prefix.clone(), entry);
        }
        Ok(())
    }

    /// The entry with the longest prefix that fits.
    fn of(&self, name: &str) -> Option<(&Entry, usize)> {
        let fitting = self.entries.values().filter_map(|entry| Some((entry, fits(&entry.prefix, name)?)));
        fitting.max_by_key(|(_, length)| *length)
    }

    /// Where an image is fetched from, in the order in which it is tried.
    pub fn sources(&self, reference: &Reference) -> Result<Vec<Endpoint>> {
        let name = reference.name();
        let Some((entry, length)) = self.of(&name) else { return Ok(vec![endpoint(&name, None)?]) };
        refuse_blocked(entry, &name)?;
        let by_digest = reference.digest.is_some();
        let counts = |mirror: &&Mirror| match mirror.pull_from_mirror.as_deref() {
            Some("digest-only") => by_digest,
            Some("tag-only") => !by_digest,
            Some(_) => true,
            None => by_digest || !entry.mirror_by_digest_only,
        };
        let rest = &name[length..];
        let mut found = Vec::new();
        for mirror in entry.mirrors.iter().filter(counts) {
            found.push(endpoint(&format!("{}{rest}", mirror.location), mirror.insecure)?);
        }
        found.push(itself(entry, &name, rest)?);
        Ok(found)
    }

    /// Where an image is sent to: never a mirror.
    pub fn destination(&self, reference: &Reference) -> Result<Endpoint> {
        let name = reference.name();
        let Some((entry, length)) = self.of(&name) else { return endpoint(&name, None) };
        refuse_blocked(entry, &name)?;
        itself(entry, &name, &name[length..])
    }
}

fn refuse_blocked(entry: &Entry, name: &str) -> Result<()> {
    let text = format!("{name}: registries.conf of this machine blocks {}", entry.prefix);
    if entry.blocked { Err(Error::Registry { text, status: None, code: None }) } else { Ok(()) }
}

fn itself(entry: &Entry, name: &str, rest: &str) -> Result<Endpoint> {
    let whole = if entry.location.is_empty() { name.to_string() } else { format!("{}{rest}", entry.location) };
    endpoint(&whole, entry.insecure)
}

/// How much of the name a prefix covers: it ends where a part of the name does.
fn fits(prefix: &str, name: &str) -> Option<usize> {
    if let Some(domain) = prefix.strip_prefix('*') {
        let host = name.split('/').next().unwrap_or_default();
        let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare);
        let length = [host, bare].into_iter().find(|host| host.len() > domain.len() && host.ends_with(domain))?.len();
        return Some(length);
    }
    let rest = name.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with(['/', ':', '@'])).then_some(prefix.len())
}

fn endpoint(whole: &str, insecure: Option<bool>) -> Result<Endpoint> {
    let bad = || Error::Image(format!("registries.conf makes {:?} of a name, which is none", cut(whole)));
    // A rewritten name has to keep to the grammar: it goes into paths of requests.
    let (host, repository) = whole.split_once('/').ok_or_else(bad)?;
    let read =
        Reference::parse(&format!("{}/{repository}", if is_plain(host) { format!("{host}:443") } else { host.into() }));
    let read = read.map_err(|_| bad())?;
    let origin = crate::registry::url::Origin::of(host, true).ok_or_else(bad)?;
    let security = match insecure {
        Some(true) => Security::Insecure,
        None if origin.is_loopback() && !super::certs::has_authorities(host) => Security::Loopback,
        _ => Security::Verified,
    };
    let is_hub = matches!(host, HUB | "index.docker.io" | HUB_REGISTRY);
    let host_name = if is_hub { HUB_REGISTRY.to_string() } else { host.to_string() };
    let account = if is_hub { HUB.to_string() } else { host.to_string() };
    Ok(Endpoint { host: host_name, repository: read.path, security, account })
}

/// Without a dot or a port a host would be read as a part of the path.
fn is_plain(host: &str) -> bool {
    !host.contains(['.', ':']) && host != "localhost"
}

fn in_order(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Registries {
        let mut read = Registries::default();
        read.add(text).unwrap();
        read
    }

    fn places(registries: &Registries, name: &str) -> Vec<String> {
        let found = registries.sources(&Reference::parse(name).unwrap()).unwrap();
        found
            .iter()
            .map(|endpoint| format!("{}/{} {:?}", endpoint.host, endpoint.repository, endpoint.security))
            .collect()
    }

    #[test]
    fn without_a_file_names_are_where_they_say() {
        let none = Registries::default();
        assert_eq!(places(&none, "alpine"), ["registry-1.docker.io/library/alpine Verified"]);
        assert_eq!(places(&none, "localhost:5000/a/b"), ["localhost:5000/a/b Loopback"]);
        assert_eq!(places(&none, "[::1]:5000/a"), ["[::1]:5000/a Loopback"]);
        assert_eq!(places(&none, "quay.io/a"), ["quay.io/a Verified"]);
        assert_eq!(none.sources(&Reference::parse("alpine").unwrap()).unwrap()[0].account, "docker.io");
    }

    #[test]
    fn prefixes_are_rewritten_and_the_longest_counts() {
        let read = of(r#"
            unqualified-search-registries = ["evil.example"]
            short-name-mode = "enforcing"
            [[registry]]
            prefix = "a.example/team"
            location = "b.example:5000/mirror/"
            [[registry]]
            location = "a.example"
            insecure = true
            [[registry]]
            prefix = "*.wild.example"
            location = "w.example"
            [[registry]]
            prefix = "docker.io"
            location = "hub.example/proxy"
        "#);
        assert_eq!(places(&read, "a.example/team/x:1"), ["b.example:5000/mirror/x Verified"]);
        assert_eq!(places(&read, "a.example/teams/x"), ["a.example/teams/x Insecure"]);
        assert_eq!(places(&read, "x.wild.example/y"), ["w.example/y Verified"]);
        assert_eq!(places(&read, "wild.example/y"), ["wild.example/y Verified"]);
        assert_eq!(places(&read, "alpine"), ["hub.example/proxy/library/alpine Verified"]);
    }

    #[test]
    fn mirrors_come_first_and_some_for_digests_only() {
        let read = of(r#"
            [[registry]]
            location = "a.example"
            mirror-by-digest-only = true
            [[registry.mirror]]
            location = "m.example/a"
            [[registry]]
            location = "b.example"
            [[registry.mirror]]
            location = "m.example/b"
            insecure = true
            pull-from-mirror = "tag-only"
        "#);
        let hex = "0".repeat(64);
        assert_eq!(places(&read, "a.example/x"), ["a.example/x Verified"]);
        assert_eq!(
            places(&read, &format!("a.example/x@sha256:{hex}")),
            ["m.example/a/x Verified", "a.example/x Verified"]
        );
        assert_eq!(places(&read, "b.example/x"), ["m.example/b/x Insecure", "b.example/x Verified"]);
        assert_eq!(places(&read, &format!("b.example/x@sha256:{hex}")), ["b.example/x Verified"]);
        assert_eq!(read.destination(&Reference::parse("b.example/x").unwrap()).unwrap().host, "b.example");
    }

    #[test]
    fn what_is_blocked_or_none_is_refused() {
        let read = of("[[registry]]\nlocation = \"a.example\"\nblocked = true\n");
        assert!(matches!(read.sources(&Reference::parse("a.example/x").unwrap()), Err(Error::Registry { .. })));
        for bad in [
            "x",
            "[[registry]]",
            "[[registry]]\nlocation = 1",
            "[[registry]]\nprefix = \"a\"",
            "[[registry]]\nlocation = \"http://a\"",
            "[registries.insecure]\nregistries = []",
            "[[registry]]\nlocation = \"a\"\n[[registry.mirror]]\nlocation = \"m\"\npull-from-mirror = \"x\"",
        ] {
            assert!(Registries::default().add(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rewritten_name_is_a_name() {
        let read = of("[[registry]]\nprefix = \"a.example\"\nlocation = \"b.example/../x\"\n");
        assert!(read.sources(&Reference::parse("a.example/x").unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,80}|(\\[\\[registry\\]\\]\n|prefix = \"[a-z.*/:]{0,12}\"\n|location = \"[a-z.*/:]{0,12}\"\n|insecure = true\n){0,8}") {
            let mut read = Registries::default();
            if read.add(&text).is_ok() {
                let _ = read.sources(&Reference::parse("a.b/c").unwrap());
            }
        }
    }
}
