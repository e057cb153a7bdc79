"""Stages: built at the same time, only where they are needed; what they take from each other."""

from __future__ import annotations

import pytest

import pycontainer as pc
from building import Builder, failing
from pycontainer import _core
from pycontainer._build import values
from pycontainer._build.source import Word

pytestmark = pytest.mark.requires("userns")


def test_stages_that_do_not_need_each_other_overlap(builder: Builder) -> None:
    """Each waits for the other to have begun: one after the other they would never end."""
    wait = "echo > /c/{0}; until [ -e /c/{1} ]; do sleep 0.01; done; echo > /{0}"
    meet = f"RUN --mount=type=cache,id=meet,target=/c {wait}"
    image = builder.build(
        f"FROM base:1 AS one\n{meet.format('one', 'two')}\nFROM base:1 AS two\n{meet.format('two', 'one')}\n"
        "FROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /",
        limits=pc.Limits(wall_time=20),
    )
    assert sorted(image.files()) == ["/one", "/two"]


def test_what_the_target_does_not_need_is_not_carried_out(builder: Builder) -> None:
    text = "FROM base:1 AS unused\nRUN exit 1\nFROM base:1 AS mid\nRUN echo m > /m\nFROM base:1 AS last\nRUN exit 2"
    image = builder.build(text, target="mid")
    assert {one.stage for one in builder.events} == {"mid"}
    assert image.open("/m").read() == b"m\n"
    assert failing(lambda: builder.build(text)).line == 6
    assert builder.build(text, target="1") == image
    assert "no stage" in str(failing(lambda: builder.build(text, target="nix")))


def test_a_stage_goes_on_where_its_base_ended(builder: Builder) -> None:
    image = builder.build(
        'FROM base:1 AS a\nENV A=1\nARG B=2\nWORKDIR /w\nSHELL ["/bin/sh", "-ec"]\nRUN echo $A$B > f\n'
        "FROM a AS b\nRUN cat f; echo $A$B\nCMD x"
    )
    assert builder.output() == "12\n12\n"
    assert (image.config["WorkingDir"], image.config["Cmd"]) == ("/w", ["/bin/sh", "-ec", "x"])


def test_copy_from_stages_images_and_numbers(builder: Builder) -> None:
    image = builder.build(
        "FROM base:1 AS a\nRUN mkdir /out; echo a > /out/a; chown 7:8 /out/a; ln -s a /out/link\n"
        "FROM scratch\nCOPY --from=0 /out/ /n/\nCOPY --from=a /out/a /s\nCOPY --from=base:1 /bin/busybox /bin/"
    )
    assert {"/n/a", "/n/link", "/s", "/bin/busybox"} <= set(image.files())


def test_arguments_reach_from_and_stages(builder: Builder) -> None:
    builder.build("RUN echo two > /which", tag="base:2")
    text = "ARG VERSION=1\nFROM base:$VERSION AS s\nARG VERSION\nRUN echo $VERSION; cat /which || true"
    builder.build(text, args={"VERSION": "2"})
    assert builder.output() == "2\ntwo\n"
    builder.build("RUN true", args={"NOT_THERE": "1"})
    assert [one.text for one in builder.events if one.kind == "warning"] == [
        "one or more build args were not consumed: NOT_THERE"
    ]


def test_the_first_failure_ends_the_others(builder: Builder) -> None:
    text = "FROM base:1 AS slow\nRUN sleep 100\nFROM base:1\nCOPY --from=slow /x /\nFROM base:1 AS bad\nRUN exit 3\n"
    error = failing(lambda: builder.build(text + "FROM scratch\nCOPY --from=bad / /\nCOPY --from=slow / /"))
    assert (error.line, error.step) == (6, "RUN exit 3")


def test_what_progress_raises_ends_the_build(builder: Builder) -> None:
    class Enough(Exception):
        pass

    def progress(event: object) -> None:
        if getattr(event, "kind", "") == "stdout":
            raise Enough

    with pytest.raises(Enough):
        builder.build("RUN echo x; sleep 100", progress=progress)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("FROM nowhere:1", 1, "nowhere"),
        ("FROM base:1\nFROM Base:@", 2, "reference"),
        ("FROM base:1 AS a\nFROM base:1\nCOPY --from=missing /x /", 3, "missing"),
        ("FROM a AS a\nRUN true", 1, "no image"),
        ("FROM --platform=linux/s390x base:1\nRUN true", 1, "s390x"),
        ("FROM --platform=linux/s390x scratch\nRUN true", 1, "s390x"),
    ],
)
def test_bases_that_are_not_there(builder: Builder, text: str, line: int, says: str) -> None:
    error = failing(lambda: builder.build(text))
    assert error.line == line
    assert says in str(error)


@pytest.mark.parametrize(
    "text",
    ["amd64", "linux/amd64", "x86_64", "x86-64", "AMD64", "Linux/ARM64", "aarch64", "arm64/v8", "linux/arm64/v8",
     "armhf", "armel", "arm", "linux/arm/v6", "linux/arm/v7", "i386", "linux/386", "windows/amd64", "linux/riscv64"],
)  # fmt: skip
def test_a_platform_is_read_as_the_store_reads_it(text: str) -> None:
    """FROM --platform= and platform= choose the same image: two readers, one of which works without the extension."""
    ours, stores = values.platform(Word(text)), _core.platform_parse(text)
    # arm is its v7, and arm64 its v8.
    plain = {"linux/arm/v7": "linux/arm", "linux/arm64/v8": "linux/arm64"}
    assert plain.get(ours, ours) == plain.get(stores, stores)
