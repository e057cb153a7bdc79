//! The ids of one container against those that this user has, and what follows from them. Claims none.

use super::engine::Engine;
use super::spec::{Spec, UserSpace};
use crate::error::{Error, Result};
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
            let own = |have| maps::named_in(lines, have);
            let made = Maps { uid: own(&engine.maps.uid)?, gid: own(&engine.maps.gid)? };
            check_layer(engine, spec, &made)?;
            Some(made)
        }
    })
}

/// This process makes a layer on the disk, and a plain user's gives no file to another id.
fn check_layer(engine: &Engine, spec: &Spec, made: &Maps) -> Result<()> {
    let on_disk = spec.upper_on_disk || engine.kernel < (6, 6);
    if !engine.facts.rootless || made.root() == (0, 0) || !on_disk {
        return Ok(());
    }
    let cause = "a writable layer on the disk belongs to this user, who is not root inside by this map";
    Err(Error::unsupported("user_namespace", cause, "id 0 as this user's own, or (from Linux 6.6) upper=\"memory\""))
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
