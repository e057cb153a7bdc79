//! The ids of one container against those that this user has, and what follows from them. Claims none.

use super::engine::Engine;
use super::spec::{Spec, UserSpace};
use crate::error::Result;
use crate::mount::layout::Facts;
use crate::security::ids::COUNT;
use crate::security::maps::{self, Line, Maps};

/// Of terminals, in every distribution; devpts gives it to them.
const TTY_GROUP: u32 = 5;

/// What the container's ids are in the keeper's user namespace; None of a range that is still to be claimed.
pub fn maps(engine: &Engine, spec: &Spec) -> Result<Option<Maps>> {
    Ok(match &spec.user_space {
        UserSpace::Auto if engine.is_root() => None,
        UserSpace::Auto => Some(engine.maps.each(maps::identity)),
        UserSpace::Host => Some(Maps::default()),
        UserSpace::Map(lines) => {
            Some(Maps { uid: maps::named_in(lines, &engine.maps.uid)?, gid: maps::named_in(lines, &engine.maps.gid)? })
        }
    })
}

/// The engine's, and what follows from the container's ids.
pub fn facts(engine: &Engine, spec: &Spec) -> Facts {
    let whole = [Line::new(0, 0, COUNT)];
    // As this machine has them: the kernel compares those.
    let gids = match &spec.user_space {
        UserSpace::Map(lines) => lines.as_slice(),
        UserSpace::Auto if !engine.is_root() => engine.maps.gid.as_slice(),
        _ => &whole,
    };
    Facts {
        user_namespace: spec.user_space != UserSpace::Host,
        tty_group: maps::outside(gids, TTY_GROUP).is_some(),
        last_to_ping: maps::last_to_ping(gids, COUNT - 1),
        cached_layers: engine.facts.cached_layers && !matches!(spec.user_space, UserSpace::Map(_)),
        ..engine.facts.clone()
    }
}
