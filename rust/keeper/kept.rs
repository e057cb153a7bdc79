//! What the keeper holds of the files of containers that somebody has a handle on: by descriptor, from their start until the host
//! forgets them, also beyond their end. Makes no mount.

use crate::cache::Cache;
use crate::keeper::Keeper;
use crate::maps::Maps;
use crate::outside::Slots;
use crate::plan::Plan;
use crate::sys::constants::*;
use crate::sys::fs;
use crate::sys::{Errno, Result, memory};
use crate::wire::{Reader, Slot, copied, flag, inside as op};
use core::ffi::CStr;

/// Live ones, and as many that have ended.
const KEPT_MAX: usize = 8192;
/// A map of one line; one of the caller's own may have more, and has its namespace from the start.
const MAP_MAX: usize = 40;
const NAME_MAX: usize = 32;

/// The overlay of the root file system, as the plan describes it.
#[derive(Clone, Copy)]
pub struct Layers {
    /// The one layer below; none where there are more, which `Slots` has as a union.
    pub lower: Option<Slot>,
    upper: Slot,
    name: [u8; NAME_MAX],
    /// By a program, which has notes of its own in the upper one.
    served: bool,
}

impl Layers {
    /// From the operation that makes it.
    pub fn read(mut from: Reader<'_>) -> Option<Layers> {
        let lowers = from.u16()?;
        let lower = from.u16()?;
        from.take(2 * (lowers as usize).checked_sub(1)?)?;
        let (upper, said) = (from.u16()?, from.text()?.to_bytes_with_nul());
        let mut name = [0; NAME_MAX];
        name.get_mut(..said.len())?.copy_from_slice(said);
        Some(Layers { lower: (lowers == 1).then_some(lower), upper, name, served: false })
    }

    /// What holds the writable layer.
    pub fn directory(&self) -> Slot {
        self.upper
    }

    /// Of a root that is a copy.
    pub fn copied(upper: Slot, lower: Option<Slot>) -> Option<Layers> {
        let mut name = [0; NAME_MAX];
        let root = copied::ROOT.to_bytes();
        name.get_mut(..root.len())?.copy_from_slice(root);
        Some(Layers { lower, upper, name, served: false })
    }

    /// From the operation that has a program show them.
    pub fn served(mut from: Reader<'_>) -> Option<Layers> {
        from.text()?;
        let (lower, upper, said) = (from.u16()?, from.u16()?, from.text()?.to_bytes_with_nul());
        let mut name = [0; NAME_MAX];
        name.get_mut(..said.len())?.copy_from_slice(said);
        Some(Layers { lower: Some(lower), upper, name, served: true })
    }
}

/// The slot that becomes the root; none where the mount namespace is another's.
fn root_slot(plan: &Plan<'_>) -> Option<Slot> {
    let mut from = plan.inside;
    loop {
        match from.u8()? {
            op::KEYRING | op::JOIN_CGROUPS | op::CGROUP_NAMESPACE => {}
            op::ROOT => return from.u16(),
            _ => return None,
        }
    }
}

/// Of one container: its root, the directory of its writable layer, what lies below as one tree; -1 where there is none.
#[derive(Clone, Copy)]
pub struct Files {
    /// 0: a free place.
    id: u64,
    pub root: i32,
    pub upper: i32,
    pub lower: i32,
    /// As in `Layers`.
    pub served: bool,
    /// The user namespace of a map of the caller's own.
    space: i32,
    /// The range from this id on, and its maps: its namespace is made where it is missing. 0: ids are the keeper's own.
    base: u32,
    uid: [u8; MAP_MAX],
    gid: [u8; MAP_MAX],
}

impl Files {
    /// While its mounts are in slots. A container without a root of its own has no files of its own.
    pub fn take(plan: &Plan<'_>, cache: &mut Cache, rootless: bool, slots: &Slots) -> Result<Held> {
        let (true, Some(root)) = (plan.head.has(flag::HANDLE), root_slot(plan)) else { return Ok(Held(None)) };
        let mut files = Files {
            id: plan.head.id,
            root: -1,
            upper: -1,
            lower: -1,
            served: false,
            space: -1,
            base: 0,
            uid: [0; MAP_MAX],
            gid: [0; MAP_MAX],
        };
        let filled = files.fill(plan, cache, rootless, slots, root);
        let held = Held(Some(files)); // also what is half done is closed with it
        filled.map(|()| held)
    }

    fn fill(&mut self, plan: &Plan<'_>, cache: &mut Cache, rootless: bool, slots: &Slots, root: Slot) -> Result<()> {
        self.root = fs::dup_above(slots.get(root)?, 3)?.release();
        if let Some(layers) = &slots.layers {
            let name = CStr::from_bytes_until_nul(&layers.name).map_err(|_| Errno::NAMETOOLONG)?;
            let directory = O_PATH | O_DIRECTORY | O_NOFOLLOW;
            self.served = layers.served;
            self.upper = fs::openat(slots.get(layers.upper)?, name, directory, 0)?.release();
            let lower = layers
                .lower
                .map(|lower| slots.get(lower))
                .transpose()?
                .or(slots.union.is_open().then(|| slots.union.raw()));
            if let Some(lower) = lower {
                self.lower = fs::dup_above(lower, 3)?.release();
            }
        }
        if plan.head.clone_flags & CLONE_NEWUSER == 0 {
            return Ok(());
        }
        if plan.head.has(flag::OWN_MAP) {
            self.space = fs::dup_above(cache.own(plan.head.id, plan.maps)?, 3)?.release();
        } else if !rootless {
            self.base = plan.head.base;
            copy(plan.maps.uid, &mut self.uid)?;
            copy(plan.maps.gid, &mut self.gid)?;
        }
        Ok(())
    }

    /// The user namespace with the container's maps, in which none of its processes is; none where they are the keeper's.
    pub fn space(&self, cache: &mut Cache) -> Result<Option<i32>> {
        if self.base == 0 {
            return Ok((self.space >= 0).then_some(self.space));
        }
        cache.range(self.base, Maps { uid: text(&self.uid), gid: text(&self.gid) }).map(Some)
    }

    fn close(&mut self) {
        [self.root, self.upper, self.lower, self.space].into_iter().filter(|fd| *fd >= 0).for_each(fs::close);
        self.id = 0;
    }
}

fn copy(map: &[u8], line: &mut [u8; MAP_MAX]) -> Result<()> {
    line.get_mut(..map.len()).ok_or(Errno::TOOBIG)?.copy_from_slice(map);
    Ok(())
}

fn text(line: &[u8; MAP_MAX]) -> &[u8] {
    &line[..line.iter().position(|byte| *byte == 0).unwrap_or(MAP_MAX)]
}

/// What was taken for a container that may still fail to start.
pub struct Held(Option<Files>);

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(files) = &mut self.0 {
            files.close();
        }
    }
}

pub struct Kept {
    entries: [Files; KEPT_MAX],
    /// One past the highest place that is taken.
    top: usize,
}

memory::zeroed!(Kept);

impl Keeper {
    pub fn keep_files(&mut self, mut held: Held) -> Result<()> {
        if held.0.is_none() {
            return Ok(());
        }
        let free = self.kept.entries.iter().position(|place| place.id == 0);
        let index = free.ok_or(Errno::NFILE)?;
        if let Some(files) = held.0.take() {
            self.kept.entries[index] = files;
        }
        self.kept.top = self.kept.top.max(index + 1);
        Ok(())
    }

    pub fn files_of(&self, id: u64) -> Option<Files> {
        self.kept.entries[..self.kept.top].iter().find(|files| id != 0 && files.id == id).copied()
    }

    /// With the agents that are at work among them.
    pub fn forget_files(&mut self, id: u64) {
        self.agents.end(id);
        let ended = self.table.index_of(id).is_none();
        let entries = &mut self.kept.entries[..self.kept.top];
        entries.iter_mut().filter(|files| id != 0 && files.id == id).for_each(Files::close);
        self.kept.top = entries.iter().rposition(|files| files.id != 0).map_or(0, |last| last + 1);
        if ended {
            self.end_daemon(id);
        }
    }
}
