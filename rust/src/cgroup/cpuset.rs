//! cpuset: which files. Touches none; `check` has compared the list with the machine's.

use super::plan::Draft;
use super::{Controller, Version, parse};
use crate::error::{Error, Result};

pub(super) fn plan(draft: &mut Draft) -> Result<()> {
    let Some(list) = draft.limits.cpuset.clone() else {
        return Ok(());
    };
    let cpus = parse::cpu_list(&list).map_err(|why| Error::Value(format!("cpuset: {why}")))?;
    let mut files = vec![("cpuset.cpus", parse::cpu_text(&cpus))];
    match draft.demand("cpuset", Controller::Cpuset)? {
        // A version 1 cpuset is born empty, and takes no task (ENOSPC) before it has both.
        Some(Version::V1) => files.push(("cpuset.mems", draft.machine.nodes.clone())),
        Some(Version::V2) => {}
        None => return Ok(()),
    }
    draft.hold("cpuset", Controller::Cpuset, files);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::super::plan::stage;
    use super::*;

    #[test]
    fn files() {
        let asked = Limits { cpuset: Some("2, 0-1".into()), ..Limits::default() };
        let v1 = [("cpuset.cpus", "0-2".to_owned()), ("cpuset.mems", "0".to_owned())];
        assert_eq!(stage::files(Version::V1, &asked), v1);
        assert_eq!(stage::files(Version::V2, &asked), v1[..1]);
    }
}
