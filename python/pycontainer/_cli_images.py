"""`images`, `pull`, `load` and `save`: docker's words for the store of images. On the public package only."""

from __future__ import annotations

import datetime
import json
import os
import sys
import tempfile
import time

import pycontainer as pc
from pycontainer._cli_containers import ago, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any, Literal

COLUMNS = ("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE")
SHORT_ID = 12
CHUNK = 1 << 20


def add_parsers(commands: Any, add_format: Callable[[argparse.ArgumentParser], None]) -> None:
    """docker's flags."""

    def parser(name: str, action: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = commands.add_parser(name, help=text, allow_abbrev=False)
        add_format(made)
        made.set_defaults(action=action)
        return made

    made = parser("images", images, "the images of the store")
    made.add_argument("-q", "--quiet", action="store_true", help="ids alone")
    made.add_argument("--no-trunc", action="store_true", help="whole ids")
    made.add_argument("repository", nargs="?", metavar="REPOSITORY[:TAG]", help="only these")
    made = parser("pull", pull, "bring an image from a registry")
    made.add_argument("-q", "--quiet", action="store_true", help="no progress")
    made.add_argument("--platform", metavar="OS/ARCH[/VARIANT]", help="this machine's by default")
    made.add_argument("reference", metavar="NAME[:TAG|@DIGEST]")
    made = parser("load", load, "bring images from what docker, podman or skopeo saved")
    made.add_argument("-i", "--input", metavar="FILE", help="a tar or an OCI layout; stdin by default")
    made.add_argument("-q", "--quiet", action="store_true", help="no progress")
    made = parser("save", save, "write an image to a tar that docker, podman and skopeo take")
    made.add_argument("-o", "--output", metavar="FILE", help="stdout by default, which must not be a terminal")
    made.add_argument("--oci", action="store_true", help="an OCI archive, without what only `docker load` reads")
    made.add_argument("reference", metavar="IMAGE")


def images(arguments: argparse.Namespace) -> int:
    """docker's table."""
    found = [row(image) for image in pc.Image.all() if _is_asked_for(image, arguments.repository)]
    if arguments.format == "json":
        print(json.dumps(found))
    elif arguments.quiet:
        for one in dict.fromkeys(one["id"] for one in found):
            print(one if arguments.no_trunc else _short(one))
    else:
        table([COLUMNS, *(_shown(one, arguments.no_trunc) for one in found)])
    return 0


def row(image: pc.Image) -> dict[str, Any]:
    """What is to be told of one."""
    name, _, tag = _familiar(image.reference or "").rpartition(":")
    created = next((entry["created"] for entry in reversed(image.history) if entry.get("created")), None)
    return {
        "repository": name, "tag": tag, "reference": image.reference, "id": image.id or "", "digest": image.digest,
        "created": created, "size": image.size, "platform": image.platform, "labels": dict(image.labels),
    }  # fmt: skip


def _familiar(reference: str) -> str:
    """Without what docker leaves out: docker.io/ and library/."""
    short = reference.removeprefix("docker.io/")
    return short.removeprefix("library/") if short != reference else reference


def _is_asked_for(image: pc.Image, repository: str | None) -> bool:
    if repository is None:
        return True
    name = _familiar(image.reference or "")
    return repository in (name, name.rpartition(":")[0])


def _short(digest: str) -> str:
    return digest.partition(":")[2][:SHORT_ID]


def _shown(one: dict[str, Any], whole: bool) -> tuple[str, ...]:
    made = "N/A"
    if one["created"]:
        at = datetime.datetime.fromisoformat(one["created"].replace("Z", "+00:00"))
        made = f"{ago(time.time() - at.timestamp())} ago"
    return one["repository"], one["tag"], one["id"] if whole else _short(one["id"]), made, size(one["size"])


def size(count: int) -> str:
    """docker's: go-units, HumanSizeWithPrecision of three digits, 1000-based."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.3g}{units[0]}"


def pull(arguments: argparse.Namespace) -> int:
    """One line at the end: the name in full, as docker."""
    progress = not arguments.quiet and arguments.format != "json"
    image = pc.Image.pull(arguments.reference, platform=arguments.platform, progress=progress)
    _tell(arguments, [image])
    return 0


def load(arguments: argparse.Namespace) -> int:
    """From a file, a directory, or stdin, which is kept in a file for the time."""
    progress = not arguments.quiet and arguments.format != "json"
    if arguments.input is not None:
        loaded = pc.Image.load(arguments.input, progress=progress)
    else:
        if sys.stdin.isatty():
            raise ValueError("load: stdin is a terminal; say --input FILE")
        with tempfile.NamedTemporaryFile(prefix="pycontainer-load-") as file:
            while data := sys.stdin.buffer.read(CHUNK):
                file.write(data)
            file.flush()
            loaded = pc.Image.load(file.name, progress=progress)
    _tell(arguments, loaded)
    return 0


def _tell(arguments: argparse.Namespace, found: list[pc.Image]) -> None:
    if arguments.format == "json":
        print(json.dumps([row(image) for image in found]))
        return
    for image in found:
        name = f"Loaded image: {_familiar(image.reference)}" if image.reference else f"Loaded image ID: {image.id}"
        print(name if arguments.action is load else image.reference)


def save(arguments: argparse.Namespace) -> int:
    """To a file, or to stdout by way of one."""
    image = pc.Image.get(arguments.reference)
    form: Literal["oci", "docker"] = "oci" if arguments.oci else "docker"
    if arguments.output is not None:
        image.save(arguments.output, format=form)
        return 0
    if sys.stdout.isatty():
        raise ValueError("save: stdout is a terminal; say --output FILE")
    with tempfile.TemporaryDirectory(prefix="pycontainer-save-") as directory:
        path = os.path.join(directory, "image.tar")
        image.save(path, format=form)
        with open(path, "rb") as file:
            while data := file.read(CHUNK):
                sys.stdout.buffer.write(data)
    return 0
