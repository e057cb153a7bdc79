"""Properties of mounts and files: targets cannot leave the root, overlaps are always found, order is parents first."""

from __future__ import annotations

import itertools
import os
import pathlib
import pickle
import posixpath

import pytest
from hypothesis import given, strategies as st

from pycontainer._mounts import Mount, plan_files, plan_mounts
from pycontainer._types import container_path, host_path, within

parts = st.sampled_from(["a", "b", "..", ".", "", "proc", "sys", "dev", "ab"])
paths = st.lists(parts, max_size=5).map("/".join)
targets = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map(lambda p: "/" + "/".join(p))


def attempt(call, *args, **kwargs):
    """What a call gives, and the refusal that it raises: one of them is None."""
    try:
        return call(*args, **kwargs), None
    except (ValueError, TypeError) as refusal:
        return None, refusal


def below(path: str, parent: str) -> bool:
    return pathlib.PurePosixPath(path).is_relative_to(parent)


@given(paths | st.text(max_size=20) | st.binary(max_size=20))
def test_a_container_path_is_normal_and_inside_or_refused_by_name(path):
    made, refusal = attempt(container_path, path, "the_name")
    if refusal:
        assert isinstance(refusal, ValueError)
        assert "the_name" in str(refusal)
        return
    raw = os.fsdecode(path)
    assert raw.startswith("/")
    assert ".." not in raw.split("/")
    assert made == "/" + posixpath.normpath(raw).lstrip("/")
    assert container_path(made, "x") == made


@given(paths)
def test_a_mount_never_covers_what_is_the_engines_own(path):
    mount, refusal = attempt(Mount.tmpfs, "/" + path)
    if refusal:
        assert str(refusal).startswith("target")
    else:
        assert mount.target not in ("/", "/dev")
        assert not below(mount.target, "/proc")
        assert not below(mount.target, "/sys")


@given(paths.filter(bool))
def test_a_host_path_names_the_same_file_and_is_absolute(path):
    made = host_path(path, "x")
    assert made.startswith("/")
    assert host_path(made, "x") == made
    # Two leading slashes are one on Linux; POSIX lets normpath keep them.
    assert os.path.normpath(made).lstrip("/") == os.path.abspath(path).lstrip("/")


@given(targets, targets)
def test_within(path, parent):
    assert within(path, parent) == below(path, parent)


@given(st.lists(targets, max_size=6))
def test_mounts_come_parents_first_or_two_share_a_target(said):
    mounts = [Mount.bind(f"/src{index}", target) for index, target in enumerate(said)]
    if len(set(said)) < len(said):
        with pytest.raises(ValueError, match="two for one target"):
            plan_mounts(mounts)
        return
    planned = plan_mounts(mounts)
    assert sorted(planned, key=repr) == sorted(mounts, key=repr)
    for earlier, later in itertools.combinations(planned, 2):
        assert not below(earlier.target, later.target)


@given(st.sets(targets, max_size=4), st.sets(targets, max_size=3))
def test_files_are_refused_exactly_when_something_overlaps(files, mounted):
    mounts = plan_mounts([Mount.tmpfs(target) for target in mounted])
    clash = any(below(a, b) or below(b, a) for a, b in itertools.combinations(files, 2)) or any(
        below(f, m) or below(m, f) for f in files for m in mounted
    )
    content = dict.fromkeys(files, b"")
    if clash:
        with pytest.raises(ValueError, match="files"):
            plan_files(content, mounts)
    else:
        assert {target for target, _ in plan_files(content, mounts)} == files


@given(targets, st.booleans(), st.none() | st.integers(0, 2**32 - 2))
def test_a_mount_is_its_repr_and_pickles(target, read_only, owner):
    mount, refusal = attempt(Mount.bind, "/src", target, read_only=read_only, owner=owner)
    if read_only and owner is not None:
        assert str(refusal).startswith("owner")
        return
    assert eval(repr(mount)) == mount
    assert pickle.loads(pickle.dumps(mount)) == mount
    assert hash(pickle.loads(pickle.dumps(mount))) == hash(mount)
