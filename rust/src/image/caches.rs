//! What RUN --mount=type=cache keeps between builds (python/pycontainer/_build/caches.py): how much it takes. Changes nothing.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Below the store.
const DIRECTORY: &str = "caches";

/// Of all caches of a store.
pub fn used(store: &Path) -> u64 {
    size(&store.join(DIRECTORY))
}

/// Bytes that a directory takes on its disk, as far as this user may look: what is not there takes none.
pub fn size(directory: &Path) -> u64 {
    let (mut bytes, mut seen) = (0, HashSet::new());
    let mut waiting: Vec<PathBuf> = vec![directory.into()];
    while let Some(place) = waiting.pop() {
        for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            if found.is_dir() {
                waiting.push(entry.path());
            }
            if found.nlink() < 2 || found.is_dir() || seen.insert((found.dev(), found.ino())) {
                bytes += found.blocks() * 512;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_counts_once_and_links_lead_nowhere() {
        let place = std::env::temp_dir().join(format!("pycontainer-caches-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&place);
        assert_eq!(size(&place), 0);
        std::fs::create_dir_all(place.join("a/b")).unwrap();
        let before = size(&place);
        std::fs::write(place.join("a/b/file"), vec![1; 1 << 20]).unwrap();
        std::fs::hard_link(place.join("a/b/file"), place.join("a/again")).unwrap();
        std::os::unix::fs::symlink("/", place.join("root")).unwrap();
        let more = size(&place) - before;
        assert!(((1 << 20)..(1 << 20) + (64 << 10)).contains(&more), "{more}");
        std::fs::remove_dir_all(&place).unwrap();
    }
}
