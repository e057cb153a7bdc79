"""Each instruction, each flag, each form of a line: what is read."""

from __future__ import annotations

import pickle
from copy import deepcopy
from typing import Any

import pytest

from pycontainer._build import instructions as made
from pycontainer._build.instructions import MountKind, Network, Sharing
from pycontainer._build.parse import parse
from pycontainer._build.stages import make_plan


def one(text: str) -> Any:
    """The last instruction of a file."""
    return parse(f"FROM scratch\n{text}").instructions[-1]


def fields(instruction: Any, *names: str) -> tuple[Any, ...]:
    return tuple(getattr(instruction, name) for name in names)


@pytest.mark.parametrize(
    ("text", "image", "platform", "name"),
    [
        ("FROM debian", "debian", None, None),
        ("from debian:12 as Build", "debian:12", None, "build"),
        ("FROM --platform=linux/arm64 debian AS a-b_c.d", "debian", "linux/arm64", "a-b_c.d"),
        ("FROM --platform=$BUILDPLATFORM $BASE", "$BASE", "$BUILDPLATFORM", None),
        ("  FROM\tdebian  ", "debian", None, None),
        ("FROM --platform= debian", "debian", None, None),
    ],
)
def test_from(text: str, image: str, platform: str | None, name: str | None) -> None:
    assert fields(parse(text).instructions[0], "image", "platform", "name") == (image, platform, name)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("ARG A", [("A", None)]),
        ("ARG A=", [("A", "")]),
        ("ARG A=1 B C=x=y", [("A", "1"), ("B", None), ("C", "x=y")]),
        ("ARG A=\"b c\" D='e f' G=h\\ i", [("A", '"b c"'), ("D", "'e f'"), ("G", "h\\ i")]),
        ('ARG A=b"c d"e', [("A", 'b"c d"e')]),
        ('ARG A="unclosed B=1', [("A", '"unclosed B=1')]),
    ],
)
def test_arg(text: str, items: list[tuple[str, str | None]]) -> None:
    assert [(item.name, item.default) for item in one(text).items] == items


@pytest.mark.parametrize("keyword", ["ENV", "LABEL"])
@pytest.mark.parametrize(
    ("rest", "items"),
    [
        ("A=1", [("A", "1")]),
        ("A=1 B=2", [("A", "1"), ("B", "2")]),
        ("A b c", [("A", "b c")]),
        ('A  "b"  c ', [("A", '"b"  c')]),
        ("A b=c", [("A", "b=c")]),
        ("A= B=", [("A", ""), ("B", "")]),
        ('A="b c" D=e\\ f', [("A", '"b c"'), ("D", "e\\ f")]),
        ('"a b"=c', [('"a b"', "c")]),
        ("A='b\\' C=d", [("A", "'b\\'"), ("C", "d")]),
        ('A="b\\" C=d"', [("A", '"b\\" C=d"')]),
        ("-- --x=1", [("--x", "1")]),
    ],
)
def test_pairs(keyword: str, rest: str, items: list[tuple[str, str]]) -> None:
    assert [(item.name, item.value) for item in one(f"{keyword} {rest}").items] == items


@pytest.mark.parametrize(
    ("rest", "command", "shell"),
    [
        ("make", ("make",), True),
        ("make  -j2 && echo [", ("make  -j2 && echo [",), True),
        ('["make", "-j2"]', ("make", "-j2"), False),
        (' [ "a" , "b c" ] ', ("a", "b c"), False),
        ('["a\\nb", "\\u00e9", "\\ud83d\\ude00"]', ("a\nb", "é", "😀"), False),
        ('["\\ud800"]', ("�",), False),
        ("['a']", ("['a']",), True),
        ('["a"] b', ('["a"] b',), True),
        ('["a",]', ('["a",]',), True),
        ("[NaN", ("[NaN",), True),
        ("-- --x", ("--x",), True),
    ],
)
@pytest.mark.parametrize("keyword", ["RUN", "CMD", "ENTRYPOINT"])
def test_commands(keyword: str, rest: str, command: tuple[str, ...], shell: bool) -> None:
    assert fields(one(f"{keyword} {rest}"), "command", "shell") == (command, shell)


def test_no_command_is_one_of_cmd_and_entrypoint() -> None:
    assert one("CMD []").command == ()
    assert one("ENTRYPOINT []").command == ()


@pytest.mark.parametrize("network", list(Network))
def test_network(network: Network) -> None:
    assert one(f"RUN --network={network} x").network is network
    assert one("RUN x").network is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target=/x", {"kind": MountKind.BIND, "target": "/x", "read_only": True, "from_": None}),
        ("type=bind,from=b,source=/a,target=/x,rw", {"from_": "b", "source": "/a", "read_only": False}),
        ("type=bind,src=a,dst=/x,readonly=false", {"source": "a", "target": "/x", "read_only": False}),
        ("type=bind,destination=/x,readwrite=0", {"target": "/x", "read_only": True}),
        ("TYPE=Cache,Target=/c/./d/", {"kind": MountKind.CACHE, "id": "/c/d", "read_only": False, "sharing": "shared"}),
        ("type=cache,id=x,target=/c,sharing=LOCKED,ro", {"id": "x", "sharing": Sharing.LOCKED, "read_only": True}),
        ("type=cache,target=/c,mode=0700,uid=1,gid=2", {"mode": 0o700, "uid": 1, "gid": 2}),
        ("type=cache,target=/c,from=s,source=d", {"from_": "s", "source": "d"}),
        ("type=tmpfs,target=/t,size=64m", {"kind": MountKind.TMPFS, "size": 64 << 20, "read_only": False}),
        ("type=tmpfs,target=/t,size=1.5GiB", {"size": 3 << 29}),
        ("type=secret,id=t", {"id": "t", "target": "/run/secrets/t", "required": False, "read_only": True}),
        ("type=secret,id=a/b", {"id": "a/b", "target": "/run/secrets/b"}),
        ("type=secret,source=t", {"id": "t", "target": "/run/secrets/t", "source": None}),
        ("type=secret,target=/etc/key", {"id": "key", "target": "/etc/key"}),
        ("type=secret,id=t,required,mode=0440", {"required": True, "mode": 0o440}),
        ("type=secret,id=t,env=TOKEN", {"env": "TOKEN", "target": None}),
        ("type=secret,id=t,env=", {"env": "t", "target": None}),
        ("type=secret,id=t,env=T,target=/x", {"env": "T", "target": "/x"}),
        ('type=bind,"source=a,b",target=/x', {"source": "a,b"}),
        ("type=cache,target=$DIR", {"pending": True, "target": None, "kind": MountKind.BIND}),
        ("type=bind,from=b,target=$DIR", {"pending": True, "from_": "b"}),
    ],
)
def test_mounts(text: str, expected: dict[str, Any]) -> None:
    (mount,) = one(f"RUN --mount='{text}' x").mounts
    assert mount.text == text
    assert {name: getattr(mount, name) for name in expected} == expected


def test_several_mounts_and_quotes_in_flags() -> None:
    run = one('RUN --mount=type=cache,target="/a b" --mount=type=tmpfs,target=/t\\ u "x y"')
    assert [mount.target for mount in run.mounts] == ["/a b", "/t u"]
    assert run.command == ('"x y"',)


@pytest.mark.parametrize("keyword", ["COPY", "ADD"])
def test_sources(keyword: str) -> None:
    assert fields(one(f"{keyword} a b* /c/"), "sources", "destination") == (("a", "b*"), "/c/")
    assert fields(one(f'{keyword} ["a b", "c d"]'), "sources", "destination") == (("a b",), "c d")
    made_ = one(f"{keyword} --chown=1:2 --chmod=u=rwX --link --exclude=*.o --exclude=x a b")
    assert fields(made_, "chown", "chmod", "link", "exclude") == ("1:2", "u=rwX", True, ("*.o", "x"))
    assert one(f"{keyword} --link=False a b").link is False
    assert one(f"{keyword} -- --a b").sources == ("--a",)


def test_flags_of_copy_and_add_alone() -> None:
    assert fields(one("COPY --from=0 --parents a b"), "from_", "parents") == ("0", True)
    add = one("ADD --checksum=sha256:$X --unpack=false https://example.org/a b")
    assert fields(add, "checksum", "unpack") == ("sha256:$X", False)
    assert fields(one("ADD a b"), "checksum", "unpack", "keep_git_dir") == (None, None, None)


def test_files_that_are_written_in_the_dockerfile() -> None:
    copy = one("COPY <<one x <<-'two' /d/\n\ta $A\none\n\tb $B\n\t two\n\ttwo\n")
    assert [fields(file, "name", "content", "expand") for file in copy.files] == [
        ("one", "\ta $A\n", True),
        ("two", "b $B\n two\n", False),
    ]
    assert fields(copy, "sources", "destination") == (("x",), "/d/")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("EXPOSE 80 53/udp $P 8000-8001/TCP", {"ports": ("80", "53/udp", "$P", "8000-8001/TCP")}),
        ("VOLUME /a /b", {"paths": ("/a", "/b")}),
        ('VOLUME ["/a b", "/c"]', {"paths": ("/a b", "/c")}),
        ("USER app:users", {"user": "app:users"}),
        ("WORKDIR /a b/$C", {"path": "/a b/$C"}),
        ("STOPSIGNAL SIGINT", {"signal": "SIGINT"}),
        ("STOPSIGNAL rtmin+3", {"signal": "rtmin+3"}),
        ("STOPSIGNAL 9", {"signal": "9"}),
        ('SHELL ["/bin/bash", "-c"]', {"command": ("/bin/bash", "-c")}),
        ("MAINTAINER A B <a@b>", {"name": "A B <a@b>"}),
        ("HEALTHCHECK NONE", {"test": ("NONE",)}),
        ("HEALTHCHECK none", {"test": ("NONE",)}),
        ("HEALTHCHECK CMD curl -f x", {"test": ("CMD-SHELL", "curl -f x")}),
        ('HEALTHCHECK cmd ["curl", "x"]', {"test": ("CMD", "curl", "x")}),
        (
            "HEALTHCHECK --interval=1m30s --timeout=1.5s --start-period=500ms --start-interval=0 --retries=3 CMD x",
            {
                "interval": 90 * 10**9,
                "timeout": 15 * 10**8,
                "start_period": 5 * 10**8,
                "start_interval": 0,
                "retries": 3,
            },
        ),
        ("ONBUILD RUN make", {"trigger": "RUN make"}),
        ("ONBUILD   COPY . /x", {"trigger": "COPY . /x"}),
        ("ONBUILD RUN <<A <<-B\nx\nA\n\ty\n\tB\n", {"trigger": "RUN <<A <<-B\nx\nA\n\ty\nB"}),
    ],
)
def test_others(text: str, expected: dict[str, Any]) -> None:
    instruction = one(text)
    assert {name: getattr(instruction, name) for name in expected} == expected


HEREDOCS: list[tuple[str, list[tuple[str, str, bool, bool, int]]]] = [
    ("RUN <<EOF\na\n b\nEOF\n", [("EOF", "a\n b\n", True, False, 0)]),
    ("RUN <<EOF\nEOF", [("EOF", "", True, False, 0)]),
    ("RUN 3<<EOF\nEOF", [("EOF", "", True, False, 3)]),
    ('RUN "<<EOF"', []),
    ("RUN <<-EOF\n\ta\n\tEOF\n", [("EOF", "\ta\n", True, True, 0)]),
    ("RUN <<-'EOF'\n\ta\nEOF\n", [("EOF", "\ta\n", False, True, 0)]),
    ('RUN <<"EOF"\na\nEOF\n', [("EOF", "a\n", False, False, 0)]),
    ("RUN <<eo'f'\na\neof\n", [("eof", "a\n", False, False, 0)]),
    ("RUN <<eo\\'f\na\neo'f\n", [("eo'f", "a\n", True, False, 0)]),
    ("RUN <<'one two'\na\none two\n", [("one two", "a\n", False, False, 0)]),
    ("RUN <<$EOF\n$EOF\n", [("$EOF", "", True, False, 0)]),
    ("RUN <<  EOF > x\na\nEOF\n", [("EOF", "a\n", True, False, 0)]),
    ("RUN <<EOF python3\nprint(1)\nEOF\n", [("EOF", "print(1)\n", True, False, 0)]),
    ("RUN cat <<A <<B\nB\nA\nA\nB\n", [("A", "B\n", True, False, 0), ("B", "A\n", True, False, 0)]),
    ("RUN <<EOF\n# no comment\n\\\nRUN x \\\nEOF\n", [("EOF", "# no comment\n\\\nRUN x \\\n", True, False, 0)]),
    ("RUN <<EOF\r\na\r\nEOF\r\n", [("EOF", "a\r\n", True, False, 0)]),
    ("RUN --mount=type=tmpfs,target=/x <<EOF\na\nEOF\n", [("EOF", "a\n", True, False, 0)]),
    ("RUN cat \\\n # comment\n <<EOF\na\nEOF\n", [("EOF", "a\n", True, False, 0)]),
    ("RUN cat<<EOF", []),
    ("RUN echo $((1<<2))", []),
    ("RUN echo it's <<EOF", []),
]


@pytest.mark.parametrize(("text", "expected"), HEREDOCS)
def test_heredocs(text: str, expected: list[tuple[str, str, bool, bool, int]]) -> None:
    found = [fields(doc, "name", "content", "expand", "strip_tabs", "descriptor") for doc in one(text).heredocs]
    assert found == expected


def test_heredocs_are_of_run_copy_and_add_only_and_not_of_arrays() -> None:
    assert one("USER <<EOF").user == "<<EOF"
    assert one("ENV A=<<EOF").items[0].value == "<<EOF"
    assert one('RUN ["<<EOF"]').heredocs == ()
    assert one("CMD cat <<EOF").command == ("cat <<EOF",)


LINES: list[tuple[str, str]] = [
    ("RUN a \\\n b", "a  b"),
    ("RUN a\\\nb", "ab"),
    ("RUN a \\  \t\n b", "a  b"),
    ("RUN a \\\n\n\n b", "a  b"),
    ("RUN a \\\n# comment\n  # another\n b", "a  b"),
    ("RUN a # no comment", "a # no comment"),
    ("RUN a \\\r\n b\r\n", "a  b"),
    ("RUN a \\\\", "a \\\\"),
    ("RUN a \\\\\\", "a \\\\\\"),
    ("RUN a \\", "a"),
    ("RUN a \\\n\\\n b", "a  b"),
    ("\\\nRUN a", "a"),
    ("R\\\nUN a", "a"),
    ("\t RUN a", "a"),
    ("run a", "a"),
    ("RuN\ta", "a"),
]


@pytest.mark.parametrize(("text", "command"), LINES)
def test_lines(text: str, command: str) -> None:
    assert one(text).command == (command,)


def test_an_empty_line_inside_an_instruction_is_noticed() -> None:
    assert [notice.line for notice in parse("FROM a\nRUN b \\\n\n c\n").notices] == [3]
    assert parse("FROM a\n\nRUN b \\\n # c\n c\n").notices == ()


def test_comments_and_blank_lines_are_nothing() -> None:
    document = parse("\n# a\n  # b\nFROM x\n\n   \n#c\n")
    assert [instruction.keyword for instruction in document.instructions] == ["FROM"]


@pytest.mark.parametrize(
    ("head", "directives", "escape"),
    [
        ("# escape=`\n", [("escape", "`")], "`"),
        ("#escape = `\n", [("escape", "`")], "`"),
        ("# ESCAPE=`\n", [("escape", "`")], "`"),
        ("# syntax=docker/dockerfile:1\n# escape=`\n", [("syntax", "docker/dockerfile:1"), ("escape", "`")], "`"),
        ("# check=skip=all;error=true\n", [("check", "skip=all;error=true")], "\\"),
        ("\n# escape=`\n", [], "\\"),
        ("# a comment\n# escape=`\n", [], "\\"),
        ("# unknown=1\n# escape=`\n", [], "\\"),
        ("#!/usr/bin/env x\n# escape=`\n", [], "\\"),
        ("\ufeff# escape=`\n", [("escape", "`")], "`"),
        ("  # escape=`\r\n", [("escape", "`")], "`"),
    ],
)
def test_directives(head: str, directives: list[tuple[str, str]], escape: str) -> None:
    document = parse(f"{head}FROM a\nRUN b {escape}\n c\n")
    assert [(directive.name, directive.value) for directive in document.directives] == directives
    assert document.escape == escape
    assert document.instructions[-1].command == ("b  c",)  # type: ignore[attr-defined]


def test_the_other_escape() -> None:
    document = parse("# escape=`\nFROM a\nCOPY c:\\x `\n d\\\nENV A=b` c B=\\\n")
    copy, env = document.instructions[1:]
    assert isinstance(copy, made.Copy)
    assert isinstance(env, made.Env)
    assert fields(copy, "sources", "destination") == (("c:\\x",), "d\\")
    assert [(item.name, item.value) for item in env.items] == [("A", "b` c"), ("B", "\\")]


def test_spans_and_places() -> None:
    document = parse("FROM a\n  COPY --chown=1 x \\\n   # c\n  y <<E \\\n    /z\nt\nE\nUSER u\n")
    copy = document.instructions[1]
    assert isinstance(copy, made.Copy)
    span = copy.span
    assert (span.line, span.column, span.end_line, span.end_column) == (2, 3, 7, 2)
    assert [(word, word.line, word.column) for word in (*copy.sources, copy.destination)] == [
        ("x", 2, 18),
        ("y", 4, 3),
        ("/z", 5, 5),
    ]
    assert (copy.files[0].content.line, copy.files[0].content.column) == (6, 1)
    assert copy.original == "COPY --chown=1 x   y <<E     /z"
    assert (document.instructions[2].span.line, document.instructions[2].span.end_column) == (8, 7)


def test_values_are_equal_wherever_they_stand_and_survive_pickle_and_copy() -> None:
    one_, other = (
        parse("FROM a\nRUN --mount=type=tmpfs,target=/t b\n"),
        parse("\n\nFROM a\n#\nRUN --mount=type=tmpfs,target=/t  b"),
    )
    assert one_ == other
    assert one_ != parse("FROM a\nRUN c")
    again = pickle.loads(pickle.dumps(one_))
    assert again == one_ == deepcopy(one_)
    assert again.instructions[0].image.column == 6
    assert hash(one_.instructions) == hash(other.instructions)


def test_bytes_that_are_no_text_may_stand_in_comments() -> None:
    assert parse(b"# \xff\nFROM a\n").instructions[0].keyword == "FROM"
    assert parse("FROM \u00e9".encode()).instructions[0].image == "\u00e9"  # type: ignore[attr-defined]


def test_a_large_file_is_read_in_time_that_grows_with_it() -> None:
    """Quadratic reading of these takes minutes."""
    lines = [f"FROM a AS s{number}\nCOPY --from=s{max(number - 1, 0)} /a /b\n" for number in range(1, 1000)]
    text = "FROM a AS s0\n" + "".join(lines)
    assert len(make_plan(parse(text)).needed()) == 1000
    parse("FROM a\nENV " + " \\\n  ".join(f"A{number}='b c'" for number in range(5_000)))
    parse("FROM a\nCOPY " + "x " * 10_000 + "/y\n" + "RUN " + "é" * 100_000)
    parse("FROM a\nRUN <<E\n" + "x\n" * 50_000 + "E\n")
