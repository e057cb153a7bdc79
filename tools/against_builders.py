"""Builds the corpus of Dockerfiles (tests/corpus) with docker, buildah and Image.build, and prints what differs.

    against_builders.py [--page docs/dockerfile.md] [--write tests/corpus/expected.json] [--by docker,buildah] [CASE...]

Same contexts, same small base; no network. Compared are the fields of the config, and of the tree names, kinds, modes,
owners, contents, targets and extended attributes. With --page, exit code 1 where its table lacks a row for what is
found here, or has one for nothing. --write keeps what we made of each case, for the tests: only where all that differs
has its row. Needs root, pycontainer installed for this interpreter, and docker.io (a daemon of our own is started
where none answers) and buildah, or what --by names.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pycontainer as pc
import rootfs as rootfs_builder

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests")]
import peers  # noqa: E402

from corpus import CASES  # noqa: E402
from corpus.built import Rows, of_archive, of_layout, rows, tree_of  # noqa: E402
from corpus.case import BASE, BUILDERS, CHARGED, Case, bases  # noqa: E402
from corpus.server import serving  # noqa: E402

HEAD = "| builder | what | in which builds | why |\n"
Builder = Callable[[Case, Path, Path], Rows]
# A program that says what it sees of its image.
EXCHANGED = """RUN mkdir -m 2750 /d && cd /d && echo made > f && ln f hard && ln -s f link && chown worker:extra . f
COPY --chown=7:8 --chmod=644 a /d/
ENV A="from the image"
WORKDIR /d
USER worker
ENTRYPOINT ["sh", "-c"]
CMD ["id; pwd; echo $A $PATH; stat -c '%n %a %u %g %h' *; cat link a"]
"""


def run(*argv: str, **more: str) -> str:
    done = subprocess.run(argv, check=False, capture_output=True, text=True, env={**os.environ, **more})
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv[:3])}: {(done.stderr + done.stdout).strip()[-400:]}")
    return done.stdout


# ---- the builders ------------------------------------------------------------------------------------------------


class Ours:
    """Image.build, in a store below `scratch`."""

    def __init__(self, scratch: Path, layout: Path) -> None:
        os.environ["PYCONTAINER_ROOT"] = str(scratch / "store")
        self._images = scratch / "store/images"
        base = next(image for image in pc.Image.load(layout) if image.reference == BASE)
        self.below = tree_of(of_layout(self._images, str(base.digest))[1])

    def __call__(self, case: Case, context: Path, file: Path) -> Rows:
        image = pc.Image.build(
            context, dockerfile=file, args=case.args, secrets=case.secrets, target=case.target,
            network="host" if case.fetches else "none",
        )  # fmt: skip
        return rows(*of_layout(self._images, str(image.digest)), self.below)


def options_of(case: Case, context: Path, file: Path) -> list[str]:
    """What `docker build` and `buildah bud` both understand."""
    words = ["-f", str(file)]
    for name, value in case.args.items():
        words += ["--build-arg", f"{name}={value}"]
    for name, content in case.secrets.items():
        path = file.parent / f"secret-{name}"
        path.write_bytes(content)
        words += ["--secret", f"id={name},src={path}"]
    return [*words, *(["--target", case.target] if case.target else []), str(context)]


class Docker:
    """BuildKit, as docker has it in it."""

    def __init__(self, stack: ExitStack, scratch: Path, below: Rows) -> None:
        stack.callback(peers.remove_new_groups, peers.groups())
        self._client, _ = peers.docker_host(stack, str(scratch))
        self._archive, self._below = scratch / "docker.tar", below
        for name in (BASE, CHARGED):
            saved(name, self._archive)
            self._run("load", "-i", str(self._archive))

    def _run(self, *words: str) -> str:
        return run(*self._client, *words, DOCKER_BUILDKIT="1")

    def __call__(self, case: Case, context: Path, file: Path) -> Rows:
        tag = f"corpus-{case.name}:latest"
        self._run("build", "--network", "none", "-q", "-t", tag, *options_of(case, context, file))
        self._run("save", "-o", str(self._archive), tag)
        return rows(*of_archive(self._archive), self._below)

    def exchange(self, place: Path) -> list[str]:
        """A program, in an image that we build and in one that docker builds, each run by both."""
        case = Case("exchange", EXCHANGED)
        context, file = case.write(place)
        said: dict[str, str] = {}
        for builder in ("here", "docker"):
            tag = f"localhost/exchanged-{builder}:1"
            if builder == "here":
                pc.Image.build(context, dockerfile=file, tag=tag).save(self._archive, format="docker")
                self._run("load", "-i", str(self._archive))
            else:
                self._run("build", "--network", "none", "-q", "-t", tag, *options_of(case, context, file))
                self._run("save", "-o", str(self._archive), tag)
                pc.Image.load(self._archive)
            said[f"built {builder}, run here"] = str(pc.run(image=tag, text=True, check=True).stdout)
            said[f"built {builder}, run by docker"] = self._run("run", "--rm", "--network", "none", tag)
        if len(set(said.values())) == 1 and "from the image" in said["built here, run here"]:
            return []
        return [f"exchange: {how}: {text!r}" for how, text in said.items()]


def saved(name: str, archive: Path) -> None:
    """A docker save archive of a base, with all fields of its config; tools that go by way of OCI lose some."""
    image = next(image for image in pc.Image.all() if image.reference == name)
    image.save(archive, format="docker")


def buildah(stack: ExitStack, scratch: Path, below: Rows) -> Builder:
    """buildah, without a daemon, in a store of its own."""
    place = scratch / "buildah"
    place.mkdir()
    store = ["--storage-driver", "vfs", "--root", str(place / "root"), "--runroot", str(place / "run")]
    stack.callback(subprocess.run, ["buildah", *store, "rm", "-a"], check=False, capture_output=True)
    for name in (BASE, CHARGED):
        archive = place / "base.tar"
        saved(name, archive)
        run("buildah", *store, "pull", f"docker-archive:{archive}")
        archive.unlink()
    archive = place / "made.tar"

    def build(case: Case, context: Path, file: Path) -> Rows:
        tag = f"localhost/corpus-{case.name}:latest"
        words = ["--isolation", "chroot", "--network", "host", "--format", "docker", "-t", tag]
        run("buildah", *store, "bud", *words, *options_of(case, context, file))
        archive.unlink(missing_ok=True)
        run("buildah", *store, "push", tag, f"docker-archive:{archive}")
        config, layers = of_archive(archive)
        (config["config"].get("Labels") or {}).pop("io.buildah.version", None)  # its own mark
        return rows(config, layers, below)

    return build


# ---- what differs ------------------------------------------------------------------------------------------------


def differences(theirs: Rows, ours: Rows) -> Iterator[tuple[str, str, str]]:
    """(what, there, here)"""
    for what in sorted({*theirs, *ours}):
        pair = theirs.get(what, "as before"), ours.get(what, "as before")
        if pair[0] != pair[1]:
            yield what, *pair


class Table:
    """The page's table of differences: builder, patterns of what differs and of names of cases."""

    def __init__(self, page: Path | None) -> None:
        text = page.read_text().partition(HEAD)[2].partition("\n\n")[0] if page else ""
        cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines()[1:]]
        self.rows = [(row[0].split(", "), re.findall("`([^`]+)`", row[1]), row[2].split(", ")) for row in cells]
        self.used: set[int] = set()

    def has(self, builder: str, case: str, what: str) -> bool:
        for number, (builders, patterns, cases) in enumerate(self.rows):
            named = any(fnmatch.fnmatchcase(what, pattern) for pattern in patterns)
            if builder in builders and named and any(fnmatch.fnmatchcase(case, one) for one in cases):
                self.used.add(number)
                return True
        return False

    def unused(self) -> list[str]:
        return [f"{row[0]} {row[1]} {row[2]}" for number, row in enumerate(self.rows) if number not in self.used]


def compare(case: Case, ours: Rows, builders: dict[str, Builder], place: tuple[Path, Path], table: Table) -> list[str]:
    """What differs and has no row, as lines."""
    if not case.by:
        seen = {what: row for what, row in ours.items() if what in case.rows or not what.startswith("config.")}
        found = differences(dict(case.rows), seen)
        return [f"{case.name}: {what}: by hand {there}, here {here}" for what, there, here in found]
    lines = []
    for name, build in builders.items():
        if name not in case.by:
            continue
        try:
            theirs = build(case, *place)
        except RuntimeError as error:
            if not table.has(name, case.name, "error"):
                lines.append(f"{case.name}: {name}: error: {error}")
            continue
        for what, there, here in differences(theirs, ours):
            if not table.has(name, case.name, what):
                lines.append(f"{case.name}: {what}: {name} {there}, here {here}")
    return lines


def build_one(case: Case, place: Path, ours: Ours, url: str) -> tuple[Rows, tuple[Path, Path]]:
    where = case.write(place, url)
    if case.refused is None:
        return ours(case, *where), where
    try:
        ours(case, *where)
    except pc.BuildError as error:
        if case.refused in str(error):
            return {}, where
        raise
    raise RuntimeError("it is not refused")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, help="a page with the table of differences")
    parser.add_argument("--write", type=Path, help="where to keep what was made")
    parser.add_argument("--by", default=",".join(BUILDERS), help="the builders that are asked")
    parser.add_argument("cases", nargs="*", help="the cases; all of them unless some are named")
    options = parser.parse_args()
    table, kept, lines = Table(options.page), {}, []
    asked = [name for name in options.by.split(",") if name]
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="builders-") as directory, ExitStack() as stack:
        scratch = Path(directory)
        layout = bases(scratch / "layout", rootfs_builder.build(scratch / "rootfs"))
        ours = Ours(scratch, layout)
        known: dict[str, Callable[..., Builder]] = {"docker": Docker, "buildah": buildah}
        builders = {name: known[name](stack, scratch, ours.below) for name in asked}
        url = stack.enter_context(serving())
        for name in options.cases or CASES:
            case = CASES[name]
            try:
                made, place = build_one(case, scratch / name, ours, url)
            except (pc.Error, RuntimeError, AssertionError) as error:
                lines.append(f"{name}: here: {error}")
                continue
            if case.refused is None:
                found = compare(case, made, builders, place, table)
                lines += found
                print("\n".join(found) or f"{name}: same", flush=True)
                kept[name] = made
        for builder in builders.values():
            if isinstance(builder, Docker):
                lines += (found := builder.exchange(scratch / "exchange"))
                print("\n".join(found) or "exchange: the same bytes, whoever built it and whoever runs it")
    print(f"{len(CASES)} cases, {len(kept)} built; {len(lines)} differences without a row")
    if options.page and not options.cases and len(asked) == len(BUILDERS):
        lines += (stale := [f"a row for nothing: {row}" for row in table.unused()])
        print("\n".join(stale))
    if options.write and not lines:
        options.write.write_text(json.dumps(kept, indent=1) + "\n")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
