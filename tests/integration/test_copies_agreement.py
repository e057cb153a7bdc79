"""COPY and ADD make the trees that buildah makes: owners, modes, links, contents.

With PYCONTAINER_TEST_DOCKER=unix:///... it is a dockerd's BuildKit instead.

What is different by intent, and so is not among the cases:
- An owner whose name the image does not have: an error here and in buildah; root, silently, in BuildKit.
- A directory that --chmod's COPY has to make on the way: 0755 here and in buildah; the given mode in BuildKit of 2026.
- A name that begins with .wh.: an error here, since a layer would say by it that a file was deleted.
- bzip2 and xz: ADD refuses them here by name.
- A name beneath a link of the archive itself: here the link leads from the image's root, as in a container.
- Of a directory that is there already, the time: here it stays, there it is that of the build.
- A destination that is a link to a file, or leads nowhere: followed here and in BuildKit; buildah replaces
  it, or makes a directory where it leads.
- Set-id bits of a context: kept here and by BuildKit; buildah takes them away.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pycontainer import _core
from pycontainer._build.commands import destination

DOCKER = "PYCONTAINER_TEST_DOCKER"  # where a dockerd listens, whose BuildKit then stands in for buildah
Facts = dict[str, tuple[object, ...]]


@dataclass(frozen=True)
class Case:
    sources: tuple[str, ...]
    to: str
    add: bool = False
    owner: str | None = None
    chmod: str | None = None
    stage: bool = False

    def line(self) -> str:
        flags = [f"--chown={self.owner}" if self.owner else "", f"--chmod={self.chmod}" if self.chmod else ""]
        flags.append("--from=base" if self.stage else "")
        return " ".join(["ADD" if self.add else "COPY", *filter(None, flags), *self.sources, self.to])


CASES = {
    "a file to a name": Case(("f",), "/new"),
    "a file into a directory": Case(("f",), "/tmp"),
    "a file into a directory that is missing": Case(("f",), "/a/b/c/"),
    "a file over a file": Case(("f",), "/etc/motd"),
    "a file into a link to a directory": Case(("f",), "/bin/"),
    "a file below a link to a directory": Case(("f",), "/bin/deep/g"),
    "through an absolute link": Case(("f",), "/absolute/x"),
    "a directory's content": Case(("d",), "/d2"),
    "a directory's content into one that is there": Case(("d",), "/tmp"),
    "a directory over one of another mode": Case(("d",), "/srv/"),
    "several sources": Case(("f", "d", "g"), "/all/"),
    "all of it": Case((".",), "/app"),
    "a link to a file": Case(("to_f",), "/x"),
    "a link to a directory": Case(("to_d",), "/x/"),
    "a link to a file, into a directory": Case(("to_f",), "/tmp/"),
    "numbers own it": Case(("d",), "/deep/own/", owner="7:8"),
    "one number owns it": Case(("f",), "/deep/own/", owner="7"),
    "names own it": Case(("d", "f"), "/deep/own/", owner="app:grp"),
    "a name owns it": Case(("f",), "/own", owner="app"),
    "a mode": Case(("f",), "/tmp/", chmod="0640"),
    "a mode for directories": Case(("d",), "/tmp/", chmod="0750"),
    "of another stage": Case(("/etc/owned",), "/x", stage=True),
    "a directory of another stage": Case(("/etc",), "/etc2", stage=True),
    "a link of another stage": Case(("/bin",), "/bin2", stage=True),
    "an archive": Case(("tar.tar",), "/un/packed", add=True),
    "an archive of gzip": Case(("tar.tar.gz",), "/", add=True),
    "an archive through a link": Case(("tar.tar",), "/bin", add=True),
    "ADD of a plain file": Case(("f",), "/tmp/", add=True),
}


BUILDKIT_ONLY = {
    "a file over a link": Case(("f",), "/etc/link"),
    "a file over a dangling link": Case(("f",), "/dangling"),
    "a file with a set-id bit": Case(("set",), "/"),
}


def base(root: Path) -> None:
    for path, mode in (("usr/bin", 0o755), ("tmp", 0o1777), ("etc", 0o755), ("srv", 0o700), ("srv/sub", 0o711)):
        (root / path).mkdir(parents=True)
        (root / path).chmod(mode)
    (root / "etc/motd").write_text("hello")
    (root / "etc/owned").write_text("mine")
    os.chown(root / "etc/owned", 33, 44)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\napp:x:1234:55::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\ngrp:x:77:\n")
    for name, target in (
        ("bin", "usr/bin"), ("etc/link", "motd"), ("dangling", "var/lost"), ("absolute", "/usr/bin"),
    ):  # fmt: skip
        (root / name).symlink_to(target)


def context(root: Path) -> None:
    (root / "d/sub").mkdir(parents=True)
    (root / "d/sub").chmod(0o750)
    for path, mode in (("f", 0o644), ("g", 0o755), ("set", 0o4755), ("d/x", 0o600), ("d/sub/y", 0o777)):
        (root / path).write_text(path)
        (root / path).chmod(mode)
    (root / "d/empty").mkdir()
    os.link(root / "d/x", root / "d/again")
    for name, target in (("to_f", "f"), ("to_d", "d"), ("d/link", "/etc/motd"), ("d/broken", "nowhere")):
        (root / name).symlink_to(target)
    for name, kind in (("tar.tar", "w"), ("tar.tar.gz", "w:gz")):
        with tarfile.open(root / name, kind) as tar:
            for path, owner in (("d", 0), ("d/x", 12), ("d/sub", 13), ("d/sub/y", 14), ("to_f", 15)):
                member = tar.gettarinfo(str(root / path), path)
                member.uid = member.gid = owner
                with (root / path).open("rb") if member.isreg() else open(os.devnull, "rb") as data:
                    tar.addfile(member, data if member.isreg() else None)


def merged(facts: Facts, blob: Path, prefix: str = "") -> Facts:
    """What a tar makes of a tree: modes, owners, targets of links, contents; no times."""
    with tarfile.open(blob) as tar:
        for member in tar:
            name = member.name.removeprefix("./").strip("/")
            if not name.startswith(prefix) or name in ("", "."):
                continue
            assert ".wh." not in name
            shape: tuple[object, ...] = (member.type,)
            if member.islnk():
                facts[name] = facts[member.linkname.removeprefix("./").strip("/")]
                continue
            if member.isreg():
                data = tar.extractfile(member)
                assert data is not None
                shape = (b"0", data.read())
            if not member.isdir():
                for below in [path for path in facts if path.startswith(f"{name}/")]:
                    del facts[below]
            mode = 0 if member.issym() else member.mode & 0o7777
            facts[name] = (*shape, mode, member.uid, member.gid, member.linkname)
    return facts


@pytest.fixture
def room(tmp_path: Path) -> Path:
    for name, fill in (("base", base), ("context", context)):
        (tmp_path / name).mkdir()
        fill(tmp_path / name)
    return tmp_path


def by_us(room: Path, case: Case) -> Facts:
    lower, tree = _core.Tree.layers([room / "base"]), _core.Tree.context(room / "context")
    taken = lower if case.stage else tree
    to = destination("/", case.to)
    made = _core.layer_copy(
        room / "store", lower, [(taken, os.fsencode(source), None, case.add) for source in case.sources],
        os.fsencode(to.path), directory=to.directory, owner=case.owner, chmod=case.chmod,
    )  # fmt: skip
    with tarfile.open(room / "base.tar", "w") as tar:
        tar.add(room / "base", ".")
    facts = merged({}, room / "base.tar")
    return facts if made is None else merged(facts, room / "store/images/blobs/sha256" / made[0][7:])


def dockerfile(room: Path, cases: dict[str, Case]) -> None:
    lines = ["FROM scratch AS base", "ADD base.tar /"]
    for number, case in enumerate(cases.values()):
        lines += [f"FROM base AS c{number}", case.line()]
    lines.append("FROM scratch")
    lines += [f"COPY --from=c{number} / /{number}/" for number in range(len(cases))]
    (room / "Dockerfile").write_text("\n".join(lines))


def by_buildah(room: Path) -> Path:
    where = ["buildah", "--storage-driver", "vfs", "--root", str(room / "root"), "--runroot", str(room / "run")]
    build = ["build", "--isolation", "chroot", "--layers=false", "-f", str(room / "Dockerfile"), "-t", "all"]
    subprocess.run([*where, *build, str(room / "context")], check=True, capture_output=True)
    archive = f"oci:{room / 'layout'}:all"
    subprocess.run([*where, "push", "all", archive], check=True, capture_output=True)
    (blob,) = [path for path in (room / "layout/blobs/sha256").iterdir() if path.open("rb").read(2) == b"\x1f\x8b"]
    return blob


def by_docker(room: Path) -> Path:
    output = room / "docker.tar"
    environment = os.environ | {"DOCKER_HOST": os.environ[DOCKER], "DOCKER_BUILDKIT": "1"}
    command = [
        "docker",
        "build",
        "-f",
        str(room / "Dockerfile"),
        "-o",
        f"type=tar,dest={output}",
        str(room / "context"),
    ]
    subprocess.run(command, check=True, env=environment)
    return output


@pytest.mark.requires("root", "program:buildah")
@pytest.mark.timeout(300)
def test_trees_are_those_of_buildah(room: Path, times: Callable[[int], range]) -> None:
    is_docker = DOCKER in os.environ
    if not is_docker:
        (room / "context/set").unlink()
    cases = CASES | BUILDKIT_ONLY if is_docker else CASES
    step = 1 if len(times(10)) == 10 else 6
    cases = dict(list(cases.items())[::step])
    with tarfile.open(room / "context/base.tar", "w") as tar:
        tar.add(room / "base", ".")
    dockerfile(room, cases)
    (room / "context/.dockerignore").write_text("")
    blob = by_docker(room) if is_docker else by_buildah(room)
    theirs = merged({}, blob)
    (room / "context/.dockerignore").unlink()
    wrong = []
    for number, (name, case) in enumerate(cases.items()):
        ours = by_us(room, case)
        prefix = f"{number}/"
        found = {path.removeprefix(prefix): fact for path, fact in theirs.items() if path.startswith(prefix)}
        for facts in (ours, found):
            for path in [path for path in facts if path.endswith((".dockerignore", "base.tar"))]:
                del facts[path]
        wrong += [
            f"{name}: {path}: ours {ours.get(path)}, theirs {found.get(path)}"
            for path in sorted(ours.keys() | found.keys())
            if ours.get(path) != found.get(path)
        ]
    shutil.rmtree(room / "store")
    assert not wrong, "\n".join(wrong)
