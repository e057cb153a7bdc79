"""What was carried out before is not carried out again, what has changed is: by the number of RUNs executed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

import pycontainer as pc
from building import Builder

pytestmark = pytest.mark.requires("userns")

TEXT = "ARG V=1\nCOPY d /d\nRUN cat /d/f; echo $V >> /log\nENV X=y\nRUN cat /log"


def twice(builder: Builder) -> None:
    builder.write(d__f="content", d__g="more", _ignored="")
    builder.build(TEXT)
    assert builder.kinds() == ["done", "done"]


def test_a_second_build_executes_nothing(builder: Builder) -> None:
    twice(builder)
    first = builder.build(TEXT)
    assert (builder.kinds(), builder.kinds("COPY")) == (["cached", "cached"], ["cached"])
    assert builder.build(TEXT) == first


def test_an_mtime_alone_hits(builder: Builder) -> None:
    twice(builder)
    os.utime(builder.context / "d/f", (1, 1))
    builder.build(TEXT)
    assert builder.kinds() == ["cached", "cached"]


def test_another_process_hits(builder: Builder) -> None:
    twice(builder)
    script = """
import sys, pycontainer as pc
kinds = []
pc.Image.build(sys.argv[1], dockerfile=sys.argv[2], progress=lambda one: kinds.append(one.kind))
print(kinds.count("cached"))
"""
    words = [sys.executable, "-c", script, str(builder.context), str(builder.context.parent / "Dockerfile")]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "3\n"


def one_byte(builder: Builder) -> str:
    (builder.context / "d/f").write_text("Content")
    return TEXT


def one_mode_bit(builder: Builder) -> str:
    (builder.context / "d/f").chmod(0o600)
    return TEXT


def one_name(builder: Builder) -> str:
    (builder.context / "d/g").rename(builder.context / "d/h")
    return TEXT


def one_line_of_dockerignore(builder: Builder) -> str:
    (builder.context / ".dockerignore").write_text("d/g\n")
    return TEXT


def another_instruction_before(builder: Builder) -> str:
    return f"RUN echo x > /x\n{TEXT}"


def another_parent(builder: Builder) -> str:
    builder.build("RUN echo y > /y", tag="parent")
    return f"FROM parent\n{TEXT}"


@pytest.mark.parametrize(
    "change",
    [one_byte, one_mode_bit, one_name, one_line_of_dockerignore, another_instruction_before, another_parent],
    ids=lambda change: change.__name__,
)
def test_a_change_misses(builder: Builder, change: object) -> None:
    twice(builder)
    builder.build(change(builder))  # type: ignore[operator]
    assert builder.kinds()[-2:] == ["done", "done"]


def test_a_build_argument_misses_where_it_is_seen(builder: Builder) -> None:
    text = "RUN echo before > /before\nARG V=1\nRUN echo after > /after"
    builder.build(text)
    builder.build(text, args={"V": "2"})
    assert builder.kinds() == ["cached", "done"]
    builder.build(text, args={"V": "2"})
    assert builder.kinds() == ["cached", "cached"]


def test_what_no_run_sees_misses_nothing(builder: Builder) -> None:
    builder.build("LABEL a=1\nCMD a\nRUN echo x > /x")
    builder.build('LABEL a=2\nCMD b\nENTRYPOINT ["c"]\nEXPOSE 5\nRUN echo x > /x')
    assert builder.kinds() == ["cached"]
    builder.build("ENV A=1\nRUN echo x > /x")
    assert builder.kinds() == ["done"]


def test_without_a_cache_all_is_carried_out_and_kept(builder: Builder) -> None:
    builder.build("RUN cat /proc/sys/kernel/random/uuid > /id", tag="one")
    builder.build("RUN cat /proc/sys/kernel/random/uuid > /id", tag="two", cache=False)
    assert builder.kinds() == ["done"]
    builder.build("RUN cat /proc/sys/kernel/random/uuid > /id", tag="three")
    assert builder.kinds() == ["cached"]
    one, two, three = (pc.Image.get(name).open("/id").read() for name in ("one", "two", "three"))
    assert one != two == three


def test_a_layer_that_was_lost_is_made_again(builder: Builder) -> None:
    image = builder.build("RUN echo x > /x")
    top = json.loads(image._manifest)["layers"][-1]["digest"]
    (builder.store / "images/blobs/sha256" / top.partition(":")[2]).unlink()
    builder.build("RUN echo x > /x").verify()
    assert builder.kinds() == ["done"]


def test_a_crafted_history_is_no_parent(builder: Builder) -> None:
    """Row 86: an image that says it was made by a step is taken for its files alone."""
    honest = builder.build("RUN echo good > /x", tag="honest")
    builder.build("RUN echo evil > /x", tag="evil")
    image = builder.build("FROM evil\nRUN echo good > /y")
    assert builder.kinds() == ["done"]
    assert (image.open("/x").read(), honest.open("/x").read()) == (b"evil\n", b"good\n")


def test_pruning_leaves_what_steps_came_to(builder: Builder) -> None:
    builder.build("RUN echo x > /x", tag="app")
    assert pc.Image.prune(labels={"no": "such"}) == []
    pc.Image.get("app").remove()
    image = builder.build("RUN echo x > /x")
    assert builder.kinds() == ["cached"]
    pc.Image.prune(labels={"no": "such"})
    assert image.open("/x").read() == b"x\n"  # without a name it stays too
    image.verify()


def test_two_builds_at_once_execute_a_step_once(builder: Builder) -> None:
    text = "RUN --mount=type=cache,target=/c sleep 0.2; echo x >> /c/times; cat /c/times > /times"
    file = builder.context.parent / "Dockerfile"
    file.write_text(f"FROM base:1\n{text}")
    images: list[pc.Image] = []
    threads = [
        threading.Thread(target=lambda: images.append(pc.Image.build(builder.context, dockerfile=file))) for _ in "123"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [image.open("/times").read() for image in images] == [b"x\n"] * 3
    assert len(set(images)) == 1
