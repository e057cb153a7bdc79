//! The groups of a container of another process: directories that its keeper hands over. Counted and watched; never written to, but for a
//! pressure trigger.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::files::Directory;
use super::groups::Member;
use super::plan::{Missing, Seat};
use super::tree::{Place, Tree};
use super::{Controller, Groups, LiveStats, Resource, Version};
use crate::error::{Error, Result};

/// One number for each controller.
pub const SEATS: usize = Controller::ALL.len();
const NONE: u8 = u8::MAX;
const UNIFIED: u8 = 1 << 7;

/// Of another process; what is missing here was not made there.
pub struct Found(Groups);

impl Place {
    /// In which of `parents` each controller is, for who is handed groups of this place.
    pub fn seats(&self) -> [u8; SEATS] {
        let number = |(hierarchy, version)| hierarchy as u8 | if version == Version::V2 { UNIFIED } else { 0 };
        Controller::ALL.map(|controller| self.tree.seats[controller as usize].at().map_or(NONE, number))
    }
}

impl Found {
    /// `groups`: which of `parents` each lies in. One that is no group of that version is refused.
    pub fn of(seats: [u8; SEATS], groups: Vec<(u8, OwnedFd)>, uncharged: u64) -> Result<Found> {
        let seats: Vec<_> = seats.into_iter().map(seat).collect();
        let mut members = Vec::with_capacity(groups.len());
        for (place, fd) in groups {
            let version = seats.iter().filter_map(Seat::at).find(|(hierarchy, _)| *hierarchy == usize::from(place));
            let Some((hierarchy, version)) = version else { continue };
            let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default();
            let directory = Directory::checked(fd, path.to_string_lossy().into_owned(), version);
            let directory = directory.map_err(|errno| Error::from(("look at a group of the container", errno)))?;
            members.push(Member::seen(hierarchy, directory));
        }
        Ok(Found(Groups::of(Arc::new(Tree::of(seats)), members, uncharged)))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `first` is PID 1 of the container, for what no group counts.
    pub fn live_stats(&self, first: Option<i32>) -> LiveStats {
        self.0.live_stats(first)
    }

    pub fn pressure_trigger(&self, of: Resource, full: bool, stall: Duration, window: Duration) -> Result<OwnedFd> {
        self.0.pressure_trigger(of, full, stall, window)
    }
}

fn seat(number: u8) -> Seat {
    let (hierarchy, version) = match number {
        NONE => {
            return Seat::Missing(Missing::new("the container's process has no such group here", "pycontainer doctor"));
        }
        number if number & UNIFIED != 0 => (number & !UNIFIED, Version::V2),
        number => (number, Version::V1),
    };
    Seat::At { hierarchy: usize::from(hierarchy), version, remark: String::new() }
}
