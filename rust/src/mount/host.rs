//! What of this machine `Image.host()` shows: an allow-list, never a deny-list. Pure: names and texts only.

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
pub fn outermost(mut directories: Vec<std::path::PathBuf>) -> Vec<std::path::PathBuf> {
    directories.sort();
    directories.dedup();
    let all = directories.clone();
    directories.retain(|path| !all.iter().any(|other| other != path && path.starts_with(other)));
    directories
}

#[cfg(test)]
mod tests {
    use super::outermost;

    #[test]
    fn outermost_drops_what_lies_below() {
        let paths = ["/usr", "/usr/local", "/opt/x", "/usrx", "/opt/x"].map(Into::into).to_vec();
        assert_eq!(outermost(paths), ["/opt/x", "/usr", "/usrx"].map(std::path::PathBuf::from).to_vec());
    }
}
