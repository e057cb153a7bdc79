//! What was asked against who asks: refused before anything is looked up. Makes and opens nothing.

use super::engine::Engine;
use super::spec::{Mount, MountKind, Root, Space, Spec, UserSpace};
use crate::error::{Error, Result};
use crate::security::{capabilities, maps};
use crate::sys::host;

pub fn all(engine: &Engine, spec: &Spec) -> Result<()> {
    user_namespace(engine, spec)?;
    admin(spec)?;
    landlock(spec)?;
    spec.mounts.iter().try_for_each(|mount| owner(engine, spec, mount))?;
    descriptors(spec)
}

fn user_namespace(engine: &Engine, spec: &Spec) -> Result<()> {
    if !engine.is_root() && spec.user_space == UserSpace::Host {
        let cause = "a plain user has no capabilities outside a user namespace";
        return Err(Error::unsupported("user_namespace", cause, "run as root, or leave user_namespace=\"auto\""));
    }
    if spec.user_space == UserSpace::Host && matches!(&spec.root, Root::Host { .. }) && !spec.no_new_privileges {
        return Err(Error::Value("security: user_namespace=\"host\" with Image.host() needs no_new_privileges".into()));
    }
    Ok(())
}

/// What locks the read-only flags and masks beneath CAP_SYS_ADMIN is set up through a /proc that can be written to.
fn admin(spec: &Spec) -> Result<()> {
    let locked = spec.user_space != UserSpace::Host && capabilities::has_admin(spec.capabilities);
    if !locked || spec.spaces.pid == Space::New || spec.spaces.mnt != Space::New {
        return Ok(());
    }
    let cause = "a command that has CAP_SYS_ADMIN sits in one more user namespace, which nobody can set up through the read-only /proc \
                 that a shared namespace brings";
    let fix = "capabilities without SYS_ADMIN, or as root security=Security(user_namespace=\"host\", ...)";
    Err(Error::unsupported("namespaces['pid']", cause, fix))
}

/// Left out where nobody wrote it; what was written is not.
fn landlock(spec: &Spec) -> Result<()> {
    if spec.landlock != Some(true) || !capabilities::has_admin(spec.capabilities) || spec.may_degrade("landlock") {
        return Ok(());
    }
    let cause = "under a Landlock domain the kernel refuses every mount, and mounting is what CAP_SYS_ADMIN is for";
    let fix = "capabilities without SYS_ADMIN, or landlock=None, or degrade=[\"landlock\"]";
    Err(Error::unsupported("landlock", cause, fix))
}

/// A plain user's bind is not idmapped: what the container's root writes belongs to who that is on this machine.
fn owner(engine: &Engine, spec: &Spec, mount: &Mount) -> Result<()> {
    let MountKind::Bind { owner: Some(wanted), .. } = mount.kind else { return Ok(()) };
    let uids = if let UserSpace::Map(lines) = &spec.user_space { lines } else { &engine.maps.uid };
    let root = maps::outside(uids, 0).unwrap_or(0);
    if engine.is_root() || wanted == root {
        return Ok(());
    }
    let cause = format!(
        "what this container's root writes to {} belongs to uid {root}: only root of this machine gives it another owner",
        mount.target
    );
    Err(Error::unsupported("Mount.bind(owner=...)", cause, "leave owner out, or run as root"))
}

fn descriptors(spec: &Spec) -> Result<()> {
    for fd in &spec.pass_fds {
        if rustix::io::fcntl_getfd(host::borrow(*fd)).is_err() {
            return Err(Error::Value(format!("pass_fds: {fd} is not an open descriptor")));
        }
    }
    Ok(())
}
