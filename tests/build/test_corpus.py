"""The corpus of Dockerfiles: what tools/against_builders.py found to be what docker and buildah make is made again."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import corpus
import layouts
import pycontainer as pc
import ranges
from building import Builder
from corpus import CASES, TABLES
from corpus.built import Rows, of_layout, rows, tree_of
from corpus.case import BASE, Case, bases
from corpus.server import serving
from pycontainer._build.parse import parse

EXPECTED: dict[str, Rows] = json.loads((Path(corpus.__file__).parent / "expected.json").read_text())

FLAGS = {
    "FROM": ("platform",),
    "RUN": ("mount", "network"),
    "COPY": ("from", "chown", "chmod", "link", "exclude", "parents"),
    "ADD": ("chown", "chmod", "checksum", "exclude", "unpack"),
    "HEALTHCHECK": ("interval", "timeout", "start-period", "start-interval", "retries"),
}
NONE = ("ARG", "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "MAINTAINER", "ONBUILD", "SHELL", "STOPSIGNAL", "USER",
        "VOLUME", "WORKDIR")  # fmt: skip


@pytest.fixture(scope="module")
def place(scratch: Path, rootfs: Path) -> Iterator[tuple[Path, Rows]]:
    """A store that has the bases, for all cases, and the tree of the first one."""
    where = Path(tempfile.mkdtemp(prefix="corpus-", dir=scratch))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYCONTAINER_ROOT", str(where / "store"))
        patch.delenv("SOURCE_DATE_EPOCH", raising=False)
        loaded = {image.reference: image for image in pc.Image.load(bases(where / "layout", rootfs))}
        yield where, tree_of(of_layout(where / "store/images", str(loaded[BASE].digest))[1])


def build(case: Case, where: Path) -> pc.Image:
    place = Path(tempfile.mkdtemp(prefix=f"{case.name}-", dir=where)) / "made"
    with contextlib.ExitStack() as stack:
        context, file = case.write(place, stack.enter_context(serving()) if case.fetches else "")
        return pc.Image.build(
            context, dockerfile=file, args=case.args, secrets=case.secrets, target=case.target,
            network="host" if case.fetches else "none",
        )  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_a_build_is_what_the_other_builders_make(place: tuple[Path, Rows], table: str) -> None:
    where, below = place
    names = [case.name for case in TABLES[table] if case.refused is None]

    def built(name: str) -> Rows:
        if CASES[name].by_root and ranges.are_missing():
            with pytest.raises(pc.BuildError, match="need a build by root"):
                build(CASES[name], where)
            return EXPECTED[name]
        image = build(CASES[name], where)
        return rows(*of_layout(where / "store/images", str(image.digest)), below)

    with ThreadPoolExecutor(4) as several:  # each waits for the disk
        found = dict(zip(names, several.map(built, names), strict=True))
    wanted = {name: EXPECTED[name] | (CASES[name].by_user if ranges.are_missing() else {}) for name in names}
    assert [name for name in names if found[name] != wanted[name]] == []
    assert found == wanted


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.refused is not None])
def test_what_is_not_carried_out_is_an_error_at_its_line(place: tuple[Path, Rows], name: str) -> None:
    with pytest.raises(pc.BuildError, match=str(CASES[name].refused)) as raised:
        build(CASES[name], place[0])
    assert raised.value.line is not None


def test_a_name_is_written_with_the_media_type_of_its_manifest(builder: Builder) -> None:
    builder.build("ENV A=1", tag="typed:1")
    described = json.loads((builder.store / "images/index.json").read_text())["manifests"]
    assert {one["mediaType"] for one in described} == {layouts.MANIFEST}


def test_what_is_expected_is_there_for_each_case_and_as_written_by_hand() -> None:
    built = {name: case for name, case in CASES.items() if case.refused is None}
    assert len(built) >= 60
    assert set(EXPECTED) == set(built)
    for name, case in built.items():
        assert dict(case.rows).items() <= EXPECTED[name].items(), name


def test_every_instruction_and_flag_is_in_the_corpus() -> None:
    seen = set()
    for case in CASES.values():
        for instruction in parse(case.dockerfile.replace("{url}", "http://there")).instructions:
            words = {word.partition("=")[0] for word in instruction.original.split()}
            seen |= {(instruction.keyword, None), *((instruction.keyword, word) for word in words)}
    wanted = {(keyword, None) for keyword in (*NONE, *FLAGS)}
    wanted |= {(keyword, f"--{flag}") for keyword, flags in FLAGS.items() for flag in flags}
    assert wanted <= seen
