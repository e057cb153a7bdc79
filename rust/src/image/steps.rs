//! What builds keep of their steps: a small file for each, named by the digest of all that the step depends on. Written whole or not at
//! all, read by any process. Which step is which is the build's to say; here only its layer is known, so that it is no garbage.

use super::descriptor::{self, Descriptor};
use super::digest::Digest;
use super::locks::{self, Lock};
use super::store::Store;
use crate::error::{Error, Result};
use crate::runtime::make_private_directory;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

const DIRECTORY: &str = "steps";
const SIZE_MAX: u64 = 64 << 10;
/// What no build has asked for that long is forgotten.
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// The time of a file is set again no more often than that.
const PACE: Duration = Duration::from_secs(60);

/// What must stay in the store for the sake of a step.
#[derive(Debug, PartialEq, Eq)]
pub enum Kept {
    /// A layer, and the digest of its tar.
    Layer(Descriptor, Digest),
    /// An image that a build made and gave no name.
    Image(Descriptor),
}

fn failed(errno: Errno) -> Error {
    match errno {
        Errno::NOSPC | Errno::DQUOT => Error::NoSpace { path: None },
        _ => Error::setup("use the steps of builds in the store", errno.raw_os_error()),
    }
}

fn check(key: &str) -> Result<()> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_good = key.len() == 64 && key.bytes().all(is_digit);
    is_good.then_some(()).ok_or_else(|| Error::Value("a step is named by 64 hexadecimal digits".into()))
}

fn directory(store: &Store) -> Result<OwnedFd> {
    let path = store.path().join(DIRECTORY);
    make_private_directory(&path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Mode::empty()).map_err(failed)
}

/// None where there is none that can be used: its layer has to be there too.
pub fn read(store: &Store, key: &str) -> Result<Option<Vec<u8>>> {
    check(key)?;
    let Some((bytes, file)) = content(&directory(store)?, key)? else { return Ok(None) };
    let is_whole = match kept(&bytes) {
        None => true,
        Some(Some(Kept::Layer(layer, _))) => store.blob(&layer.digest, Some(layer.size))?.is_some(),
        Some(Some(Kept::Image(image))) => store.blob(&image.digest, Some(image.size))?.is_some(),
        Some(None) => false,
    };
    if is_whole && age(&file).is_none_or(|age| age > PACE) {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let _ = rustix::fs::futimens(&file, &Timestamps { last_access: now, last_modification: now });
    }
    Ok(is_whole.then_some(bytes))
}

pub fn write(store: &Store, key: &str, bytes: &[u8]) -> Result<()> {
    check(key)?;
    if bytes.len() as u64 > SIZE_MAX {
        return Err(Error::Value(format!("a step of {} bytes; {SIZE_MAX} are the most", bytes.len())));
    }
    store.replace(&directory(store)?, key, bytes)
}

/// Held by who carries the step out; None while somebody else does.
pub fn try_lock(store: &Store, key: &str) -> Result<Option<Lock>> {
    check(key)?;
    locks::try_lock(store.partial(), &format!("step-{key}"))
}

/// What has to stay for the steps that are kept; those that nobody wants any more are removed first.
pub fn roots(store: &Store) -> Result<Vec<Kept>> {
    let mut found = Vec::new();
    remaining(store, KEPT_FOR, |kept| found.extend(kept))?;
    Ok(found)
}

/// Forgets those that no build has asked for that long. What was kept for them goes with the next collection.
pub fn forget(store: &Store, unused_for: Duration) -> Result<()> {
    remaining(store, unused_for, drop)
}

/// Removes what is older, or cannot be understood, and tells of the others.
fn remaining(store: &Store, kept_for: Duration, mut tell: impl FnMut(Option<Kept>)) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match rustix::fs::open(store.path().join(DIRECTORY), flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()), // not made here: this runs on a full disk too
        other => other.map_err(failed)?,
    };
    for entry in Dir::read_from(&dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(key) = entry.file_name().to_str().ok().filter(|name| check(name).is_ok()) else { continue };
        let Some((bytes, file)) = content(&dir, key)? else { continue };
        let is_old = age(&file).is_some_and(|age| age > kept_for);
        match kept(&bytes) {
            Some(Some(kept)) if !is_old => tell(Some(kept)),
            None if !is_old => tell(None),
            _ => drop(rustix::fs::unlinkat(&dir, key, AtFlags::empty())),
        }
    }
    Ok(())
}

fn age(file: &File) -> Option<Duration> {
    SystemTime::now().duration_since(file.metadata().ok()?.modified().ok()?).ok()
}

fn content(dir: &OwnedFd, key: &str) -> Result<Option<(Vec<u8>, File)>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = match rustix::fs::openat(dir, key, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(failed(errno)),
    };
    let mut bytes = Vec::new();
    let read = (&mut file).take(SIZE_MAX + 1).read_to_end(&mut bytes);
    Ok((read.is_ok() && bytes.len() as u64 <= SIZE_MAX).then_some((bytes, file)))
}

/// None: it has no layer; Some(None): it cannot be understood.
fn kept(bytes: &[u8]) -> Option<Option<Kept>> {
    let Ok(Value::Object(whole)) = serde_json::from_slice(bytes) else { return Some(None) };
    let one = |key: &str| whole.get(key).filter(|value| !value.is_null());
    if let Some(image) = one("manifest") {
        return Some(descriptor::descriptor(image).ok().map(Kept::Image));
    }
    let layer = descriptor::descriptor(one("layer")?).ok();
    let diff_id = one("diffId").and_then(Value::as_str).and_then(|text| Digest::parse(text).ok());
    Some(layer.zip(diff_id).map(|(layer, diff_id)| Kept::Layer(layer, diff_id)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::garbage;
    use serde_json::json;

    const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    struct Scratch(std::path::PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn store(name: &str) -> (Scratch, Store) {
        let place = std::env::temp_dir().join(format!("pycontainer-steps-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&place);
        let store = Store::open(&place).unwrap();
        (Scratch(place), store)
    }

    fn step(store: &Store) -> (Digest, Vec<u8>) {
        let digest = store.put(b"a layer").unwrap();
        let layer = json!({"mediaType": "x", "digest": digest.to_string(), "size": 7});
        let step = json!({"layer": layer, "diffId": Digest::of(b"tar").to_string()});
        (digest, step.to_string().into_bytes())
    }

    #[test]
    fn a_step_is_read_as_it_was_written() {
        let (_place, store) = store("read");
        assert_eq!(read(&store, KEY).unwrap(), None);
        let (digest, bytes) = step(&store);
        write(&store, KEY, &bytes).unwrap();
        assert_eq!(read(&store, KEY).unwrap(), Some(bytes));
        store.remove_blob(&digest).unwrap();
        assert_eq!(read(&store, KEY).unwrap(), None, "its layer is gone");
        for junk in
            [&b""[..], b"{", b"[]", b"{\"layer\": 1}", b"{\"layer\": {\"digest\": \"sha256:../x\", \"size\": 1}}"]
        {
            write(&store, KEY, junk).unwrap();
            assert_eq!(read(&store, KEY).unwrap(), None, "{junk:?}");
        }
        write(&store, KEY, b"{}").unwrap();
        assert!(read(&store, KEY).unwrap().is_some(), "a step without a layer");
    }

    #[test]
    fn no_name_is_a_path() {
        let (_place, store) = store("names");
        for bad in ["", "..", "../steps", &KEY[1..], &KEY.to_uppercase(), &KEY.replace('0', "/")] {
            assert!(read(&store, bad).is_err() && write(&store, bad, b"{}").is_err() && try_lock(&store, bad).is_err());
        }
    }

    #[test]
    fn what_a_step_keeps_is_no_garbage_until_nobody_wants_it() {
        let (_place, store) = store("kept");
        let (digest, bytes) = step(&store);
        let other = store.put(b"nobody's").unwrap();
        write(&store, KEY, &bytes).unwrap();
        garbage::collect(&store).unwrap().unwrap();
        assert!(store.blob(&digest, None).unwrap().is_some());
        assert!(store.blob(&other, None).unwrap().is_none());
        let file = File::open(store.path().join(DIRECTORY).join(KEY)).unwrap();
        file.set_modified(SystemTime::now() - KEPT_FOR - Duration::from_secs(5)).unwrap();
        garbage::collect(&store).unwrap().unwrap();
        assert!(store.blob(&digest, None).unwrap().is_none());
    }

    #[test]
    fn what_nobody_asked_for_since_then_is_forgotten() {
        let (_place, store) = store("forgotten");
        let (_, bytes) = step(&store);
        write(&store, KEY, &bytes).unwrap();
        forget(&store, Duration::from_secs(60)).unwrap();
        assert!(read(&store, KEY).unwrap().is_some());
        let file = File::open(store.path().join(DIRECTORY).join(KEY)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(61)).unwrap();
        forget(&store, Duration::from_secs(60)).unwrap();
        assert!(read(&store, KEY).unwrap().is_none());
    }

    #[test]
    fn one_at_a_time_carries_a_step_out() {
        let (_place, store) = store("locks");
        let first = try_lock(&store, KEY).unwrap();
        assert!(first.is_some() && try_lock(&store, KEY).unwrap().is_none());
        drop(first);
        assert!(try_lock(&store, KEY).unwrap().is_some());
    }
}
