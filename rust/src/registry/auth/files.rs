//! Where users keep credentials: auth.json of containers-auth.json(5) and docker's config.json. Read, never written.

use super::{Secret, from_base64, helper};
use crate::error::{Error, Result};
use crate::image::reference::HUB;
use crate::registry::cancel::Cancel;
use crate::registry::conf::{home, place, read, user_directory};
use serde_json::Value;
use std::path::PathBuf;

/// In the order in which they are asked. A file that $REGISTRY_AUTH_FILE names is the only one.
fn files() -> Vec<PathBuf> {
    if let Some(named) = place("REGISTRY_AUTH_FILE") {
        return vec![named];
    }
    let uid = rustix::process::getuid().as_raw();
    let runtime = place("XDG_RUNTIME_DIR").map(|runtime| runtime.join("containers"));
    let runtime = runtime.unwrap_or_else(|| PathBuf::from(format!("/run/containers/{uid}")));
    let docker = place("DOCKER_CONFIG").or_else(|| Some(home()?.join(".docker")));
    let all = [Some(runtime), user_directory()].map(|directory| directory.map(|directory| directory.join("auth.json")));
    all.into_iter().chain([docker.map(|docker| docker.join("config.json"))]).flatten().collect()
}

pub fn find(account: &str, repository: &str, cancel: &Cancel) -> Result<Option<Secret>> {
    for path in files() {
        let Some(bytes) = read(&path)? else { continue };
        // Of an error no more than the place is told: the text around it may be a password.
        let bad = |why: String| Error::Auth(format!("{}: {why}", path.display()));
        let whole: Value = serde_json::from_slice(&bytes)
            .map_err(|error| bad(format!("it is not JSON: line {}, column {}", error.line(), error.column())))?;
        let found = match choose(&whole, account, repository) {
            Choice::Helper { name, is_for_this_host } => {
                let asked = helper::ask(&name, &server(account), cancel);
                match asked {
                    Err(error) if is_for_this_host => return Err(error),
                    Ok(Some(secret)) => Some(secret),
                    _ => entry(&whole, account, repository),
                }
            }
            Choice::Entry => entry(&whole, account, repository),
        };
        match found {
            None => continue,
            Some(secret) => return Ok(Some(secret)),
        }
    }
    Ok(None)
}

#[derive(Debug, PartialEq)]
enum Choice {
    Helper { name: String, is_for_this_host: bool },
    Entry,
}

/// credHelpers, then credsStore, then auths.
fn choose(whole: &Value, account: &str, repository: &str) -> Choice {
    let helpers = whole.get("credHelpers").and_then(Value::as_object);
    let own = helpers.and_then(|helpers| best(helpers.iter(), account, repository)).and_then(Value::as_str);
    let store = whole.get("credsStore").and_then(Value::as_str).filter(|store| !store.is_empty());
    match (own, store) {
        (Some(name), _) => Choice::Helper { name: name.into(), is_for_this_host: true },
        (None, Some(name)) => Choice::Helper { name: name.into(), is_for_this_host: false },
        (None, None) => Choice::Entry,
    }
}

fn entry(whole: &Value, account: &str, repository: &str) -> Option<Secret> {
    let found = best(whole.get("auths")?.as_object()?.iter(), account, repository)?;
    let text = |name: &str| found.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("registrytoken") {
        return Some(Secret::Bearer(token.into()));
    }
    if let Some(token) = text("identitytoken") {
        return Some(Secret::Identity(token.into()));
    }
    if let (Some(user), Some(password)) = (text("username"), text("password")) {
        return Some(Secret::Password { user: user.into(), password: password.into() });
    }
    let plain = String::from_utf8(from_base64(text("auth")?)?).ok()?;
    let (user, password) = plain.split_once(':')?;
    Some(Secret::Password { user: user.into(), password: password.trim_end_matches('\0').into() })
}

/// The value under the longest key that the repository lies in.
fn best<'a>(
    entries: impl Iterator<Item = (&'a String, &'a Value)>,
    account: &str,
    repository: &str,
) -> Option<&'a Value> {
    let name = format!("{account}/{repository}");
    let fits = |key: &str| name == key || name.strip_prefix(key).is_some_and(|rest| rest.starts_with('/'));
    let fitting =
        entries.filter_map(|(key, value)| Some(normal(key)).filter(|key| fits(key)).map(|key| (key.len(), value)));
    fitting.max_by_key(|(length, _)| *length).map(|(_, value)| value)
}

/// A key with a scheme is docker's, which means the host alone ("https://index.docker.io/v1/").
fn normal(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let name = bare.map_or(key, |bare| bare.split('/').next().unwrap_or_default()).trim_end_matches('/');
    let (host, rest) = name.split_once('/').map_or((name, ""), |(host, rest)| (host, rest));
    let host = if matches!(host, "index.docker.io" | "registry-1.docker.io") { HUB } else { host };
    if rest.is_empty() { host.into() } else { format!("{host}/{rest}") }
}

/// What helpers know a registry by.
fn server(account: &str) -> String {
    if account == HUB { "https://index.docker.io/v1/".into() } else { account.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn user(whole: &Value, account: &str, repository: &str) -> Option<String> {
        match entry(whole, account, repository)? {
            Secret::Password { user, password } => Some(format!("{user}:{password}")),
            Secret::Identity(token) => Some(format!("identity {token}")),
            Secret::Bearer(token) => Some(format!("bearer {token}")),
        }
    }

    fn auth(text: &str) -> Value {
        json!({"auth": super::super::base64(text.as_bytes())})
    }

    #[test]
    fn the_longest_key_counts() {
        let whole = json!({"auths": {
            "r.example": auth("host:p"), "r.example/team": auth("team:p:q"), "r.example/team/app": auth("app:p"), "https://index.docker.io/v1/": auth("hub:p"),
            "https://old.example/v1/": {"identitytoken": "i", "auth": ""}, "t.example": {"registrytoken": "b"}, "n.example": {}, "x.example": {"auth": "%"},
        }});
        let found = |account, repository| user(&whole, account, repository);
        assert_eq!(found("r.example", "x").unwrap(), "host:p");
        assert_eq!(found("r.example", "team/x").unwrap(), "team:p:q");
        assert_eq!(found("r.example", "team/app").unwrap(), "app:p");
        assert_eq!(found("r.example", "team/app/x").unwrap(), "app:p");
        assert_eq!(found("r.example", "teams").unwrap(), "host:p");
        assert_eq!(found("docker.io", "library/alpine").unwrap(), "hub:p");
        assert_eq!(found("old.example", "x").unwrap(), "identity i");
        assert_eq!(found("t.example", "x").unwrap(), "bearer b");
        for account in ["n.example", "x.example", "r.example:5000", "example", "evilr.example", "r.example.evil.test"] {
            assert_eq!(found(account, "x"), None, "{account}");
        }
    }

    #[test]
    fn helpers_come_first() {
        let whole =
            json!({"credHelpers": {"r.example": "one"}, "credsStore": "two", "auths": {"r.example": auth("u:p")}});
        assert_eq!(choose(&whole, "r.example", "x"), Choice::Helper { name: "one".into(), is_for_this_host: true });
        assert_eq!(choose(&whole, "s.example", "x"), Choice::Helper { name: "two".into(), is_for_this_host: false });
        assert_eq!(choose(&json!({"auths": {}}), "s.example", "x"), Choice::Entry);
    }

    proptest! {
        #[test]
        fn keys_of_other_hosts_never_fit(key in "[a-z./:]{0,20}", account in "[a-z]{1,6}\\.[a-z]{2}") {
            let whole = json!({"auths": {key.clone(): auth("u:p")}});
            if user(&whole, &account, "a/b").is_some() {
                let normal = normal(&key);
                prop_assert_eq!(normal.split('/').next().unwrap(), account.as_str());
            }
        }
    }
}
