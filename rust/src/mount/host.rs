//! What of this machine `Image.host()` shows: an allow-list, never a deny-list. Pure: names and texts only.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Directories of programs and libraries; those that are links on this machine become links inside.
pub const DIRECTORIES: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt"];

/// Of /etc: what programs need to run and to trust, and nothing that says who uses this machine or holds a secret.
pub const ETC: [&str; 34] = [
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ld.so.preload",
    "alternatives",
    "ssl/certs",
    "ssl/openssl.cnf",
    "ca-certificates",
    "ca-certificates.conf",
    "pki/tls/certs",
    "pki/ca-trust/extracted",
    "crypto-policies",
    "nsswitch.conf",
    "protocols",
    "services",
    "networks",
    "rpc",
    "ethertypes",
    "localtime",
    "timezone",
    "os-release",
    "debian_version",
    "lsb-release",
    "redhat-release",
    "mime.types",
    "locale.alias",
    "locale.conf",
    "locale.gen",
    "default/locale",
    "fonts",
    "magic",
    "inputrc",
    "terminfo",
    "gai.conf",
];

pub const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
pub const GROUP: &str = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n";
pub const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// Directories in which new files can be made, of the container's root: (path, mode).
pub const WRITABLE: [(&str, u32); 8] = [
    ("tmp", 0o1777),
    ("home", 0o755),
    ("root", 0o711),
    ("var", 0o755),
    ("var/tmp", 0o1777),
    ("run", 0o755),
    ("mnt", 0o755),
    ("srv", 0o755),
];

/// Without those that lie in another of the list: a mount shows all below it.
pub fn outermost(mut directories: Vec<PathBuf>) -> Vec<PathBuf> {
    directories.sort();
    directories.dedup();
    let all = directories.clone();
    directories.retain(|path| !all.iter().any(|other| other != path && path.starts_with(other)));
    directories
}

/// What is mounted below `trees`, outer ones first, as mountinfo (proc(5)) tells it.
pub fn mounted_below(trees: &[PathBuf], mountinfo: &[u8]) -> Vec<PathBuf> {
    let points = mountinfo.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    let points = points.map(|point| PathBuf::from(OsString::from_vec(unescaped(point))));
    let below = |point: &PathBuf| trees.iter().any(|tree| point != tree && point.starts_with(tree));
    let mut found: Vec<PathBuf> = points.filter(below).collect();
    found.sort(); // a directory comes before what is in it
    found.dedup();
    found
}

/// Blanks and backslashes are written as three octal digits.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match digits {
            Some(digits) => {
                out.push(digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{mounted_below, outermost};
    use std::path::PathBuf;

    #[test]
    fn mounts_below_are_found_by_their_real_names() {
        let text = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
            2 1 8:2 / /usr rw - ext4 /dev/sda2 rw\n\
            9 2 8:4 / /usr/local/x rw - ext4 /dev/sda4 rw\n\
            3 2 8:3 / /usr/local rw - ext4 /dev/sda3 rw\n\
            4 2 8:5 / /usr/my\\040lib\\134 rw - ext4 /dev/sda5 rw\n\
            5 1 8:6 / /usrx/y rw - ext4 /dev/sda6 rw\nbroken\n";
        let found = mounted_below(&["/usr", "/opt"].map(PathBuf::from), text);
        assert_eq!(found, ["/usr/local", "/usr/local/x", "/usr/my lib\\"].map(PathBuf::from));
    }

    #[test]
    fn outermost_drops_what_lies_below() {
        let paths = ["/usr", "/usr/local", "/opt/x", "/usrx", "/opt/x"].map(Into::into).to_vec();
        assert_eq!(outermost(paths), ["/opt/x", "/usr", "/usrx"].map(PathBuf::from).to_vec());
    }
}
