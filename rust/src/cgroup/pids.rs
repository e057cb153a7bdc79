//! pids: which file. Touches none. The default bound is the user namespace's own, and not made here.

use super::plan::Draft;
use super::{Cap, Controller};
use crate::error::Result;

pub(super) fn plan(draft: &mut Draft) -> Result<()> {
    let Some(cap) = draft.limits.pids else {
        return Ok(());
    };
    if draft.lifted("pids", cap == Cap::Max, Controller::Pids) {
        return Ok(());
    }
    if draft.demand("pids", Controller::Pids)?.is_some() {
        draft.hold("pids", Controller::Pids, vec![("pids.max", cap.text())]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::plan::stage;
    use super::super::{Cap, Limits, Version};

    #[test]
    fn both_versions_have_the_same_file() {
        for version in [Version::V1, Version::V2] {
            let files = |cap| stage::files(version, &Limits { pids: Some(cap), ..Limits::default() });
            assert_eq!(files(Cap::Value(64)), [("pids.max", "64".to_owned())]);
            assert_eq!(files(Cap::Max), [("pids.max", "max".to_owned())]);
        }
    }
}
