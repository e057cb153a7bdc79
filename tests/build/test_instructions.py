"""What each instruction makes of an image: its config, its history, its files."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest

import building
import pycontainer as pc
import ranges
from building import Builder, failing

pytestmark = pytest.mark.requires("userns")

BASE = {"Env": ["FROM_BASE=1", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"]}
CONFIGS: list[tuple[str, dict[str, Any]]] = [
    ('ENV A=1 B="two words"\nENV A=$A$B C=', {"Env": [*BASE["Env"], "A=1two words", "B=two words", "C="]}),
    ("ENV FROM_BASE=2", {"Env": ["FROM_BASE=2", BASE["Env"][1]]}),
    ("LABEL a=b c.d='e f'\nLABEL a=c", {"Labels": {"a": "c", "c.d": "e f"}}),
    ("EXPOSE 80 53/udp\nEXPOSE 80-81", {"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "81/tcp": {}}}),
    ('VOLUME /a /b\nVOLUME ["/c d"]', {"Volumes": {"/a": {}, "/b": {}, "/c d": {}}}),
    ("USER 5:6", {"User": "5:6"}),
    ("WORKDIR /tmp\nWORKDIR ..", {"WorkingDir": "/"}),
    ("CMD echo $HOME", {"Cmd": ["/bin/sh", "-c", "echo $HOME"], "ArgsEscaped": True}),
    ('CMD ["a", "b"]', {"Cmd": ["a", "b"], "ArgsEscaped": True}),
    ('ENTRYPOINT ["a"]', {"Entrypoint": ["a"], "Cmd": None}),
    ('CMD ["b"]\nENTRYPOINT ["a"]', {"Entrypoint": ["a"], "Cmd": ["b"], "ArgsEscaped": True}),
    ("ENTRYPOINT a b", {"Entrypoint": ["/bin/sh", "-c", "a b"], "Cmd": None}),
    ('SHELL ["ash", "-c"]\nCMD x', {"Shell": ["ash", "-c"], "Cmd": ["ash", "-c", "x"], "ArgsEscaped": True}),
    ("STOPSIGNAL SIGINT", {"StopSignal": "SIGINT"}),
    (
        "HEALTHCHECK --interval=5s --retries=2 CMD true",
        {"Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5 * 10**9, "Retries": 2}},
    ),
    ("HEALTHCHECK NONE", {"Healthcheck": {"Test": ["NONE"]}}),
    ("ONBUILD RUN echo x\nONBUILD ENV a=b", {"OnBuild": ["RUN echo x", "ENV a=b"]}),
    ("ARG X=1\nENV Y=$X", {"Env": [*BASE["Env"], "Y=1"]}),
]  # fmt: skip


IDS = [f"{text.split()[0]}-{number}" for number, (text, _) in enumerate(CONFIGS)]


@pytest.mark.parametrize(("text", "wanted"), CONFIGS, ids=IDS)
def test_what_an_instruction_does_to_the_config(builder: Builder, text: str, wanted: dict[str, Any]) -> None:
    image = builder.build(text)
    assert dict(image.config) == {name: value for name, value in (BASE | wanted).items() if value is not None}
    assert len(image.layers) == 1


def test_history_has_an_entry_for_each_instruction(builder: Builder) -> None:
    builder.write(f="x")
    image = builder.build("ENV A=1\nCOPY f /f\nRUN echo x > /g\nRUN true\nMAINTAINER me\nCMD f", tag="app")
    rows = [(entry["created_by"], entry.get("empty_layer", False)) for entry in image.history]
    assert rows == [
        ("ENV A=1", True),
        ("COPY f /f", False),
        ("RUN /bin/sh -c echo x > /g", False),
        ("RUN /bin/sh -c true", True),  # it has changed nothing
        ("MAINTAINER me", True),
        ('CMD ["/bin/sh" "-c" "f"]', True),
    ]
    whole = json.loads(image._config)
    assert whole["author"] == "me"
    assert whole["created"] == image.history[-1]["created"]
    assert len(image.layers) == 3
    image.verify()


def test_from_scratch_is_docker_s_empty_image(builder: Builder) -> None:
    builder.write(f="x")
    image = builder.build("FROM scratch\nCOPY f /f")
    assert dict(image.config) == {"Env": [BASE["Env"][1]], "WorkingDir": "/"}
    assert list(image.files()) == ["/f"]
    assert image.platform == pc.Image.get("base:1").platform


def test_files_of_copy_add_and_workdir(builder: Builder) -> None:
    builder.write(a="A", d__b="B", d__c__e="E", _dockerignore="")
    image = builder.build(
        "WORKDIR /w/x\nCOPY a .\nCOPY --chmod=750 --chown=5:6 d /dir\nADD a d/b /many/\n"
        "COPY <<EOF /text\nline $FROM_BASE\nEOF\nCOPY --parents d/c/e /p/",
        tag="app",
    )
    with image.open("/text") as file:
        assert file.read() == b"line 1\n"
    wanted = {"/w/x/a", "/dir/b", "/dir/c/e", "/many/a", "/many/b", "/p/d/c/e"}
    assert wanted <= set(image.files())
    shown = pc.run(["sh", "-c", "stat -c '%a %u:%g' /dir/b; pwd"], image=image).stdout
    assert shown.decode() == f"750 {'0:0' if ranges.are_missing() else '5:6'}\n/w/x\n"


def test_the_image_runs_as_it_was_built(builder: Builder) -> None:
    builder.build('ENV A=1\nRUN echo text > /file\nCMD ["sh", "-c", "cat /file; echo $A"]', tag="app:1")
    assert pc.run(image="app:1").stdout == b"text\n1\n"
    assert pc.Image.get("app:1") == pc.Image.build(None, dockerfile=builder.context.parent / "Dockerfile")


def test_the_value_is_the_same_as_its_text(builder: Builder) -> None:
    made = pc.Dockerfile("base:1").run(["sh", "-c", "echo 1 > /x"]).env(A="$b c").workdir("/q").cmd(["cat", "/x"])
    events: list[Any] = []
    image = pc.Image.build(dockerfile=made, tag="value")
    assert pc.Image.build(dockerfile=made, progress=events.append) == image
    assert [one.kind for one in events if one.kind == "cached"] == ["cached"] * 2
    assert "A=$b c" in image.config["Env"]


def test_a_time_is_said_once_for_all(builder: Builder) -> None:
    text = "RUN echo x > /x\nWORKDIR /made\nCOPY <<EOF /y\nEOF"
    one = builder.build(text, cache=False, args={"SOURCE_DATE_EPOCH": "1000000000"})
    other = builder.build(text, cache=False, args={"SOURCE_DATE_EPOCH": "1000000000"})
    assert one == other
    assert {entry["created"] for entry in one.history} == {"2001-09-09T01:46:40Z"}
    for entry in json.loads(one._manifest)["layers"][1:]:
        members = building.layer(builder.store, entry["digest"]).values()
        assert {int(member.mtime) for member in members} <= {10**9} or all(m.mtime <= 10**9 for m in members)


def test_what_is_only_copied_has_no_time_of_the_build(builder: Builder) -> None:
    """Without a cache and without SOURCE_DATE_EPOCH: what a build makes itself has its time, as with docker."""
    builder.write(f="x", d__g="y")
    copies, makes = "COPY f d/g /etc/\nADD d /root/", "COPY f /new/directory/"

    def layers(text: str, **args: str) -> list[tuple[str, ...]]:
        found = [builder.build(text, cache=False, args=args).layers]
        time.sleep(1.1)  # times in a layer are whole seconds
        return [*found, builder.build(text, cache=False, args=args).layers]

    first, second = layers(copies)
    assert first == second
    first, second = layers(makes)
    assert first[:-1] == second[:-1]
    assert first != second
    first, second = layers(makes, SOURCE_DATE_EPOCH="1000000000")
    assert first == second


def test_onbuild_is_carried_out_by_who_stands_on_it(builder: Builder) -> None:
    builder.write(f="content")
    builder.build("ONBUILD COPY f /from-child\nONBUILD RUN cat /from-child > /copy", tag="parent")
    image = builder.build("FROM parent\nRUN cat /copy")
    assert builder.output() == "content"
    assert "OnBuild" not in image.config
    assert {"/from-child", "/copy"} <= set(image.files())
    error = failing(lambda: builder.build("FROM parent\nRUN true", context=False))
    assert error.line == 1


def test_umask_of_the_caller_is_not_that_of_the_store(builder: Builder) -> None:
    """Row 82: nothing of a build can be read by others, whatever the umask."""
    old = os.umask(0)
    try:
        text = "RUN --mount=type=cache,target=/c echo x > /c/x\nRUN --mount=type=secret,id=s true"
        builder.build(text, secrets={"s": b"s"})
    finally:
        os.umask(old)
    for name in ("steps", "caches", "builds", "images"):
        path = builder.store / name
        assert not path.exists() or path.stat().st_mode & 0o077 == 0, name
