//! The answer of a token server (distribution, "Token Authentication Specification"). Pure.

use serde_json::Value;
use std::time::{Duration, Instant};

/// Of the answer, and of a token in it: what fits into a header that servers take.
pub const ANSWER_MAX: u64 = 64 << 10;
const TOKEN_MAX: usize = 16 << 10;
/// Where it says nothing.
const LIFE: u64 = 60;

#[derive(Clone)]
pub struct Token {
    pub text: String,
    pub until: Instant,
}

/// A token is what can stand in a header, and no more.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= TOKEN_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
}

pub fn parse(body: &[u8], now: Instant) -> Result<Token, &'static str> {
    let whole: Value = serde_json::from_slice(body).map_err(|_| "its answer is not JSON")?;
    let text = |name: &str| whole.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let token = text("token").or_else(|| text("access_token")).ok_or("its answer has no token")?;
    if !is_token(token) {
        return Err("its token is too long, or has characters that no header takes");
    }
    let life = whole.get("expires_in").and_then(Value::as_u64).unwrap_or(LIFE).clamp(1, 86_400);
    // Not used in its last seconds.
    Ok(Token { text: token.into(), until: now + Duration::from_secs(life - (life / 10).min(10)) })
}

/// What is asked for: never more than `ours`, for whichever repository the registry calls it.
pub fn scope(ours: &str, theirs: Option<&str>) -> Vec<String> {
    let mut wanted: Vec<String> = ours.split(' ').map(String::from).collect();
    let Some((kind, allowed)) =
        wanted.first().and_then(|first| parts(first)).map(|(kind, _, actions)| (kind.to_string(), actions.to_string()))
    else {
        return wanted;
    };
    let is_modest = |scope: &str| {
        let allowed: Vec<&str> = allowed.split(',').collect();
        parts(scope).is_some_and(|(found, _, actions)| {
            found == kind && actions.split(',').all(|action| allowed.contains(&action))
        })
    };
    for scope in theirs.unwrap_or_default().split(' ').filter(|scope| scope.len() <= 512 && is_modest(scope)).take(4) {
        let names_same =
            wanted.iter().any(|ours| parts(ours).map(|ours| ours.1) == parts(scope).map(|theirs| theirs.1));
        if !names_same {
            wanted.push(scope.into());
        }
    }
    wanted
}

/// (type, name, actions)
fn parts(scope: &str) -> Option<(&str, &str, &str)> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    Some((kind, name, actions))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_within_limits() {
        let now = Instant::now();
        let token = parse(br#"{"token":"abc","expires_in":300}"#, now).unwrap();
        assert_eq!((token.text.as_str(), token.until - now), ("abc", Duration::from_secs(290)));
        assert_eq!(parse(br#"{"access_token":"abc","token":""}"#, now).unwrap().text, "abc");
        let giant = format!("{{\"token\":\"{}\"}}", "a".repeat(TOKEN_MAX + 1));
        for bad in ["", "{", "[]", "{}", "{\"token\":1}", "{\"token\":\"a b\"}", "{\"token\":\"a\\r\\nX: y\"}", &giant]
        {
            assert!(parse(bad.as_bytes(), now).is_err(), "{bad:.40}");
        }
    }

    #[test]
    fn a_registry_cannot_ask_for_more_than_is_needed() {
        let pull = "repository:a/b:pull";
        assert_eq!(scope(pull, None), [pull]);
        assert_eq!(scope(pull, Some(pull)), [pull]);
        assert_eq!(scope(pull, Some("repository:proxy/a/b:pull")), [pull, "repository:proxy/a/b:pull"]);
        for greedy in
            ["repository:a/b:pull,push", "repository:a/b:*", "registry:catalog:*", "repository:c:delete", "x", ""]
        {
            assert_eq!(scope(pull, Some(greedy)), [pull], "{greedy}");
        }
    }
}
