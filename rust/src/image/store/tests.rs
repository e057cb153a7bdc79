use super::*;
use crate::image::descriptor::{Descriptor, media};
use crate::image::digest::{Algorithm, Digest};
use crate::image::reference::Reference;

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn scratch(name: &str) -> Scratch {
    let path = std::env::temp_dir().join(format!("pycontainer-store-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    Scratch(path)
}

fn described(digest: Digest, size: u64) -> Descriptor {
    let annotations = [("k".to_string(), "v".to_string())].into();
    Descriptor { media_type: media::OCI_MANIFEST.into(), digest, size, annotations, platform: None }
}

#[test]
fn a_blob_is_there_when_it_is_whole() {
    let place = scratch("blob");
    let store = Store::open(&place.0).unwrap();
    let digest = Digest::of(b"abc");
    let mut ingest = store.ingest(Algorithm::Sha256).unwrap();
    ingest.take(b"ab").unwrap();
    assert!(store.blob(&digest, None).unwrap().is_none());
    ingest.take(b"c").unwrap();
    assert_eq!(ingest.commit(Some(&digest)).unwrap(), digest);
    assert_eq!(store.read(&digest, 10).unwrap().unwrap(), b"abc");
    assert!(store.blob(&digest, Some(4)).unwrap().is_none());
    assert!(store.read(&digest, 2).is_err());
    assert_eq!(store.blobs().unwrap(), [(digest, 3)]);
}

#[test]
fn another_content_than_promised_is_refused_and_leaves_nothing() {
    let place = scratch("promise");
    let store = Store::open(&place.0).unwrap();
    let mut ingest = store.ingest(Algorithm::Sha256).unwrap();
    ingest.take(b"abc").unwrap();
    assert!(matches!(ingest.commit(Some(&Digest::of(b"x"))), Err(Error::DigestMismatch(_))));
    drop(store.ingest(Algorithm::Sha256).unwrap());
    assert_eq!(std::fs::read_dir(place.0.join(PARTIAL)).unwrap().count(), 0);
    assert!(store.blobs().unwrap().is_empty());
}

#[test]
fn what_the_dead_left_is_swept_and_what_the_living_hold_is_not() {
    let place = scratch("dead");
    let store = Store::open(&place.0).unwrap();
    let held = store.lock_blob(&Digest::of(b"held"), &mut || false).unwrap();
    let (partial, layers) = (place.0.join(PARTIAL), place.0.join("layers"));
    std::fs::write(partial.join("blob-dead.lock"), "").unwrap();
    std::fs::write(partial.join("dead.tmp"), "half").unwrap();
    let aside = layers.join(format!("{}.{:032x}.tmp", Digest::of(b"dead").hex(), 1));
    std::fs::create_dir_all(aside.join("rootfs/deep")).unwrap();
    std::fs::write(place.0.join("version"), "").unwrap(); // as an older engine's crash left it
    Store::open(&place.0).unwrap();
    let left: Vec<_> = std::fs::read_dir(&partial).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [format!("blob-{}.lock", Digest::of(b"held").hex()).as_str()]);
    assert_eq!(std::fs::read_dir(&layers).unwrap().count(), 0);
    assert_eq!(std::fs::read_to_string(place.0.join("version")).unwrap(), VERSION);
    drop(held);
}

#[test]
fn what_was_changed_on_the_disk_is_seen() {
    let place = scratch("changed");
    let store = Store::open(&place.0).unwrap();
    let digest = store.put(b"abc").unwrap();
    std::fs::write(place.0.join("images/blobs/sha256").join(digest.hex()), b"abd").unwrap();
    assert!(matches!(store.read(&digest, 10), Err(Error::DigestMismatch(_))));
}

#[test]
fn names_come_and_go_and_others_entries_stay() {
    let place = scratch("names");
    let store = Store::open(&place.0).unwrap();
    let (one, two) = (Reference::parse("app:1").unwrap(), Reference::parse("app:2").unwrap());
    let descriptor = described(Digest::of(b"1"), 1);
    let mut check = || false;
    store.tag(&one, &descriptor, &mut check).unwrap();
    store.tag(&two, &descriptor, &mut check).unwrap();
    let path = place.0.join("images/index.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let foreign = r#"{"digest":"sha256:x","size":1,"extra":[1]}"#;
    std::fs::write(&path, text.replacen("\"manifests\":[", &format!("\"manifests\":[{foreign},"), 1)).unwrap();
    assert_eq!(store.find(&one).unwrap(), Some(descriptor.clone()));
    assert!(store.untag(&one, &mut check).unwrap());
    assert!(!store.untag(&one, &mut check).unwrap());
    assert_eq!(store.names().unwrap().len(), 1);
    let again = described(Digest::of(b"2"), 1);
    store.tag(&two, &again, &mut check).unwrap();
    assert_eq!(store.find(&two).unwrap(), Some(again));
    assert!(std::fs::read_to_string(&path).unwrap().contains("\"extra\":[1]"));
}

#[test]
fn a_newer_store_is_not_touched() {
    let place = scratch("newer");
    drop(Store::open(&place.0).unwrap());
    drop(Store::open(&place.0).unwrap());
    std::fs::write(place.0.join("version"), "2\n").unwrap();
    assert!(matches!(Store::open(&place.0), Err(Error::Image(_))));
}

#[test]
fn what_a_dead_process_left_is_swept() {
    let place = scratch("sweep");
    drop(Store::open(&place.0).unwrap());
    std::fs::write(place.0.join(PARTIAL).join("0.tmp"), b"x").unwrap();
    let store = Store::open(&place.0).unwrap();
    assert_eq!(std::fs::read_dir(place.0.join(PARTIAL)).unwrap().count(), 0);
    let living = store.ingest(Algorithm::Sha256).unwrap();
    drop(Store::open(&place.0).unwrap());
    assert_eq!(std::fs::read_dir(place.0.join(PARTIAL)).unwrap().count(), 1);
    drop(living);
}
