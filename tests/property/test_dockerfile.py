"""Dockerfiles: no text raises anything but BuildError; values read back; expansion agrees with a slow one."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import example, given, strategies as st

import pycontainer as pc
from pycontainer._build.commands import run_command
from pycontainer._build.ignore import IgnoreFile
from pycontainer._build.parse import parse
from pycontainer._build.scope import Scope
from pycontainer._build.shell import expand
from pycontainer._build.source import SPACES
from pycontainer._build.stages import make_plan
from pycontainer._dockerfile import Dockerfile

# Pieces that make most instructions, and most of what goes wrong in them.
PIECES = [
    "FROM ", "ARG ", "RUN ", "COPY ", "ADD ", "ENV ", "LABEL ", "EXPOSE ", "VOLUME ", "USER ", "WORKDIR ", "CMD ",
    "ENTRYPOINT ", "STOPSIGNAL ", "HEALTHCHECK ", "SHELL ", "ONBUILD ", "MAINTAINER ", "NONE", "AS ", "\n", "\n", "\n",
    "\\\n", "\\", "#", "# escape=`\n", "`", " ", "\t", "\r\n", '"', "'", "$", "${", "}", ":-", "/", "//", "%", "=", "A",
    "b", "0", "1.5s", "<<", "<<-", "EOF", "\nEOF\n", "[", "]", '["a", "b"]', ",", "*", "?", "..", "--", "--from=",
    "--mount=", "--mount=type=", "cache", "secret", "ssh", "target=/x", "id=", "--chmod=", "755", "--exclude=",
    "80/tcp", "--network=", "none", "http://e.org/x", ".git", "\0", "\udcff", "é", "\u2028", "scratch", "SIGINT",
    "--platform=",
]  # fmt: skip
TEXTS = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n"), max_size=12)
SHELLY = st.text(st.sampled_from("ab \t\r'\"\\$`{}<>=#[]*?,:-/é"), max_size=12)
VALUES = st.one_of(PLAIN, SHELLY)


@given(st.one_of(TEXTS, TEXTS.map("FROM a\n{}".format), st.binary()))
@example("FROM a\nRUN <<EOF <<EOF\nEOF\nEOF")
@example("FROM a\nCOPY <<\"'\" /x\n'\n")
@example("ONBUILD ONBUILD")
def test_no_text_raises_anything_but_builderror(text: str | bytes) -> None:
    with contextlib.suppress(pc.BuildError):
        plan = make_plan(parse(text), build_args={"A": "1", "b": "$"})
        plan.images()
        for index in plan.needed():
            scope = plan.scope(index, env={"PATH": "/bin"})
            for instruction in plan.stages[index].instructions:
                scope.apply(instruction)


@given(TEXTS)
def test_a_mistake_has_a_place_in_the_file(text: str) -> None:
    error = None
    try:
        parse("FROM a\n" + text)
    except pc.BuildError as raised:
        error = raised
    if error is not None:
        file, line, column, _ = str(error).split(":", 3)
        lines = ("FROM a\n" + text).split("\n")
        assert file == "Dockerfile"
        assert error.line == int(line)
        assert 1 <= int(line) <= len(lines)
        assert 1 <= int(column) <= len(lines[int(line) - 1]) + 1


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_reading_twice_is_reading_once(text: str) -> None:
    """What was read, written again from its originals, is the same."""
    try:
        document = parse("FROM a\n" + text)
    except pc.BuildError:
        return
    if document.escape != "\\" or any(
        getattr(i, "heredocs", ()) or getattr(i, "files", ()) for i in document.instructions
    ):
        return
    if any(i.original.endswith("\\") or "<<" in i.original for i in document.instructions):
        return
    assert parse("\n".join(i.original for i in document.instructions)).instructions == document.instructions


def last(d: Dockerfile) -> Any:
    # An instruction behind it, so that nothing can swallow one.
    document = parse(str(d.stopsignal(9)))
    assert document.instructions[-1].keyword == "STOPSIGNAL"
    return Scope({}, {}, env={"a": "WRONG", "b": "WRONG"}).apply(document.instructions[-2])


D = Dockerfile("scratch")


@given(st.dictionaries(st.sampled_from(["A", "B", "a.b", "-x", "--y", "é"]), VALUES, min_size=1))
def test_env_and_label_read_back(values: dict[str, str]) -> None:
    assert {item.name: item.value for item in last(D.env(values)).items} == values
    assert {item.name: item.value for item in last(D.label(values)).items} == values


@given(VALUES.filter(lambda text: bool(text) and "=" not in text), VALUES)
def test_names_of_labels_read_back(name: str, value: str) -> None:
    assert [(item.name, item.value) for item in last(D.label({name: value})).items] == [(name, value)]


@given(VALUES)
def test_defaults_of_arguments_read_back(value: str) -> None:
    assert last(D.arg("A", value)).items[0].default == value


@given(st.lists(VALUES.map("x{}".format), min_size=2, max_size=4), VALUES, st.lists(VALUES, max_size=2))
def test_copy_reads_back(paths: list[str], owner: str, exclude: list[str]) -> None:
    copy = last(D.copy(*paths, chown=f"u{owner}", exclude=exclude))
    assert [*copy.sources, copy.destination] == paths
    assert copy.chown == f"u{owner}"
    assert list(copy.exclude) == exclude


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1))
def test_words_of_commands_read_back(words: list[str]) -> None:
    for made in (D.run(words), D.cmd(words), D.entrypoint(words), D.shell(words)):
        assert list(last(made).command) == words
    assert list(last(D.healthcheck(words)).test) == ["CMD", *words]


@given(st.one_of(VALUES, st.lists(st.one_of(VALUES, st.just("EOF"))).map("\n".join)))
@example("a\n EOF\nEOF")
@example("#!/bin/sh\nx")
def test_a_command_for_the_shell_reads_back(text: str) -> None:
    try:
        run = D.run(text)
    except ValueError:
        assert not text.strip(SPACES)
        return
    command = run_command(last(run))
    content = command.script.content if command.script else command.argv[-1]
    assert content in (text, text + "\n")


@given(VALUES, VALUES)
def test_mounts_read_back(target: str, name: str) -> None:
    (mount,) = last(D.run("x", mounts=[{"type": "cache", "target": f"/x{target}", "id": f"i{name}"}])).mounts
    assert (mount.target, mount.id) == (f"/x{target}", f"i{name}")


@given(st.text(st.sampled_from("abEOF\n\t $\\'\""), max_size=30))
def test_files_read_back(content: str) -> None:
    try:
        made = D.copy({"EOF": content, "f": "x\n"}, "/d/")
    except ValueError:
        assert (content and not content.endswith("\n")) or "EOF" in content.split("\n")
        return
    assert [(file.name, file.content) for file in last(made).files] == [("EOF", content), ("f", "x\n")]


# Expansion, against one that is told what it was made of. A node is text, its value, and what it is as words.

NAMES = ["A", "B", "EMPTY", "UNSET"]
VARIABLES = {"A": "xay/x", "B": "b.b", "EMPTY": ""}
LITERALS = st.text(st.sampled_from("xyab/. "), min_size=1, max_size=4)


def shortest(pattern: str, text: str, greedy: bool) -> int | None:
    """The length of the shortest, or longest, beginning that a pattern matches; by trying each."""
    lengths = [n for n in range(len(text) + 1) if simple_match(pattern, text[:n])]
    return None if not lengths else lengths[-1] if greedy else lengths[0]


def simple_match(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(simple_match(pattern[1:], text[n:]) for n in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and simple_match(pattern[1:], text[1:])


def cut(sign: str, pattern: str, value: str) -> str:
    greedy = len(sign) == 2
    if sign[0] == "#":
        length = shortest(pattern, value, greedy)
        return value if length is None else value[length:]
    length = shortest(pattern[::-1], value[::-1], greedy)
    return value if length is None else value[: len(value) - length]


def replaced(pattern: str, new: str, value: str, every: bool) -> str:
    made, position, behind = "", 0, -1
    while position <= len(value):
        length = shortest(pattern, value[position:], True)
        if length is None or (length == 0 and position == behind):
            made += value[position : position + 1]
            position += 1
            continue
        made += new
        position += length
        behind = position
        if not every:
            break
        if length == 0:
            made += value[position : position + 1]
            position += 1
    return made + value[position:]


@st.composite
def nodes(draw: st.DrawFn, depth: int = 2) -> tuple[str, str]:
    """(text, what it has to become)."""
    kind = draw(st.sampled_from(["text", "single", "double", "escape", "plain", "word", "cut", "replace"]))
    name = draw(st.sampled_from(NAMES))
    value = VARIABLES.get(name, "")
    if kind == "text" or (depth == 0 and kind in ("word", "double")):
        text = draw(LITERALS)
        return text, text
    if kind == "single":
        text = draw(st.text(st.sampled_from('ab "$\\{}'), max_size=4))
        return f"'{text}'", text
    if kind == "double":
        parts = [draw(nodes(0)) for _ in range(2)]
        parts = [part for part in parts if not set(part[0]) & set("'\"\\")]
        return '"' + "".join(part[0] for part in parts) + '"', "".join(part[1] for part in parts)
    if kind == "escape":
        char = draw(st.sampled_from("$'\"\\ab {}"))
        return f"\\{char}", char
    if kind == "plain":
        return f"${{{name}}}", value
    pattern = draw(st.text(st.sampled_from("xyab.*?"), min_size=kind == "replace", max_size=4))
    if kind == "cut":
        sign = draw(st.sampled_from(["#", "##", "%", "%%"]))
        return f"${{{name}{sign}{pattern}}}", cut(sign, pattern, value)
    if kind == "replace":
        new, every = draw(st.text(st.sampled_from("Q$"), max_size=1)), draw(st.booleans())
        new = new.replace("$", "Q")
        return f"${{{name}/{'/' * every}{pattern}/{new}}}", replaced(pattern, new, value, every)
    text, meant = draw(nodes(depth - 1).filter(lambda node: "}" not in node[0] or node[0].startswith("$")))
    colon = draw(st.booleans())
    sign = draw(st.sampled_from("-+"))
    lacking = name not in VARIABLES or (colon and not value)
    result = (meant if lacking else value) if sign == "-" else ("" if lacking else meant)
    return f"${{{name}{':' * colon}{sign}{text}}}", result


@given(st.lists(nodes(), max_size=5))
def test_expansion_is_what_its_parts_are(parts: list[tuple[str, str]]) -> None:
    text, meant = "".join(part[0] for part in parts), "".join(part[1] for part in parts)
    made = expand(text, VARIABLES)
    assert made.text == meant
    assert made.found <= set(VARIABLES)
    assert made.missing <= {"UNSET"}


@given(st.text())
def test_no_ignore_file_raises_anything_but_builderror(text: str) -> None:
    with contextlib.suppress(pc.BuildError):
        IgnoreFile(text).excludes("a/b")
