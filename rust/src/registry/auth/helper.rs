//! docker-credential-NAME: a program of the user's that keeps credentials. Found on PATH, given the registry's name, and a time.

use super::Secret;
use crate::error::{Error, Result};
use crate::registry::cancel::Cancel;
use serde_json::Value;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// It may ask the user something.
const TIME: Duration = Duration::from_secs(60);
const OUTPUT_MAX: usize = 64 << 10;
const PERIOD: Duration = Duration::from_millis(50);

/// None: it has none for this server.
pub fn ask(name: &str, server: &str, cancel: &Cancel) -> Result<Option<Secret>> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_word) {
        return Err(Error::Auth("a file of credentials names a helper whose name is none".into()));
    }
    let program = format!("docker-credential-{name}");
    let bad = |why: &str| Error::Auth(format!("{program}: {why}"));
    let path = on_path(&program).ok_or_else(|| bad("a file of credentials names it, and it is not on PATH"))?;
    let mut child = start(&path, server).map_err(|error| bad(&error.to_string()))?;
    let output = collect(&mut child, cancel);
    finish(&mut child);
    read(&output.map_err(|why| bad(&why))?).map_err(bad)
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places = std::env::split_paths(&path).filter(|place| place.is_absolute());
    places.map(|place| place.join(program)).find(|path| path.is_file())
}

fn start(path: &std::path::Path, server: &str) -> std::io::Result<Child> {
    // A file, not a pipe: whoever does not read it does no harm.
    let input = rustix::fs::memfd_create("server", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut input = std::fs::File::from(input);
    input.write_all(server.as_bytes())?;
    std::io::Seek::rewind(&mut input)?;
    let _gate = crate::gate::spawning();
    Command::new(path).arg("get").stdin(input).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
}

/// What it prints, until it closes its output. Its status may be somebody else's to know: the host may wait for any child.
fn collect(child: &mut Child, cancel: &Cancel) -> std::result::Result<Vec<u8>, String> {
    let Some(mut output) = child.stdout.take() else { return Err("it has no output".into()) };
    let (end, mut bytes, mut buffer) = (Instant::now() + TIME, Vec::new(), [0; 4096]);
    loop {
        if cancel.is_set() {
            return Err("interrupted".into());
        }
        if Instant::now() >= end {
            return Err(format!("it has not answered for {} seconds", TIME.as_secs()));
        }
        let mut waiting = [rustix::event::PollFd::new(&output, rustix::event::PollFlags::IN)];
        let period = rustix::event::Timespec::try_from(PERIOD).map_err(|error| error.to_string())?;
        match rustix::event::poll(&mut waiting, Some(&period)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(errno.to_string()),
        }
        match output.read(&mut buffer).map_err(|error| error.to_string())? {
            0 => return Ok(bytes),
            length => bytes.extend_from_slice(&buffer[..length]),
        }
        if bytes.len() > OUTPUT_MAX {
            return Err("it prints too much".into());
        }
    }
}

/// A second for its own end.
fn finish(child: &mut Child) {
    for _ in 0..20 {
        match child.try_wait() {
            Ok(None) => std::thread::sleep(PERIOD),
            _ => return,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Its errors are text on the same stream; what is no JSON with both parts is "there are none".
fn read(output: &[u8]) -> std::result::Result<Option<Secret>, &'static str> {
    let Ok(whole) = serde_json::from_slice::<Value>(output) else {
        let text = String::from_utf8_lossy(output).to_ascii_lowercase();
        let is_none = text.contains("not found") || text.trim().is_empty();
        return if is_none { Ok(None) } else { Err("its answer cannot be read") };
    };
    let text = |name: &str| whole.get(name).and_then(Value::as_str);
    match (text("Username"), text("Secret")) {
        (Some("<token>"), Some(token)) => Ok(Some(Secret::Identity(token.into()))),
        (Some(user), Some(password)) if !(user.is_empty() && password.is_empty()) => {
            Ok(Some(Secret::Password { user: user.into(), password: password.into() }))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let password = Secret::Password { user: "u".into(), password: "p".into() };
        assert!(read(br#"{"ServerURL":"x","Username":"u","Secret":"p"}"#) == Ok(Some(password)));
        assert!(read(br#"{"Username":"<token>","Secret":"t"}"#) == Ok(Some(Secret::Identity("t".into()))));
        assert!(read(b"credentials not found in native keychain\n") == Ok(None));
        assert!(read(b"boom").is_err());
        assert!(read(b"{}") == Ok(None));
    }

    #[test]
    fn a_name_is_a_word() {
        for bad in ["", "../x", "a/b", "a b", "a\n", "$(x)"] {
            assert!(matches!(ask(bad, "s", &Cancel::default()), Err(Error::Auth(_))), "{bad}");
        }
    }
}
