"""Each kind of mistake in a Dockerfile: a BuildError with its line and column, in words, with the likely fix."""

from __future__ import annotations

import pickle

import pytest

import pycontainer as pc
from pycontainer._build.instructions import MountKind, Sharing
from pycontainer._build.mounts import read_mount
from pycontainer._build.parse import parse
from pycontainer._build.source import Mistake, Word

# The second line of a file, where it is wrong, and some words of what is said.
MISTAKES: list[tuple[str, int, str]] = [
    # instructions
    ("FORM a", 1, "did you mean FROM?"),
    ("RNU a", 1, "did you mean RUN?"),
    ("COPPY a b", 1, "did you mean COPY?"),
    ("apt-get install x", 1, "did you mean RUN apt-get?"),
    ("&& make", 1, "at the end of the line before"),
    ("XYZZY a", 1, "there are ADD, ARG"),
    ("\\", 1, 'no instruction is called ""'),
    # nothing behind it
    *((keyword, 1, f"{keyword} needs") for keyword in ("ARG", "CMD", "COPY", "ENV", "EXPOSE", "FROM", "RUN", "USER")),
    *((keyword, 1, f"{keyword} needs") for keyword in ("ADD", "ENTRYPOINT", "HEALTHCHECK", "LABEL", "MAINTAINER")),
    *((keyword, 1, f"{keyword} needs") for keyword in ("ONBUILD", "SHELL", "STOPSIGNAL", "VOLUME", "WORKDIR")),
    ("RUN --network=none", 1, "RUN needs a command"),
    # flags
    ("COPY --form=x a b", 6, "did you mean --from?"),
    ("COPY  --chwon=x a b", 7, "did you mean --chown?"),
    ("COPY --zzzzzzz a b", 6, "it has --from, --chown"),
    ("COPY --from a b", 6, "--from needs a value"),
    ("COPY --link=yes a b", 6, 'true or false, not "yes"'),
    ("COPY --link= a b", 6, "true or false"),
    ("COPY --link --chown=1 --chown=2 a b", 23, "--chown is there twice"),
    ("COPY --checksum=x a b", 6, 'no flag "--checksum"'),
    ("ADD --from=x a b", 5, 'no flag "--from"'),
    ("ADD --parents a b", 5, 'no flag "--parents"'),
    ("ENV --x A=1", 5, "takes none"),
    ("CMD --x", 5, "takes none"),
    ("USER --x", 6, "takes none"),
    ("ARG --x A", 5, "takes none"),
    ("STOPSIGNAL --x INT", 12, "takes none"),
    ("ONBUILD --x RUN y", 9, "takes none"),
    ("FROM --plattform=x a", 6, "did you mean --platform?"),
    ("RUN --netwrok=none x", 5, "did you mean --network?"),
    ("HEALTHCHECK --interal=3s CMD x", 13, "did you mean --interval?"),
    # FROM
    ("FROM a b", 8, "an image, AS and a name"),
    ("FROM a S b", 8, "did you mean AS?"),
    ("FROM a AS", 8, "an image, AS and a name"),
    ("FROM a AS b c", 8, "an image, AS and a name"),
    ("FROM a AS 1b", 11, 'cannot be called "1b"'),
    ("FROM a AS b/c", 11, 'cannot be called "b/c"'),
    ("FROM a AS scratch", 11, "the empty image"),
    # ARG, ENV, LABEL
    ("ARG =1", 5, "missing before the ="),
    ("ARG A B=1 =2", 11, "missing before the ="),
    ('ARG "A=1"', 5, "quotes go around the value"),
    ("ENV A", 5, 'ENV "A" has no value; A= makes it empty'),
    ("LABEL A", 7, 'LABEL "A" has no value'),
    ("ENV A=b c", 9, 'ENV has "c" without a =; quote a value that has spaces: A="..."'),
    ("ENV A=1 =2", 9, "missing before the ="),
    ("ENV =1", 5, "missing before the ="),
    # RUN
    ("RUN [1]", 5, "strings only"),
    ('RUN ["a", null]', 5, "strings only"),
    ("RUN [" * 100_000, 5, ""),
    ("RUN " + "[" * 100_000 + "]" * 100_000, 5, "strings only"),
    ("RUN []", 5, "executes nothing"),
    ("RUN --security=insecure x", 16, '--security of RUN is not supported: "insecure"'),
    ("RUN --device=gpu x", 14, "--device of RUN is not supported"),
    ("RUN --network=nonne x", 15, "did you mean none?"),
    ("RUN --network=bridge x", 15, "one of default, none, host"),
    # mounts
    ("RUN --mount=type=cach,target=/x y", 13, "did you mean cache?"),
    ("RUN --mount=type=ssh y", 13, "ssh are not supported"),
    ("RUN --mount=type=bind,traget=/x y", 13, "did you mean target?"),
    ("RUN --mount=type=bind,bind-propagation=rshared,target=/x y", 13, 'no "bind-propagation"'),
    ("RUN --mount=type=bind,target=/x,z y", 13, 'no "z"'),
    ("RUN --mount=type=bind,target=/x,ro=maybe y", 13, "readonly is true or false"),
    ("RUN --mount=type=bind,target=/x,required y", 13, "type bind has no required"),
    ("RUN --mount=type=bind,target=/x,mode=0644 y", 13, "type bind has no mode"),
    ("RUN --mount=type=bind,target=/x,sharing=locked y", 13, "type bind has no sharing"),
    ("RUN --mount=type=bind,target y", 13, "target of a mount needs a value"),
    ("RUN --mount=type=bind,source=/x y", 13, "type bind needs a target"),
    ("RUN --mount=type=bind,target=/ y", 13, "cannot lie on /"),
    ("RUN --mount=type=bind,target=/a/.. y", 13, "cannot lie on /"),
    ("RUN --mount=type=cache y", 13, "type cache needs a target"),
    ("RUN --mount=type=cache,target=/x,sharing=lock y", 13, "one of shared, private, locked"),
    ("RUN --mount=type=cache,target=/x,mode=0888 y", 13, "mode is an octal number"),
    ("RUN --mount=type=cache,target=/x,mode=17777 y", 13, "at most 7777"),
    ("RUN --mount=type=cache,target=/x,uid=-1 y", 13, "uid is a number"),
    ("RUN --mount=type=cache,target=/x,uid=4294967296 y", 13, "uid is a number"),
    ("RUN --mount=type=cache,target=/x,gid=4294967295 y", 13, "which means none"),
    ("RUN --mount=type=cache,target=/x,size=1g y", 13, "type cache has no size"),
    ("RUN --mount=type=tmpfs,target=/x,size=big y", 13, "size is a size"),
    ("RUN --mount=type=tmpfs,target=/x,from=a y", 13, "type tmpfs has no from"),
    ("RUN --mount=type=secret y", 13, "a secret needs its id"),
    ("RUN --mount=type=secret,id=a,source=b y", 13, "not both"),
    ("RUN --mount=type=secret,id=a,from=b y", 13, "type secret has no from"),
    ("RUN --mount=from=$X,target=/x y", 13, "no variable is looked at in from="),
    ('RUN --mount=\'type=bind,"target=/x\' y', 13, "as in CSV"),
    ("RUN --mount= y", 13, "--mount is empty"),
    ("RUN --mount=type=bind,target=$X,bogus=1 y", 13, 'no "bogus"'),
    # COPY, ADD
    ("COPY a", 6, "needs sources and a destination"),
    ('COPY ["a"]', 6, "needs sources and a destination"),
    ("COPY []", 6, "needs sources and a destination"),
    ("COPY [1, 2]", 6, "strings only"),
    ("COPY a <<E\nE", 10, "cannot be a destination"),
    ("COPY << E /x\nE", 6, "without a space"),
    ("COPY <<a/b /x\na/b", 6, "a heredoc's name is its file's"),
    ("COPY --from=$X a b", 13, "no variable is looked at in --from"),
    ("COPY --chmod=888 a b", 14, "--chmod is octal"),
    ("COPY --chmod=17777 a b", 14, "--chmod is octal"),
    ("COPY --chmod=rwx a b", 14, "--chmod is a mode"),
    ("COPY http://example.org/a b", 6, "use ADD"),
    ("COPY git@github.com:a/b.git c", 6, "COPY from git is not supported"),
    ("ADD x https://github.com/a/b.git#main c", 7, "ADD from git is not supported"),
    ("ADD git://example.org/a c", 5, "ADD from git is not supported"),
    ("ADD ssh://git@example.org/a c", 5, "ADD from git is not supported"),
    ("ADD --keep-git-dir=true a b", 27, "--keep-git-dir is for git sources"),
    # the others
    ("EXPOSE 80 x", 11, 'EXPOSE takes ports, not "x"'),
    ("EXPOSE 65536", 8, "at most 65535"),
    ("EXPOSE 99999999", 8, "takes ports"),
    ("EXPOSE 20-10", 8, "upwards"),
    ("EXPOSE 80/icmp", 8, "tcp, udp or sctp"),
    ("EXPOSE 8080:80", 8, "write 80; ports of the host are given when it runs"),
    ('VOLUME ["/a", ""]', 8, "a path of VOLUME is empty"),
    ("VOLUME []", 8, "a path of VOLUME is empty"),
    ("STOPSIGNAL SIGFOO", 12, "is a signal"),
    ("STOPSIGNAL 0", 12, "is a signal"),
    ("STOPSIGNAL 65", 12, "is a signal"),
    ("SHELL /bin/bash -c", 7, "takes a JSON array"),
    ("SHELL []", 7, "takes a JSON array"),
    ("HEALTHCHECK curl x", 13, "write HEALTHCHECK CMD"),
    ("HEALTHCHECK CMD", 13, "needs a command"),
    ("HEALTHCHECK CMD []", 17, "needs a command"),
    ("HEALTHCHECK NONE x", 1, "stands alone"),
    ("HEALTHCHECK --retries=3 NONE", 1, "stands alone"),
    ("HEALTHCHECK --interval=5 CMD x", 24, "--interval is a duration"),
    ("HEALTHCHECK --interval=-5s CMD x", 24, "--interval is a duration"),
    ("HEALTHCHECK --timeout=10us CMD x", 23, "less than a millisecond"),
    ("HEALTHCHECK --timeout=99999999h CMD x", 23, "is a duration"),
    ("HEALTHCHECK --retries=-1 CMD x", 23, "--retries is a number"),
    ("HEALTHCHECK --retries=2147483648 CMD x", 23, "--retries is a number"),
    ("ONBUILD FROM x", 9, "FROM cannot be a trigger"),
    ("ONBUILD ONBUILD RUN x", 9, "ONBUILD cannot be a trigger"),
    ("ONBUILD MAINTAINER x", 9, "MAINTAINER cannot be a trigger"),
    ("ONBUILD RNU x", 9, "did you mean RUN?"),
    ("ONBUILD COPY --form=a b c", 14, "did you mean --from?"),
    # lines
    ("RUN <<EOF\nx", 7, 'the heredoc "EOF" has no end'),
    ("RUN cat <<A <<B\nA\nx", 15, 'the heredoc "B" has no end'),
    ("RUN a\0b", 6, "a NUL byte"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "column", "words"), MISTAKES, ids=lambda value: str(value)[:40])
def test_mistakes(text: str, column: int, words: str) -> None:
    if words == "":  # no mistake: text for a shell, however deep
        assert parse(f"FROM a\n{text}").instructions
        return
    with pytest.raises(pc.BuildError) as raised:
        parse(f"FROM a\n{text}\n")
    message = str(raised.value)
    assert message.startswith(f"Dockerfile:2:{column}: "), message
    assert words in message
    assert raised.value.line == 2
    assert raised.value.step is not None
    assert raised.value.log is None


KEYS = (
    "type", "from", "source", "src", "target", "dst", "destination", "readonly", "ro", "readwrite", "rw", "id",
    "sharing", "required", "size", "mode", "uid", "gid", "env", "bind-propagation", "propagation", "z", "Z",
    "consistency",
)  # fmt: skip
VALUES = ("rshared", "z", "..", "../../..", "remount", "remount,bind", "noexec,exec", "a\nb", "x" * 10_000, "-1", "")


@pytest.mark.parametrize("kind", ["bind", "cache", "tmpfs", "secret"])
@pytest.mark.parametrize("key", KEYS)
def test_no_value_of_a_mount_becomes_an_option(kind: str, key: str) -> None:
    """CVE-2024-9407: what is read are enums, numbers and booleans; a text is a path, an id or a name."""
    base = {"type": kind, "id": "i"} if kind == "secret" else {"type": kind, "target": "/t"}
    for value in VALUES:
        text = ",".join(f'"{name}={each}"' for name, each in {**base, key: value}.items())
        try:
            mount = read_mount(Word(text))
        except Mistake:
            continue
        assert key in ("source", "src", "target", "dst", "destination", "from", "id", "env")
        assert (type(mount.kind), type(mount.sharing), type(mount.read_only)) == (MountKind, Sharing, bool)
        texts = [mount.source, mount.target, mount.id, mount.env, mount.from_]
        assert not any("\n" in text for text in texts if text)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("", "1:1", "no instruction in it"),
        ("# only a comment\n\n", "1:1", "no instruction in it"),
        ("# escape=x\nFROM a", "1:10", "escape is"),
        ("# escape=`\n# escape=`\nFROM a", "2:3", "given in line 1 already"),
        ("#syntax=a\n# syntax=b\nFROM a", "2:3", "the directive syntax was given"),
        ("FROM a\nRUN x \\\n # comment\n\n  y --z \\\n <<E", "6:4", "has no end"),
        ("FROM a\nCOPY --chown=1 \\\n  --from=2 \\\n  --form=3 x y", "4:3", "did you mean --from?"),
        ("FROM a\nRUN <<E\nx\n\0\nE", "4:1", "a NUL byte"),
        ("FROM a\n" + "RUN " + "x" * (17 << 20), "1:1", "more than"),
    ],
    ids=lambda value: value[:30],
)
def test_mistakes_elsewhere(text: str, place: str, words: str) -> None:
    with pytest.raises(pc.BuildError) as raised:
        parse(text)
    assert str(raised.value).startswith(f"Dockerfile:{place}: ")
    assert words in str(raised.value)
    assert raised.value.line == int(place.partition(":")[0])


def test_bytes_that_are_not_utf8() -> None:
    with pytest.raises(pc.BuildError, match=r"^Dockerfile:2:5: bytes that are not UTF-8"):
        parse(b"FROM a\nRUN \xff")


def test_the_file_has_a_name_and_text_of_it_is_escaped() -> None:
    with pytest.raises(pc.BuildError) as raised:
        parse("FROM a\nX\x1b[31m y", file="docker/App.\x1b")
    assert str(raised.value).startswith("docker/App.\\x1b:2:1: ")
    assert "\x1b" not in str(raised.value)


def test_it_survives_pickle() -> None:
    with pytest.raises(pc.BuildError) as raised:
        parse("FROM a\nRNU x")
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.line, again.step) == (str(raised.value), 2, "RNU x")


def test_the_message_is_short_however_long_the_text() -> None:
    with pytest.raises(pc.BuildError) as raised:
        parse(f"FROM a\n{'X' * 100_000} y")
    assert len(str(raised.value)) < 400
