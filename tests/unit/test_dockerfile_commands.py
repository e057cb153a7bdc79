"""What instructions come to: command lines, directories, destinations, modes, names of URLs."""

from __future__ import annotations

from typing import Any

import pytest

from pycontainer._build.commands import (
    config_command,
    destination,
    join_workdir,
    parents,
    run_command,
    set_mode,
    url_name,
)
from pycontainer._build.history import created_by
from pycontainer._build.parse import parse
from pycontainer._build.scope import Scope


def last(text: str) -> Any:
    return parse(f"FROM a\n{text}").instructions[-1]


@pytest.mark.parametrize(
    ("text", "argv"),
    [
        ("RUN make  x", ("/bin/sh", "-c", "make  x")),
        ('RUN ["make", "x"]', ("make", "x")),
        ("RUN <<E\na\nb\nE", ("/bin/sh", "-c", "a\nb\n")),
        ("RUN <<-E\n\ta\n\tE", ("/bin/sh", "-c", "a\n")),
        ("RUN cat <<E > x\na\nE", ("/bin/sh", "-c", "cat <<E > x\na\nE")),
        ("RUN cat <<'A' <<-B\n1\nA\n\t2\n\tB", ("/bin/sh", "-c", "cat <<'A' <<-B\n1\nA\n\t2\nB")),
        ("RUN <<E python3\nprint()\nE", ("/bin/sh", "-c", "<<E python3\nprint()\nE")),
    ],
)
def test_run(text: str, argv: tuple[str, ...]) -> None:
    assert run_command(last(text)).argv == argv
    assert run_command(last(text)).script is None


def test_the_shell_of_shell() -> None:
    assert run_command(last("RUN a"), ["bash", "-ec"]).argv == ("bash", "-ec", "a")
    assert config_command(last("CMD a"), ["bash", "-ec"]) == ["bash", "-ec", "a"]
    assert config_command(last('ENTRYPOINT ["a", "b"]'), ["bash"]) == ["a", "b"]
    assert config_command(last("CMD []")) == []


@pytest.mark.parametrize(("name", "path"), [("EOF", "EOF"), ("a.py", "a.py"), ("'../x'", "_x"), ("'..'", "script")])
def test_a_heredoc_that_is_a_script(name: str, path: str) -> None:
    end = name.strip("'")
    command = run_command(last(f"RUN <<{name}\n#!/usr/bin/env python3\nprint()\n{end}"))
    assert command.argv == (f"/dev/pipes/{path}",)
    assert command.script is not None
    assert command.script.content == "#!/usr/bin/env python3\nprint()\n"


@pytest.mark.parametrize(
    ("current", "path", "joined"),
    [
        ("/", "a", "/a"),
        ("/a", "b/c", "/a/b/c"),
        ("/a", "/b", "/b"),
        ("/a", "..", "/"),
        ("/a", "../../../b", "/b"),
        ("/a", ".", "/a"),
        ("", "a", "/a"),
        ("/a", "/b//c/./d/", "/b/c/d"),
    ],
)
def test_workdir(current: str, path: str, joined: str) -> None:
    assert join_workdir(current, path) == joined


@pytest.mark.parametrize(
    ("workdir", "text", "path", "directory"),
    [
        ("/w", ".", "/w", True),
        ("/w", "", "/w", True),
        ("/w", "a", "/w/a", False),
        ("/w", "a/", "/w/a", True),
        ("/w", "/a", "/a", False),
        ("/w", "/", "/", True),
        ("/w", "a/..", "/w", True),
        ("/", "../a/.", "/a", True),
    ],
)
def test_destinations(workdir: str, text: str, path: str, directory: bool) -> None:
    made = destination(workdir, text)
    assert (made.path, made.directory) == (path, directory)


@pytest.mark.parametrize(
    ("source", "root", "pattern", "required"),
    [
        ("a/b.txt", "", "a/b.txt", "a/b.txt"),
        ("./a/b", "", "a/b", "a/b"),
        ("x/./y/*.txt", "x", "y/*.txt", None),
        ("/x/./y", "x", "y", "x/y"),
        ("./x/./y/./z", "x", "y/z", "x/y/z"),
        ("src/**/*.txt", "", "src/**/*.txt", None),
        ("x*/./y", "x*", "y", None),
        ("../../x/./y", "x", "y", "x/y"),
    ],
)
def test_parents(source: str, root: str, pattern: str, required: str | None) -> None:
    made = parents(source)
    assert (made.root, made.pattern, made.required) == (root, pattern, required)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://e.org/a/b.tar.gz", "b.tar.gz"),
        ("https://e.org/a/b?x=/y#z/w", "b"),
        ("https://e.org/a/", "a"),
        ("https://e.org/", "__unnamed__"),
        ("http://e.org", "__unnamed__"),
        ("http://e.org?x=/y", "__unnamed__"),
        ("https://e.org/a/..", "__unnamed__"),
    ],
)
def test_names_of_urls(url: str, name: str) -> None:
    assert url_name(url) == name


@pytest.mark.parametrize(
    ("mode", "change", "directory", "result"),
    [
        (0o644, "755", False, 0o755),
        (0o644, "0", False, 0),
        (0o644, "04755", False, 0o4755),
        (0o644, "u+x", False, 0o744),
        (0o644, "+x", False, 0o755),
        (0o755, "go-rx", False, 0o700),
        (0o755, "u=rwX,go=rX", False, 0o755),
        (0o644, "u=rwX,go=rX", False, 0o644),
        (0o644, "a+X", True, 0o755),
        (0o640, "o=g", False, 0o644),
        (0o700, "g=u", False, 0o770),
        (0o755, "u+s", False, 0o4755),
        (0o755, "g+s", False, 0o2755),
        (0o4755, "u-s", False, 0o755),
        (0o755, "+t", True, 0o1755),
        (0o777, "u=rw,g+w-x,o=", False, 0o660),
        (0o644, "u=", False, 0o044),
    ],
)
def test_modes(mode: int, change: str, directory: bool, result: int) -> None:
    assert oct(set_mode(mode, change, directory=directory)) == oct(result)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ENV A=1 B='x y'", "ENV A=1 B=x y"),
        ("LABEL a=b", "LABEL a=b"),
        ("ARG A=1 B", "ARG A=1 B"),
        ("RUN make  x", "RUN |2 A=1 B=2 /bin/bash -c make  x"),
        ('RUN ["a", "b c"]', "RUN |2 A=1 B=2 a b c"),
        ("RUN --mount=type=secret,id=t,env=T x", "RUN |2 A=1 B=2 /bin/bash -c x"),
        ("COPY --chown=1 --link --chmod=755 --exclude=x --from=y a b /c", "COPY --chown=1 --chmod=755 a b /c"),
        ("COPY --parents a <<E /c\nE", "COPY --parents a <<E /c"),
        ("ADD a b", "ADD a b"),
        ("CMD a", 'CMD ["/bin/bash" "-c" "a"]'),
        ('ENTRYPOINT ["a", "\\""]', 'ENTRYPOINT ["a" "\\""]'),
        ("HEALTHCHECK CMD a", 'HEALTHCHECK ["CMD-SHELL" "a"]'),
        ('SHELL ["a", "b"]', "SHELL [a b]"),
        ("EXPOSE 1-2", "EXPOSE [1/tcp 2/tcp]"),
        ("VOLUME /a /b", "VOLUME [/a /b]"),
        ("WORKDIR x", "WORKDIR /w/x"),
        ("USER u", "USER u"),
        ("STOPSIGNAL 9", "STOPSIGNAL 9"),
        ("MAINTAINER m", "MAINTAINER m"),
        ("ONBUILD  RUN x", "ONBUILD  RUN x"),
    ],
)
def test_history(text: str, words: str) -> None:
    done = Scope({}, {}).apply(last(text))
    assert created_by(done, ["/bin/bash", "-c"], arguments={"A": "1", "B": "2"}, workdir="/w/x") == words
