//! Capability names, numbers and masks. Data only: no kernel call.

/// Name by number, without "CAP_" (linux/capability.h, complete up to Linux 6.18).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

pub const CHOWN: u8 = 0;
pub const DAC_OVERRIDE: u8 = 1;
pub const DAC_READ_SEARCH: u8 = 2;
pub const FOWNER: u8 = 3;
pub const FSETID: u8 = 4;
pub const KILL: u8 = 5;
pub const SETGID: u8 = 6;
pub const SETUID: u8 = 7;
pub const SETPCAP: u8 = 8;
pub const NET_BIND_SERVICE: u8 = 10;
pub const SYS_MODULE: u8 = 16;
pub const SYS_RAWIO: u8 = 17;
pub const SYS_CHROOT: u8 = 18;
pub const SYS_PTRACE: u8 = 19;
pub const SYS_PACCT: u8 = 20;
pub const SYS_ADMIN: u8 = 21;
pub const SYS_BOOT: u8 = 22;
pub const SYS_NICE: u8 = 23;
pub const SYS_TIME: u8 = 25;
pub const SYS_TTY_CONFIG: u8 = 26;
pub const AUDIT_WRITE: u8 = 29;
pub const SETFCAP: u8 = 31;
pub const SYSLOG: u8 = 34;
pub const PERFMON: u8 = 38;
pub const BPF: u8 = 39;

/// All that this table knows; a newer kernel may have more.
pub const ALL: u64 = (1 << NAMES.len()) - 1;

/// What a container has unless told otherwise: the eleven of podman's containers.conf.
pub const DEFAULT: u64 = bit(CHOWN)
    | bit(DAC_OVERRIDE)
    | bit(FOWNER)
    | bit(FSETID)
    | bit(KILL)
    | bit(SETGID)
    | bit(SETUID)
    | bit(SETPCAP)
    | bit(NET_BIND_SERVICE)
    | bit(SYS_CHROOT)
    | bit(SETFCAP);

/// The mask of one capability.
pub const fn bit(capability: u8) -> u64 {
    1 << capability
}

pub const fn has_admin(set: u64) -> bool {
    set & bit(SYS_ADMIN) != 0
}

/// The number of a name, with or without "CAP_", in any case.
pub fn parse(name: &str) -> Option<u8> {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    NAMES.iter().position(|known| *known == name).and_then(|number| u8::try_from(number).ok())
}

/// The name of a number, as the kernel writes it: "CAP_CHOWN".
pub fn name(capability: u8) -> Option<String> {
    NAMES.get(usize::from(capability)).map(|name| format!("CAP_{name}"))
}

/// The names in a mask, by number; bits that the table does not know are left out.
pub fn names(mask: u64) -> Vec<String> {
    (0..64).filter(|capability| mask & bit(*capability) != 0).filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_podmans_eleven() {
        assert_eq!(DEFAULT, 0x8004_05fb);
        assert_eq!(names(DEFAULT).len(), 11);
    }

    #[test]
    fn constants_have_the_number_of_their_name() {
        let known = [
            ("DAC_READ_SEARCH", DAC_READ_SEARCH),
            ("SYS_MODULE", SYS_MODULE),
            ("SYS_RAWIO", SYS_RAWIO),
            ("SYS_CHROOT", SYS_CHROOT),
            ("SYS_PTRACE", SYS_PTRACE),
            ("SYS_PACCT", SYS_PACCT),
            ("SYS_ADMIN", SYS_ADMIN),
            ("SYS_BOOT", SYS_BOOT),
            ("SYS_NICE", SYS_NICE),
            ("SYS_TIME", SYS_TIME),
            ("SYS_TTY_CONFIG", SYS_TTY_CONFIG),
            ("AUDIT_WRITE", AUDIT_WRITE),
            ("SYSLOG", SYSLOG),
            ("PERFMON", PERFMON),
            ("BPF", BPF),
        ];
        for (text, number) in known {
            assert_eq!(parse(text), Some(number), "{text}");
        }
        assert_eq!(parse("CHECKPOINT_RESTORE"), Some(40));
    }

    #[test]
    fn every_number_has_a_name_that_reads_back() {
        for number in 0..41 {
            let name = name(number).expect("complete");
            assert_eq!(parse(&name), Some(number));
            assert_eq!(parse(&name.to_lowercase()), Some(number));
            assert_eq!(parse(&name["CAP_".len()..]), Some(number));
        }
        assert_eq!(name(41), None);
        assert_eq!(names(ALL).len(), 41);
        assert_eq!(names(u64::MAX).len(), 41);
    }

    #[test]
    fn other_texts_are_no_capability() {
        for text in ["", "CAP_", "ALL", "CAP_CAP_CHOWN", " CHOWN", "CHOWN ", "0", "CAP_NEW"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
