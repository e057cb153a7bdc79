//! What the mounts of one plan stand on. Images among them are shown as a root would be, read-only, and are held as long as the container
//! is there.

use super::copy;
use super::driver::{self, Driver};
use super::engine::Engine;
use super::sources::{directory, layers_seen, mount_source};
use super::spec::{ImageRoot, MountKind, Spec};
use crate::error::Result;
use crate::image::locks::Check;
use crate::image::unions::Kind;
use crate::image::unpacked;
use crate::image::used::{self, Standing, Used};
use crate::mount::layout::Found;
use crate::mount::list::Source;
use crate::security::maps::Maps;
use std::cell::OnceCell;
use std::path::PathBuf;

/// Locks of images that are mounted, and those of which there is a tree only once the container's ids are known.
#[derive(Debug, Default)]
pub struct Mounted {
    layers: Vec<Standing>,
    trees: Vec<Used>,
    /// By the number of the mount.
    unmapped: Vec<(usize, Vec<PathBuf>)>,
    shifted: OnceCell<Vec<(usize, Found, Used)>>,
}

/// Looks at what each mount of the spec stands on, in their order.
pub fn look(engine: &Engine, spec: &Spec, check: Check<'_>) -> Result<(Vec<Found>, Mounted)> {
    let mut mounted = Mounted::default();
    let found = spec.mounts.iter().enumerate().map(|(number, mount)| match &mount.kind {
        MountKind::Image(image) => mounted.image(engine, spec, (number, image), check),
        _ => Ok(mount_source(mount, engine)?.map_or(Found::Nothing, Found::One)),
    });
    let found = found.collect::<Result<_>>()?;
    Ok((found, mounted))
}

impl Mounted {
    fn image(
        &mut self,
        engine: &Engine,
        spec: &Spec,
        (number, image): (usize, &ImageRoot),
        check: Check<'_>,
    ) -> Result<Found> {
        let place = image.lowest();
        let choice = driver::of_image(engine, spec, place, false)?;
        let layers = match image {
            ImageRoot::Layers(layers) => &layers[..],
            ImageRoot::Directory(path) if unpacked::is_archive(path) => std::slice::from_ref(path),
            ImageRoot::Directory(path) => {
                let source = directory(path)?;
                return Ok(match choice.driver {
                    Driver::Overlay => Found::Layers(vec![source]),
                    _ => Found::Tree { source, shifted: false },
                });
            }
        };
        if layers.is_empty() {
            return Ok(Found::Layers(Vec::new()));
        }
        if choice.shifted || (choice.driver != Driver::Overlay && driver::is_unmapped(engine, spec, place)) {
            self.unmapped.push((number, layers.into()));
            return Ok(Found::Nothing); // until `shift`
        }
        if choice.driver != Driver::Overlay {
            let (found, used) = tree(copy::union(choice.driver, layers, check)?, false);
            self.trees.push(used);
            return Ok(found);
        }
        let standing = used::take_stack(layers)?;
        let sources = layers_seen(layers, &standing);
        self.layers.push(standing);
        Ok(Found::Layers(sources))
    }

    /// The images that nothing else shows with the container's owners get those on the disk.
    pub fn shift(&self, ids: &Maps, check: Check<'_>) -> Result<()> {
        let mut made = Vec::new();
        for (number, layers) in &self.unmapped {
            let (found, used) = tree(copy::tree(layers, Kind::Shifted(ids), check)?, true);
            made.push((*number, found, used));
        }
        let _ = self.shifted.set(made);
        Ok(())
    }

    /// Into what `look` has found.
    pub fn complete(&self, found: &mut [Found]) {
        self.shifted.get().into_iter().flatten().for_each(|(number, shifted, _)| found[*number] = shifted.clone());
    }
}

fn tree((source, used): (Source, Used), shifted: bool) -> (Found, Used) {
    (Found::Tree { source, shifted }, used)
}
