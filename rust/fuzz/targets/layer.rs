//! A layer as it comes, plain or packed: into an empty directory beside a canary, which stays as it is.
#![no_main]

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::OnceLock;

/// In TMPDIR, which tools/fuzz.py makes on a tmpfs and removes.
fn scratch() -> &'static PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let path = std::env::temp_dir().join("scratch");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("canary"), b"untouched").unwrap();
        path
    })
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let root = scratch().join("rootfs");
    std::fs::create_dir(&root).unwrap();
    let opened = OwnedFd::from(std::fs::File::open(&root).unwrap());
    let _ = _core::image::fuzz::layer(bytes, opened);
    let mut names: Vec<_> = std::fs::read_dir(scratch()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["canary", "rootfs"]);
    assert_eq!(std::fs::read(scratch().join("canary")).unwrap(), b"untouched");
    remove(&root);
});

/// Directories may have come without a right to be read.
fn remove(directory: &PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700)).unwrap();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            remove(&entry.path());
        } else {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    std::fs::remove_dir(directory).unwrap();
}
