//! pycontainer's native side: one road from a plan to a running container. Only module lines and the Python module here.

pub mod cgroup;
pub mod error;
pub mod files;
pub mod gate;
pub mod image;
pub mod locked;
pub mod mount;
mod py;
pub mod registry;
pub mod removal;
pub mod runtime;
pub mod security;
pub mod spawn;
#[allow(dead_code)] // shared with the keeper, which uses the rest
pub mod sys;
pub mod transfer;
pub mod wire;

use pyo3::prelude::*;

#[pymodule]
mod _core {
    /// Built with test-only switches (feature `test-seams`).
    #[pymodule_export]
    const TEST_SEAMS: bool = crate::py::TEST_SEAMS;
    #[pymodule_export]
    use crate::py::build::{
        Held, cache_remove, cache_size, can_own, document_put, give_owner, layer_directories, step_forget, step_lock,
        step_read, step_write, store_hold,
    };
    #[pymodule_export]
    use crate::py::child::Outcome;
    #[pymodule_export]
    use crate::py::commit::{container_commit, container_export, container_layer};
    #[pymodule_export]
    use crate::py::container::{Container, ContainerLog, Exec, launch, launch_copied, start};
    #[pymodule_export]
    use crate::py::control::{container_freeze, container_oom, container_pressure, container_stats, container_update};
    #[pymodule_export]
    use crate::py::copies::{Tree, layer_copy, layer_directory};
    #[pymodule_export]
    use crate::py::doctor::{causes_, disk_bound, probe_host, storage};
    #[pymodule_export]
    use crate::py::files::{copy_in, copy_out, diff, read_bytes, write_bytes};
    #[pymodule_export]
    use crate::py::foreign::{Foreign, find, keeper_lives, registry_home, registry_place};
    #[pymodule_export]
    use crate::py::functions::{
        fork_after_child, fork_after_parent, fork_before, group_support, keeper_pid, run_, seccomp_compile,
        seccomp_program, set_packaged_keeper, take_notices, unpack_archive, unpack_layer_files,
    };
    #[pymodule_export]
    use crate::py::images::{
        archives_drop, image_all, image_collect, image_file, image_find, image_in_use, image_layers, image_load,
        image_open, image_paths, image_save, image_tag, image_untag, image_verify, layers_left_out, platform_parse,
        reference_parse, store_root,
    };
    #[pymodule_export]
    use crate::py::registry::{image_pull, image_push, registry_catalog, registry_tags};

    /// Layers of a plain user's get their owners from the keeper's side, which the image room cannot name.
    #[pymodule_init]
    fn init(_module: &super::Bound<'_, super::PyModule>) -> super::PyResult<()> {
        crate::py::begin();
        Ok(())
    }
}
