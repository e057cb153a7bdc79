//! Credentials: found when a registry asks for them, kept in memory for one call, shown in no error, sent to the registry that they are for
//! and to the token server that `realm` lets it name.

pub mod challenge;
mod files;
mod helper;
pub mod realm;
pub mod token;

use crate::error::Result;
use crate::registry::cancel::Cancel;

/// What the caller gave.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Given {
    /// Look in the user's files.
    #[default]
    Nothing,
    Password {
        user: String,
        password: String,
    },
    /// Sent as it is ("Bearer").
    Token(String),
}

/// What is sent.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    Password {
        user: String,
        password: String,
    },
    /// For the token server: it gives a token for this one (OAuth 2's refresh token).
    Identity(String),
    /// For the registry itself.
    Bearer(String),
}

macro_rules! nothing_shown {
    ($($class:ident)*) => { $(
        impl std::fmt::Debug for $class {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($class), "(...)"))
            }
        }
    )* };
}

nothing_shown!(Given Secret);

/// For a host (`account`) and a repository there. None: nobody gave any, and none is kept.
pub fn find(given: &Given, account: &str, repository: &str, cancel: &Cancel) -> Result<Option<Secret>> {
    match given {
        Given::Password { user, password } => {
            Ok(Some(Secret::Password { user: user.clone(), password: password.clone() }))
        }
        Given::Token(token) => Ok(Some(Secret::Bearer(token.clone()))),
        Given::Nothing => files::find(account, repository, cancel),
    }
}

/// RFC 4648, with padding.
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let letter = LETTERS[(number >> (18 - 6 * at)) as usize & 63] as char;
            out.push(if at <= chunk.len() { letter } else { '=' });
        }
    }
    out
}

/// Its inverse; None for what is none.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    let bare = text.trim_end_matches('=');
    if text.len() - bare.len() > 2 || bare.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(bare.len() / 4 * 3 + 2);
    let (mut number, mut bits) = (0u32, 0);
    for byte in bare.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        (number, bits) = ((number << 6 | u32::from(value)) & 0xffff, bits + 6);
        if bits >= 8 {
            bits -= 8;
            out.push((number >> bits) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_of_a_secret_is_shown() {
        let secret = Secret::Password { user: "u".into(), password: "hunter2".into() };
        assert_eq!(format!("{secret:?} {:?}", Given::Token("hunter2".into())), "Secret(...) Given(...)");
        assert_eq!(base64(b"Aladdin:open sesame"), "QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(from_base64("a"), None);
        assert_eq!(from_base64("a b="), None);
    }

    proptest! {
        #[test]
        fn base64_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..40), text in "\\PC{0,20}") {
            prop_assert_eq!(from_base64(&base64(&bytes)), Some(bytes));
            let _ = from_base64(&text);
        }
    }
}
