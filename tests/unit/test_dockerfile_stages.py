"""ARG and ENV along a stage, and stages: bases, origins, what a target needs."""

from __future__ import annotations

from typing import Any

import pytest

import pycontainer as pc
from pycontainer._build.instructions import Copy, Run
from pycontainer._build.parse import parse
from pycontainer._build.scope import PREDEFINED, Scope
from pycontainer._build.source import Word
from pycontainer._build.stages import Plan, make_plan


def plan(text: str, **given: Any) -> Plan:
    return make_plan(parse(text), **given)


def walk(text: str, env: dict[str, str] | None = None, **given: Any) -> tuple[Scope, list[Any]]:
    """The scope at the end of the last stage, and its instructions as they went by."""
    made = plan(text, **given)
    scope = made.scope(made.target, env=env)
    return scope, [scope.apply(instruction) for instruction in made.stages[made.target].instructions]


# ARG and ENV


@pytest.mark.parametrize(
    ("text", "build_args", "seen"),
    [
        ("FROM a\nARG A=1", {}, {"A": "1"}),
        ("FROM a\nARG A=1", {"A": "2"}, {"A": "2"}),
        ("FROM a\nARG A", {}, {}),
        ("FROM a\nARG A", {"A": ""}, {"A": ""}),
        ("FROM a\nENV B=1", {"B": "2"}, {"B": "1"}),
        ("FROM a\nARG A=1\nENV A=2", {"A": "3"}, {"A": "2"}),
        ("FROM a\nENV A=2\nARG A=1", {"A": "3"}, {"A": "2"}),
        ("FROM a\nARG A=1\nENV A=${A:-x}y", {"A": "3"}, {"A": "3y"}),
        ("FROM a\nARG A=1 B=$A-$A", {}, {"A": "1", "B": "1-1"}),
        ("FROM a\nARG A=1\nARG A", {}, {}),
        ("FROM a\nENV A=hello\nENV A=bye B=$A\nENV C=$A", {}, {"A": "bye", "B": "hello", "C": "bye"}),
        ('FROM a\nENV X=A\nENV $X=1 "a b"=2', {}, {"X": "A", "A": "1", "a b": "2"}),
        ("ARG A=1\nFROM a\nENV B=$A", {}, {"B": ""}),
        ("ARG A=1\nFROM a\nARG A\nENV B=$A", {}, {"A": "1", "B": "1"}),
        ("ARG A=1\nFROM a\nARG A\nENV B=$A", {"A": "2"}, {"A": "2", "B": "2"}),
        ("ARG A=1\nFROM a\nARG A=3", {}, {"A": "3"}),
        ("ARG A=1 B=${A}2\nFROM a\nARG B", {}, {"B": "12"}),
        ("FROM a\nARG A=$BASE_ENV", {}, {"A": "e"}),
        ("FROM a\nARG TARGETARCH", {}, {"TARGETARCH": "amd64"}),
        ("FROM a\nENV X=$TARGETARCH", {}, {"X": ""}),
        ("FROM a\nARG BUILDPLATFORM\nARG TARGETSTAGE", {}, {"BUILDPLATFORM": "linux/amd64", "TARGETSTAGE": "default"}),
        ("FROM a AS b\nARG TARGETSTAGE TARGETVARIANT", {}, {"TARGETSTAGE": "b", "TARGETVARIANT": ""}),
        ("FROM a\nARG TARGETARCH", {"TARGETARCH": "riscv64"}, {"TARGETARCH": "riscv64"}),
        ('FROM a\nENV A b "c"  d', {}, {"A": "b c  d"}),
        ("FROM a\nENV A='$x' B=\"\\$x\" C=\\$x", {}, {"A": "$x", "B": "$x", "C": "$x"}),
    ],
)
def test_variables(text: str, build_args: dict[str, str], seen: dict[str, str]) -> None:
    scope, _ = walk(text, {"BASE_ENV": "e"}, build_args=build_args)
    assert scope.variables() == {"BASE_ENV": "e", **seen}


def test_an_argument_goes_out_of_scope_with_its_stage_and_is_inherited_by_one_from_it() -> None:
    made = plan("FROM a AS one\nARG A=1\nENV E=2\nFROM b AS two\nENV X=$A$E\nFROM one\nENV X=$A$E")
    first = made.scope(0)
    for instruction in made.stages[0].instructions:
        first.apply(instruction)
    second, third = made.scope(1, env={}), made.scope(2, parent=first)
    for scope, index in ((second, 1), (third, 2)):
        for instruction in made.stages[index].instructions:
            scope.apply(instruction)
    assert second.variables() == {"X": ""}
    assert third.variables() == {"A": "1", "E": "2", "X": "12"}
    assert first.variables() == {"A": "1", "E": "2"}


def test_proxies_are_in_the_environment_of_run_and_not_among_its_arguments() -> None:
    scope, _ = walk("FROM a\nARG A=1\nARG HTTP_PROXY", build_args={"HTTP_PROXY": "http://p", "no_proxy": "x", "B": "2"})
    assert scope.environment() == {"A": "1", "HTTP_PROXY": "http://p", "no_proxy": "x"}
    assert scope.arguments() == {"A": "1"}
    assert {"HTTPS_PROXY", "all_proxy", "TARGETPLATFORM"} <= PREDEFINED


def test_arguments_of_a_run_are_what_it_sees() -> None:
    scope, _ = walk("FROM a\nARG A=1\nENV A=2\nARG N")
    assert scope.arguments() == {"A": "2", "N": ""}


def test_arguments_that_nothing_uses() -> None:
    given = {"A": "1", "B": "2", "C": "3", "HTTP_PROXY": "x", "TARGETARCH": "y", "SOURCE_DATE_EPOCH": "0"}
    assert plan("ARG A\nFROM a\nARG B=1\nFROM c", build_args=given).unused() == ("C",)


# which fields of which instruction


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("COPY $A ${B} /$C/", {"sources": ("a", "b c"), "destination": "/d/"}),
        ("COPY --chown=$A:$A --chmod=${M} x y", {"chown": "a:a", "chmod": "755"}),
        ('COPY ["$B", "\\"q\\" $A"]', {"sources": ("b c",), "destination": "q a"}),
        ("COPY --exclude=$A x y", {"exclude": ("$A",)}),
        ("COPY --chown=$NO x y", {"chown": None}),
        (
            "ADD --checksum=sha256:$H https://e.org/$A y",
            {"sources": ("https://e.org/a",), "checksum": "sha256:" + "0" * 64},
        ),
        ("USER $A:${A}x", {"user": "a:ax"}),
        ("WORKDIR /$A/$B", {"path": "/a/b c"}),
        ('WORKDIR "/x y"', {"path": "/x y"}),
        ("VOLUME /$A /x$A", {"paths": ("/a", "/xa")}),
        ("EXPOSE $P 80 80/tcp 7-9/UDP", {"ports": ("1/tcp", "2/tcp", "80/tcp", "7/udp", "8/udp", "9/udp")}),
        ("STOPSIGNAL $SIG", {"signal": "SIGINT"}),
        ("RUN echo $A", {"command": ("echo $A",)}),
        ("CMD echo $A", {"command": ("echo $A",)}),
        ('ENTRYPOINT ["$A"]', {"command": ("$A",)}),
        ("HEALTHCHECK CMD echo $A", {"test": ("CMD-SHELL", "echo $A")}),
        ("ONBUILD RUN $A", {"trigger": "RUN $A"}),
        ('SHELL ["$A"]', {"command": ("$A",)}),
        ("MAINTAINER $A", {"name": "$A"}),
    ],
)
def test_fields(text: str, expected: dict[str, Any]) -> None:
    env = {"A": "a", "B": "b c", "C": "d", "M": "755", "P": "1 2", "SIG": "SIGINT", "H": "0" * 64}
    _, (done,) = walk(f"FROM a\n{text}", env)
    assert {name: getattr(done, name) for name in expected} == expected


def test_labels_files_and_mounts() -> None:
    env = {"A": "a", "D": "/x"}
    _, (label, copy, run) = walk(
        "FROM a\nLABEL $A=$A b='$A'\nCOPY <<one <<\"two\" /y\n\"$A\" 'q' \\$A\none\n$A\ntwo\n"
        "RUN --mount=type=cache,target=$D,uid=$N1$N2,sharing=${S:-locked} --mount=type=tmpfs,target=/t x",
        {**env, "N1": "1", "N2": "2"},
    )
    assert [(item.name, item.value) for item in label.items] == [("a", "a"), ("b", "$A")]
    assert [file.content for file in copy.files] == ["\"a\" 'q' $A\n", "$A\n"]
    assert [(m.target, m.uid, m.sharing, m.pending) for m in run.mounts] == [
        ("/x", 12, "locked", False),
        ("/t", None, "shared", False),
    ]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("COPY $NO /x", "2:6", 'a source of COPY is empty: "$NO"; NO is not set here; an ARG before FROM'),
        ("COPY ${SHLL} /x", "2:6", "did you mean SHELL?"),
        ("COPY a ../b /x", "2:8", "outside the build context"),
        ("COPY a/../../b /x", "2:6", "outside the build context"),
        ("ADD .. /x", "2:5", "outside the build context"),
        ("COPY ${U} /x", "2:6", "is a URL; use ADD"),
        ("ADD ${G} /x", "2:5", "ADD from git is not supported"),
        ("COPY a 'b /x", "2:8", "no ' ends this quote"),
        ("COPY a ${X:?say} /x", "2:8", 'X: say in "${X:?say}"'),
        ("COPY a ${X:-b c} /x", "2:8", 'no } ends this variable in "${X:-b"'),
        ("COPY --chmod=$A a b", "2:14", "--chmod is a mode"),
        ("ADD --checksum=sha256:12 https://e.org/a b", "2:16", "--checksum is a digest"),
        ("ADD --checksum=sha256:12 a b", "2:16", "of one source, which is a URL"),
        ("ENV $NO=1", "2:5", "a name of ENV is empty"),
        ("ENV $EQ=1", "2:5", "has a = in it"),
        ("LABEL $NO=1", "2:7", "a name of LABEL is empty"),
        ("ENV A=1 \\\n B=${", "3:4", "no } ends"),
        ("EXPOSE 80 $A", "2:11", 'takes ports, not "a"'),
        ("VOLUME /a $NO", "2:11", "a path of VOLUME is empty"),
        ("USER $NO", "2:6", "USER is empty"),
        ("WORKDIR $NO", "2:9", "WORKDIR is empty"),
        ("STOPSIGNAL $A", "2:12", "is a signal"),
        ("ARG X=${Y?no}", "2:7", "Y: no"),
        ("RUN --mount=type=$A,target=/x y", "2:13", "type of a mount is one of"),
        ("RUN --mount=type=$SSH,target=/x y", "2:13", "ssh are not supported"),
        ("RUN --mount=type=cache,target=/x,mode=$A y", "2:13", "mode is an octal number"),
        ("COPY <<E /x\na\n b ${A:-c\nE", "4:4", "no } ends"),
    ],
)
def test_mistakes_that_variables_make(text: str, place: str, words: str) -> None:
    env = {"A": "a", "U": "http://e.org/x", "G": "git@e.org:a/b", "EQ": "a=b", "SSH": "ssh", "SHELL": "s"}
    with pytest.raises(pc.BuildError) as raised:
        walk(f"FROM a\n{text}", env)
    assert str(raised.value).startswith(f"Dockerfile:{place}: "), str(raised.value)
    assert words in str(raised.value)


def test_outside_of_another_stage_is_its_root() -> None:
    _, (copy,) = walk("FROM a\nFROM b\nCOPY --from=0 ../../etc/x /y")
    assert copy.sources == ("../../etc/x",)


# stages


def test_bases_and_origins() -> None:
    made = plan(
        "FROM debian AS Base\nFROM scratch AS empty\nFROM BASE AS app\nCOPY --from=0 /a /b\nCOPY --from=Empty /a /b\n"
        "COPY --from=nginx:1 /a /b\nRUN --mount=from=base,target=/x --mount=type=cache,target=/c y\nFROM app"
    )
    assert [stage.base for stage in made.stages] == ["debian", None, 0, 2]
    assert [stage.name for stage in made.stages] == ["base", "empty", "app", None]
    assert [sorted(stage.needs) for stage in made.stages] == [[], [], [0, 1], [2]]
    assert [stage.label() for stage in made.stages] == ["base", "empty", "app", "stage-3"]
    assert made.needed() == (0, 1, 2, 3)
    assert list(made.images()) == ["debian", "nginx:1"]
    copies = [instruction for instruction in made.stages[2].instructions if isinstance(instruction, Copy)]
    assert [made.origin(2, copy.from_) for copy in copies if copy.from_] == [0, 1, "nginx:1"]
    (run,) = [instruction for instruction in made.stages[2].instructions if isinstance(instruction, Run)]
    assert [mount.from_ for mount in run.mounts] == ["base", None]
    assert made.origin(2, Word("scratch")) is None


@pytest.mark.parametrize(
    ("target", "needed"),
    [(None, (0, 3)), ("b", (0, 1)), ("B", (0, 1)), ("2", (0, 1, 2)), ("a", (0,)), ("0", (0,)), ("d", (0, 3))],
)
def test_only_what_a_target_needs(target: str | None, needed: tuple[int, ...]) -> None:
    text = "FROM x AS a\nFROM a AS b\nFROM y AS c\nCOPY --from=b / /\nFROM z AS d\nCOPY --from=a / /"
    assert plan(text, target=target).needed() == needed


def test_a_base_that_is_named_like_its_stage_or_a_later_one_is_an_image() -> None:
    made = plan("FROM node AS node\nFROM nginx AS web\nCOPY --from=node / /\nFROM debian AS nginx")
    assert [stage.base for stage in made.stages] == ["node", "nginx", "debian"]


@pytest.mark.parametrize(
    ("text", "base", "platform"),
    [
        ("ARG V=12\nFROM debian:$V", "debian:12", None),
        ("ARG V\nFROM debian:${V:-11}", "debian:11", None),
        ("FROM --platform=$BUILDPLATFORM a", "a", "linux/amd64"),
        ("FROM --platform=$TARGETPLATFORM a", "a", "linux/arm64"),
        ("FROM --platform=Linux/x86_64 a", "a", "linux/amd64"),
        ("FROM --platform=arm a", "a", "linux/arm/v7"),
        ("FROM --platform=linux/arm/6 a", "a", "linux/arm/v6"),
        ("FROM --platform=linux/arm64/v8 a", "a", "linux/arm64"),
        ("FROM --platform=aarch64 a", "a", "linux/arm64"),
    ],
)
def test_openings(text: str, base: str, platform: str | None) -> None:
    (stage,) = plan(text, target_platform="linux/arm64").stages
    assert (stage.base, stage.platform) == (base, platform)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("ARG A", "1:1", "there is no FROM in it"),
        ("ARG A\nRUN x", "2:1", "RUN before the first FROM"),
        ("FROM a AS b\nFROM c AS B", "2:11", 'the stage "b" is there already, in line 1'),
        ("FROM $X", "1:6", 'FROM has no image: "$X" is empty'),
        ("ARG BASE=a\nFROM $BSAE", "2:6", "did you mean BASE?"),
        ("ARG B='a b'\nFROM $B", "2:6", "with a space in it"),
        ("FROM --platform=$X a", "1:17", "--platform is empty"),
        ("FROM --platform=linux a", "1:17", "has an architecture"),
        ("FROM --platform=a/b/c/d a", "1:17", "a platform is os/architecture"),
        ("FROM ${X", "1:6", "no } ends"),
        ("ARG A=${\nFROM a", "1:7", "no } ends"),
        ("FROM a\nCOPY --from=1 / /", "2:13", "there is no stage 1; the last is 0"),
        ("FROM a\nCOPY --from=0 / /", "2:13", "needs itself"),
        ("FROM a AS b\nCOPY --from=B / /", "2:13", "needs itself"),
        ("FROM a AS b\nCOPY --from=c / /\nFROM d AS c", "2:13", 'the stage "c" comes later; move it before line 2'),
        ("FROM a AS b\nCOPY --from=c / /\nFROM b AS c", "2:13", "need each other"),
        ("FROM a AS b\nCOPY --from=2 / /\nFROM d AS c\nCOPY --from=b / /\nFROM c AS e", "2:13", "need each other"),
        ("FROM a AS b\nRUN --mount=from=c,target=/x y\nFROM d AS c", "2:13", "comes later"),
        ("FROM a\nRUN --mount=from=7,target=/x y", "2:13", "there is no stage 7"),
        ("FROM a AS b\nONBUILD COPY --from=z9 / /\nFROM b\nFROM q AS z9", "3:1", "comes later"),
    ],
)
def test_mistakes_of_stages(text: str, place: str, words: str) -> None:
    with pytest.raises(pc.BuildError) as raised:
        plan(text)
    assert str(raised.value).startswith(f"Dockerfile:{place}: "), str(raised.value)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("target", "words"), [("biuld", "did you mean build?"), ("xyzzy", "there are build"), ("2", "there are build")]
)
def test_a_target_that_is_not_there(target: str, words: str) -> None:
    with pytest.raises(pc.BuildError, match="is no stage") as raised:
        plan("FROM a AS build\nFROM b", target=target)
    assert words in str(raised.value)


def test_the_stage_that_was_meant_by_an_image() -> None:
    made = plan("FROM a AS builder\nFROM bulider")
    assert made.stages[1].base == "bulider"
    assert made.meant("bulider") == "did you mean builder?"
    assert made.meant("debian") == ""


def test_triggers_of_a_stage_come_first_in_one_that_is_from_it_and_go_no_further() -> None:
    made = plan("FROM a AS b\nONBUILD RUN one\nONBUILD COPY --from=x0 / /\nFROM b AS c\nRUN two\nFROM c\nRUN three")
    assert [i.original for i in made.stages[1].instructions] == ["RUN one", "COPY --from=x0 / /", "RUN two"]
    assert made.stages[1].triggers == 2
    assert [i.original for i in made.stages[2].instructions] == ["RUN three"]
    assert "x0" in made.images()
    assert made.stages[1].instructions[0].span == made.stages[1].opening.span


def test_triggers_of_an_image() -> None:
    made = plan("FROM other AS o\nFROM a\nRUN x")
    assert made.needed() == (1,)
    more = made.with_triggers(1, ["COPY --from=o / /", "RUN <<E\nhi\nE"])
    assert more.needed() == (0, 1)
    assert [i.original for i in more.stages[1].instructions] == ["COPY --from=o / /", "RUN <<E", "RUN x"]
    again = more.with_triggers(1, [])
    assert again.needed() == (1,)
    assert [i.original for i in again.stages[1].instructions] == ["RUN x"]


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        ("RNU x", "did you mean RUN?"),
        ("FROM x", "cannot be a trigger"),
        ("RUN a\nRUN b", "one instruction, not 2"),
        ("# nothing", "one instruction, not 0"),
        ("", "one instruction, not 0"),
        ("RUN <<E\nx", "has no end"),
        ("# escape=`\nRUN x", "one instruction"),
        ("COPY --from=5 / /", "there is no stage 5"),
        ("RUN --mount=type=ssh x", "not supported"),
    ],
)
def test_bad_triggers_of_an_image_are_said_at_its_from(trigger: str, words: str) -> None:
    with pytest.raises(pc.BuildError) as raised:
        plan("FROM a\n\nFROM b").with_triggers(1, [trigger])
    assert str(raised.value).startswith("Dockerfile:3:1: ")
    assert words in str(raised.value)
