//! WWW-Authenticate (RFC 9110, 11.6.1), read strictly: what could be read in two ways is not read. Pure.

/// Of one header's text, of challenges in all, of parameters in one.
const TEXT_MAX: usize = 8 << 10;
const MOST: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Lower-case.
    pub scheme: String,
    /// Names in lower case, each once.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// All challenges of one header.
pub fn parse(text: &str) -> Result<Vec<Challenge>, &'static str> {
    if text.len() > TEXT_MAX {
        return Err("it is too long");
    }
    let mut reader = Reader { rest: text };
    let mut found: Vec<Challenge> = Vec::new();
    reader.skip_list();
    while !reader.rest.is_empty() {
        if found.len() == MOST {
            return Err("it has too many challenges");
        }
        found.push(reader.challenge()?);
        if !reader.skip_list() && !reader.rest.is_empty() {
            return Err("something follows a challenge without a comma");
        }
    }
    if found.is_empty() { Err("it is empty") } else { Ok(found) }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn spaces(&mut self) -> bool {
        let after = self.rest.trim_start_matches([' ', '\t']);
        let some = after.len() < self.rest.len();
        self.rest = after;
        some
    }

    /// Spaces and commas; was there a comma?
    fn skip_list(&mut self) -> bool {
        let after = self.rest.trim_start_matches([' ', '\t', ',']);
        let comma = self.rest[..self.rest.len() - after.len()].contains(',');
        self.rest = after;
        comma
    }

    fn token(&mut self) -> Option<&'a str> {
        let is_end = |letter: char| !letter.is_ascii_alphanumeric() && !"!#$%&'*+-.^_`|~".contains(letter);
        let end = self.rest.find(is_end).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    fn challenge(&mut self) -> Result<Challenge, &'static str> {
        let scheme = self.token().ok_or("it has a challenge without a scheme")?.to_ascii_lowercase();
        let mut parameters: Vec<(String, String)> = Vec::new();
        if !self.spaces() {
            return Ok(Challenge { scheme, parameters });
        }
        if self.skip_token68() {
            return Ok(Challenge { scheme, parameters });
        }
        while let Some((name, value)) = self.parameter()? {
            if parameters.iter().any(|(found, _)| *found == name) {
                return Err("a parameter stands twice in a challenge");
            }
            if parameters.len() == MOST {
                return Err("a challenge has too many parameters");
            }
            parameters.push((name, value));
            // After a comma there is a parameter, or the next challenge: a token without "=".
            let before = self.rest;
            if !self.skip_list() {
                break;
            }
            if !self.begins_parameter() {
                self.rest = before;
                break;
            }
        }
        Ok(Challenge { scheme, parameters })
    }

    /// One word of letters with padding, that is no parameter ("Negotiate YII=").
    fn skip_token68(&mut self) -> bool {
        let is_end = |letter: char| !letter.is_ascii_alphanumeric() && !"-._~+/".contains(letter);
        let body = self.rest.find(is_end).unwrap_or(self.rest.len());
        let after = self.rest[body..].trim_start_matches('=');
        let is_one = body > 0 && (after.is_empty() || after.trim_start_matches([' ', '\t']).starts_with(','));
        let padding = self.rest[body..].len() - after.len();
        if is_one && (padding > 0 || !self.begins_parameter()) {
            self.rest = after;
            return true;
        }
        false
    }

    fn begins_parameter(&self) -> bool {
        let mut ahead = Reader { rest: self.rest };
        if ahead.token().is_none() {
            return false;
        }
        ahead.spaces();
        ahead.rest.starts_with('=')
    }

    fn parameter(&mut self) -> Result<Option<(String, String)>, &'static str> {
        if !self.begins_parameter() {
            return if self.rest.is_empty() || self.rest.starts_with(',') {
                Ok(None)
            } else {
                Err("a parameter is none")
            };
        }
        let name = self.token().unwrap_or_default().to_ascii_lowercase();
        self.spaces();
        self.rest = &self.rest[1..];
        self.spaces();
        let value = match self.rest.strip_prefix('"') {
            Some(rest) => {
                self.rest = rest;
                self.quoted()?
            }
            None => self.token().ok_or("a parameter has no value")?.to_string(),
        };
        Ok(Some((name, value)))
    }

    fn quoted(&mut self) -> Result<String, &'static str> {
        let mut value = String::new();
        let mut letters = self.rest.char_indices();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(value);
                }
                '\\' => value.push(letters.next().ok_or("a quoted text does not end")?.1),
                letter if letter.is_control() && letter != '\t' => return Err("a quoted text has control characters"),
                letter => value.push(letter),
            }
        }
        Err("a quoted text does not end")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn challenges_of_registries_are_read() {
        let hub = "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:library/alpine:pull,push\",error=\"insufficient_scope\"";
        let read = parse(hub).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].scheme, "bearer");
        assert_eq!(read[0].get("scope"), Some("repository:library/alpine:pull,push"));
        let both = parse("Basic realm=\"a \\\"b\\\"\", Bearer realm = x , service=y, Negotiate, NTLM YII==").unwrap();
        let names: Vec<&str> = both.iter().map(|challenge| challenge.scheme.as_str()).collect();
        assert_eq!(names, ["basic", "bearer", "negotiate", "ntlm"]);
        assert_eq!(both[0].parameters, pairs(&[("realm", "a \"b\"")]));
        assert_eq!(both[1].parameters, pairs(&[("realm", "x"), ("service", "y")]));
        assert_eq!(parse("Basic").unwrap()[0].parameters, []);
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        let long = format!("Bearer realm=\"{}\"", "a".repeat(9000));
        let many = "Basic, ".repeat(20);
        for bad in [
            "",
            " ",
            ",",
            "=x",
            "\"a\"",
            "Bearer realm=\"x",
            "Bearer realm=\"x\\",
            "Bearer realm=,a=b",
            "Bearer realm=\"a\",realm=\"b\"",
            "Bearer Realm=a, realm=b",
            "Bearer realm=\"a\" service=\"b\"",
            "Bearer realm=\"a\nb\"",
            "Bearer realm=a b",
            &long,
            &many,
        ] {
            assert!(parse(bad).is_err(), "{bad:?}: {:?}", parse(bad));
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic_or_endless(text in "\\PC{0,80}|[a-zA-Z=\", \\\\]{0,60}") {
            let _ = parse(&text);
        }

        #[test]
        fn what_is_written_is_read(
            scheme in "[A-Za-z]{1,8}",
            list in prop::collection::btree_map("[a-z]{1,6}", "[ -~]{0,20}", 1..5),
        ) {
            let quote = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"");
            let parts: Vec<String> = list.iter().map(|(name, value)| format!("{name}=\"{}\"", quote(value))).collect();
            let read = parse(&format!("{scheme} {}", parts.join(", "))).unwrap();
            prop_assert_eq!(read.len(), 1);
            prop_assert_eq!(&read[0].scheme, &scheme.to_ascii_lowercase());
            prop_assert_eq!(&read[0].parameters, &list.into_iter().collect::<Vec<_>>());
        }
    }
}
