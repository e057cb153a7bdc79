//! Layers from files, for Python: trees to take them from, their digests, and COPY, ADD and WORKDIR. Done without the interpreter.

use super::commit::{Told, told};
use super::errors::raise;
use super::functions::interruptible;
use crate::error::Result;
use crate::image::copying::{self, Change, Content, Input, Owner, Wanted};
use crate::image::locks::paced;
use crate::image::store::Store;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::PathBuf;

/// A directory of the host, or a union of layers, opened once.
#[pyclass(frozen)]
pub struct Tree {
    tree: copying::Tree,
}

/// (path relative to where the listing began, what it is, its mode)
type Row<'py> = (Bound<'py, PyBytes>, char, u32);

#[pymethods]
impl Tree {
    #[staticmethod]
    fn context(py: Python<'_>, path: PathBuf) -> PyResult<Tree> {
        let tree = py.detach(|| copying::Tree::context(&path)).map_err(|error| raise(py, error))?;
        Ok(Tree { tree })
    }

    #[staticmethod]
    fn layers(py: Python<'_>, roots: Vec<PathBuf>) -> PyResult<Tree> {
        let tree = py.detach(|| copying::Tree::layers(&roots)).map_err(|error| raise(py, error))?;
        Ok(Tree { tree })
    }

    /// Everything beneath a directory; links in the path are followed inside.
    fn paths<'py>(&self, py: Python<'py>, path: Vec<u8>) -> PyResult<Vec<Row<'py>>> {
        let listed = interruptible(py, |check| self.tree.list(&path, &mut paced(check)))?;
        Ok(listed.iter().map(|one| (PyBytes::new(py, &one.path), one.kind, one.mode)).collect())
    }

    /// What is at a path, links followed inside; None where nothing is.
    fn kind(&self, py: Python<'_>, path: Vec<u8>) -> PyResult<Option<char>> {
        py.detach(|| self.tree.kind(&path)).map_err(|error| raise(py, error))
    }

    /// Where a path leads; None where nothing is there.
    fn real<'py>(&self, py: Python<'py>, path: Vec<u8>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let real = py.detach(|| self.tree.real(&path)).map_err(|error| raise(py, error))?;
        Ok(real.map(|real| PyBytes::new(py, &real)))
    }

    /// A regular file of at most so many bytes; None where nothing is there.
    fn read<'py>(&self, py: Python<'py>, path: Vec<u8>, most: u64) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let bytes = py.detach(|| self.tree.read(&path, most)).map_err(|error| raise(py, error))?;
        Ok(bytes.map(|bytes| PyBytes::new(py, &bytes)))
    }

    fn digest(&self, py: Python<'_>, sources: Vec<copying::Taken>) -> PyResult<String> {
        interruptible(py, |check| {
            copying::digest(&self.tree, &sources, &mut paced(check)).map(|digest| digest.to_string())
        })
    }
}

/// One source, as Python writes it.
#[derive(FromPyObject)]
pub enum Given {
    /// (tree, path, what is taken or None, whether a tar is unpacked)
    Path(Py<Tree>, Vec<u8>, Option<Vec<Vec<u8>>>, bool),
    /// (name, content, mode, time or None, whether a tar is unpacked)
    File(Vec<u8>, Held, u32, Option<i64>, bool),
}

/// A descriptor stays the caller's.
#[derive(FromPyObject)]
pub enum Held {
    Descriptor(i32),
    Bytes(Vec<u8>),
}

fn input(given: &Given) -> Result<Input<'_>> {
    Ok(match given {
        Given::Path(tree, path, taken, unpacks) => {
            Input::Path { tree: &tree.get().tree, path: path.clone(), taken: taken.clone(), unpacks: *unpacks }
        }
        Given::File(name, held, mode, mtime, unpacks) => {
            let content = match held {
                Held::Bytes(bytes) => Content::Bytes(bytes.clone()),
                Held::Descriptor(fd) => Content::of_descriptor(*fd)?,
            };
            Input::File { name: name.clone(), content, mode: *mode, mtime: *mtime, unpacks: *unpacks }
        }
    })
}

/// COPY and ADD: (digest of the blob, its size, its media type, digest of the tar); None where nothing changes.
#[pyfunction]
#[pyo3(signature = (store, below, sources, destination, *, directory, owner=None, chmod=None, link=false, made=0, latest=None))]
#[allow(clippy::too_many_arguments)] // each has its name in Python
pub fn layer_copy(
    py: Python<'_>,
    store: PathBuf,
    below: &Tree,
    sources: Vec<Given>,
    destination: Vec<u8>,
    directory: bool,
    owner: Option<&str>,
    chmod: Option<&str>,
    link: bool,
    made: i64,
    latest: Option<i64>,
) -> PyResult<Option<Told>> {
    let layer = interruptible(py, |check| {
        let wanted = Wanted {
            below: &below.tree,
            destination,
            is_directory: directory,
            owner: owner.map(Owner::parse).transpose()?,
            change: chmod.map(Change::parse).transpose()?,
            is_independent: link,
            made,
            latest,
        };
        let inputs = sources.iter().map(input).collect::<Result<_>>()?;
        let store = Store::open(&store)?;
        let _at_work = store.at_work()?;
        copying::layer(&store, inputs, &wanted, &mut paced(check))
    })?;
    Ok(layer.as_ref().map(told))
}

/// WORKDIR: as `layer_copy`; None where the directory is there.
#[pyfunction]
#[pyo3(signature = (store, below, path, *, owner=None, made=0))]
pub fn layer_directory(
    py: Python<'_>,
    store: PathBuf,
    below: &Tree,
    path: Vec<u8>,
    owner: Option<&str>,
    made: i64,
) -> PyResult<Option<Told>> {
    let layer = interruptible(py, |check| {
        let owner = owner.map(Owner::parse).transpose()?;
        let store = Store::open(&store)?;
        let _at_work = store.at_work()?;
        copying::directory(&store, &below.tree, &path, owner.as_ref(), made, &mut paced(check))
    })?;
    Ok(layer.as_ref().map(told))
}
