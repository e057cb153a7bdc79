//! What ids a plain user's containers have: one, or the range that subuid(5) and subgid(5) give, where the programs are that may map it.

use super::keeper::Privileges;
use crate::security::ids;
use crate::security::maps::{Line, Maps};
use std::os::unix::fs::MetadataExt;

const FILES: [&str; 2] = ["/etc/subuid", "/etc/subgid"];
const HELPERS: [&str; 2] = ["newuidmap", "newgidmap"];

/// newuidmap with the caller's range where both are there, else one id.
pub fn privileges(uid: u32, gid: u32) -> (Privileges, Maps) {
    let (Some(programs), Some([uids, gids])) = (programs(), ranges(uid)) else {
        return (Privileges::OneId, one_id(uid, gid));
    };
    let [uidmap, gidmap] = programs;
    let line = |own: u32, range: (u32, u32)| -> Vec<String> {
        ["0".into(), own.to_string(), "1".into(), "1".into(), range.0.to_string(), range.1.to_string()].to_vec()
    };
    let helpers = vec![(uidmap, line(uid, uids)), (gidmap, line(gid, gids))];
    let lines = |own, (first, count)| vec![Line::new(0, own, 1), Line::new(1, first, count)];
    (Privileges::Range(helpers), Maps { uid: lines(uid, uids), gid: lines(gid, gids) })
}

pub fn one_id(uid: u32, gid: u32) -> Maps {
    Maps { uid: vec![Line::new(0, uid, 1)], gid: vec![Line::new(0, gid, 1)] }
}

/// (newuidmap and newgidmap are installed, this user has a range of uids and one of gids).
pub fn parts() -> (bool, bool) {
    (programs().is_some(), ranges(rustix::process::geteuid().as_raw()).is_some())
}

fn programs() -> Option<[String; 2]> {
    let [uidmap, gidmap] = HELPERS.map(find_program);
    Some([uidmap?, gidmap?])
}

/// Of uids and of gids.
fn ranges(uid: u32) -> Option<[(u32, u32); 2]> {
    let name = account_name(uid);
    let [uids, gids] =
        FILES.map(|file| ids::subordinate(&std::fs::read_to_string(file).unwrap_or_default(), &name, uid));
    Some([uids?, gids?])
}

fn account_name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()));
    line.and_then(|line| line.split(':').next()).unwrap_or_default().to_string()
}

/// Where this machine's own programs lie, whatever PATH says.
pub fn find_program(name: &str) -> Option<String> {
    let paths = ["/usr/bin", "/bin", "/usr/local/bin"].map(|directory| format!("{directory}/{name}"));
    paths.into_iter().find(|path| is_executable(path))
}

fn is_executable(path: &str) -> bool {
    std::fs::metadata(path).is_ok_and(|seen| seen.is_file() && seen.mode() & 0o111 != 0)
}
