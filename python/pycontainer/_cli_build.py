"""`build` and `builder prune`: docker's words for Image.build and Image.prune_cache. On the public package only.

    pycontainer build [-t NAME] [-f FILE] [--target STAGE] [--build-arg K=V] [--secret id=ID,src=FILE] PATH
    pycontainer builder prune [-f] [--filter until=DURATION]

What goes on is told on stderr, in lines. A build that fails is 1, and so is a prune to which nobody said yes.
"""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from pathlib import Path

import pycontainer as pc
from pycontainer._cli_images import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any


def add_parser(commands: Any, add_format: Callable[[argparse.ArgumentParser], None]) -> None:
    """docker's flags."""
    made = commands.add_parser(
        "build",
        usage="pycontainer build [OPTIONS] PATH",
        help="build an image from a Dockerfile",
        description="PATH is the directory that COPY takes files from.",
        allow_abbrev=False,
    )
    add = made.add_argument
    add("-t", "--tag", action="append", default=[], metavar="NAME[:TAG]", help="the image's name; more than one can be")
    add("-f", "--file", metavar="FILE", help="the Dockerfile: PATH/Dockerfile by default")
    add("--target", metavar="STAGE", help="the last one by default")
    add("--build-arg", action="append", default=[], metavar="K=V", help="K alone takes this environment's value")
    add(
        "--secret",
        action="append",
        default=[],
        metavar="id=ID[,src=FILE|,env=NAME]",
        help="for RUN --mount=type=secret",
    )
    add("--network", choices=("none", "host"), default="none", help="of RUN: only loopback, or this machine's")
    add("--no-cache", action="store_true", help="carry every step out again")
    add("-m", "--memory", metavar="SIZE", help="of each RUN")
    add("--progress", choices=("auto", "plain", "quiet"), default="auto")
    add("-q", "--quiet", action="store_true", help="only the image's id, on stdout")
    add("path", metavar="PATH")
    add_format(made)
    made.set_defaults(action=build)
    made = commands.add_parser(
        "builder",
        usage="pycontainer builder prune [OPTIONS]",
        help="remove what builds keep: steps, and caches of RUN",
        allow_abbrev=False,
    )
    made.add_argument("what", choices=("prune",))
    made.add_argument("-a", "--all", action="store_true", help="docker's; all of it is removed in any case")
    made.add_argument("-f", "--force", action="store_true", help="ask nobody")
    made.add_argument("--filter", metavar="until=DURATION", help="only what no build used for that long: 24h")
    add_format(made)
    made.set_defaults(action=prune)


def build(arguments: argparse.Namespace) -> int:
    """Build, and give the image its names."""
    if arguments.path == "-" or "://" in arguments.path:
        raise pc.NotSupported(f"build {arguments.path}", "PATH is a directory of this machine", "fetch it first")
    quiet = arguments.quiet or arguments.progress == "quiet"
    try:
        image = pc.Image.build(
            arguments.path,
            dockerfile=None if arguments.file is None else Path(arguments.file),
            target=arguments.target,
            tag=arguments.tag[0] if arguments.tag else None,
            args=dict(filter(None, map(_argument, arguments.build_arg))),
            secrets=dict(map(secret, arguments.secret)),
            cache=not arguments.no_cache,
            network=arguments.network,
            limits=pc.Limits(memory=arguments.memory),
            progress=not quiet,
        )
    except pc.BuildError as error:
        if arguments.format == "json":
            says = {"error": "BuildError", "message": str(error), "line": error.line, "step": error.step}
            print(json.dumps({**says, "exit_code": 1}))
        else:
            print(f"ERROR: failed to build: {error}", file=sys.stderr)
        return 1
    for name in arguments.tag[1:]:
        image.tag(name)
    if arguments.format == "json":
        print(json.dumps({"reference": image.reference, "digest": image.digest, "id": image.id, "size": image.size}))
    elif arguments.quiet:
        print(image.id)
    return 0


def prune(arguments: argparse.Namespace) -> int:
    """Ask, as docker does, and remove what builds keep."""
    older_than = None if arguments.filter is None else unused_for(arguments.filter)
    if not arguments.force:
        print("WARNING! This will remove all build cache. Are you sure you want to continue? [y/N] ", end="",
              file=sys.stderr, flush=True)  # fmt: skip
        if sys.stdin.readline().strip().lower() != "y":
            return 1
    freed = pc.Image.prune_cache(older_than)
    print(json.dumps({"reclaimed": freed}) if arguments.format == "json" else f"Total:\t{size(freed)}")
    return 0


_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def unused_for(text: str) -> float:
    """docker's filter of this kind: seconds of `until=24h`.

    Raises:
        ValueError: it is another one.
    """
    key, _, duration = text.partition("=")
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", duration)
    if key not in ("until", "unused-for") or not parts or "".join(map("".join, parts)) != duration:
        raise ValueError(f"--filter: not until=DURATION (24h, 1h30m): {text!r}")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _argument(text: str) -> tuple[str, str] | None:
    name, equals, value = text.partition("=")
    if equals:
        return name, value
    return (name, os.environ[name]) if name in os.environ else None


def secret(text: str) -> tuple[str, bytes | Path]:
    """docker's: fields between commas; without src it is a variable of this environment, or a file, of the id's name.

    Raises:
        ValueError: a field that there is not, no id, a variable that is not set.
    """
    fields = dict(field.partition("=")[::2] for field in next(csv.reader([text]), []))
    kind, name = fields.pop("type", ""), fields.pop("id", "")
    source = fields.pop("src", fields.pop("source", ""))
    variable = fields.pop("env", "")
    if kind == "env" and not variable:
        variable, source = source, ""
    if fields or not name or kind not in ("", "file", "env"):
        raise ValueError(f"--secret: not id=ID[,src=FILE|,env=NAME]: {text!r}")
    if not source and not variable:
        variable, source = (name, "") if name in os.environ and kind != "file" else ("", name)
    if variable:
        if variable not in os.environ:
            raise ValueError(f"--secret: {variable} is not set")
        return name, os.environb[os.fsencode(variable)]
    return name, Path(source).expanduser()
