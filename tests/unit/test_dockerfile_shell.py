"""Variables, quotes and escapes in words: a table of what BuildKit's lexer makes of them."""

from __future__ import annotations

import pytest

from pycontainer._build import shell
from pycontainer._build.shell import Rules, expand
from pycontainer._build.source import Mistake

ENV = {
    "DIR": "/srv",
    "KIND": "tall",
    "NONE": "",
    "TOWN": "Łódź",
    "sp": "a  b",
    "P": "a/b.tar.gz",
    "S": "x*y?z",
    "L": "a\nb",
}

# Not set: GONE, LOST, and all that are written small.
WHOLE: list[tuple[str, str | None]] = [
    # quotes, and what has none
    ("", ""),
    ("birch", "birch"),
    ("bi'r'ch", "birch"),
    ("bi'rch", None),
    ("'birch", None),
    ('"birch', None),
    ("'$DIR'", "$DIR"),
    ("'a ${GONE} b'", "a ${GONE} b"),
    ("'\"birch\"'", '"birch"'),
    ("\"''\"", "''"),
    ('"bi\'rch"', "bi'rch"),
    ('"in ${DIR}"', "in /srv"),
    ("\"in '$DIR'\"", "in '/srv'"),
    ("1<2<<3<< 4", "1<2<<3<< 4"),
    # escapes
    ("one\\two", "onetwo"),
    ('"one\\two"', "one\\two"),
    ("'one\\two'", "one\\two"),
    ('"one\\\\two"', "one\\two"),
    ("bi\\'rch", "bi'rch"),
    ("bi\\\\'rch", None),
    ("birch\\", "birch"),
    ("birch\\\\", "birch\\"),
    ('"birch\\"', None),
    ("'birch\\'", "birch\\"),
    ("in\\$DIR", "in$DIR"),
    ("in\\\\$DIR", "in\\/srv"),
    ('"in\\$DIR"', "in$DIR"),
    ('"in\\\\$DIR"', "in\\/srv"),
    ("'in\\$DIR'", "in\\$DIR"),
    ("\\${}", "${}"),
    # a name
    ("in$DIR", "in/srv"),
    ("in${DIR}", "in/srv"),
    ("$dir.", "."),
    ("in${no}out", "inout"),
    ("→$TOWN", "→Łódź"),
    ("$7th", "th"),
    ("$42th", "th"),
    ("${42:-wide}th", "wideth"),
    ("${size}}", "}"),
    ("in${DIR", None),
    ("${}", None),
    ("in${}out", None),
    ("in${.}", None),
    ("${{size}", None),
    ("${:}", None),
    ("${:-wide}", None),
    ("${#DIR}", None),
    # what is no name of a variable's
    ("$", "$"),
    ("$.", "$."),
    ("in$.out", "in$.out"),
    ("$$", ""),
    ("${$}", ""),
    ("${#}", ""),
    ("$@@@", "@@"),
    ("${@:-wide}", "wide"),
    ("${-:-w}", "w"),
    # in its stead
    ("in${GONE:-42}out", "in42out"),
    ("in${DIR:-42}out", "in/srvout"),
    ("in${NONE:-42}out", "in42out"),
    ("in${GONE-42}out", "in42out"),
    ("in${NONE-42}out", "inout"),
    ("in${GONE:-$DIR}out", "in/srvout"),
    ("in${GONE:-${DIR:-low}}out", "in/srvout"),
    ("in${GONE:-${LOST:-low}}out", "inlowout"),
    ("in${GONE:-\\$DIR:}out", "in$DIR:out"),
    ("in${GONE:-\\${DIR}z}out", "in${DIRz}out"),
    ("${GONE:-'1}2'}", "1}2"),
    ('${GONE:-"1}2"}', "1}2"),
    ("${GONE:-1 2}", "1 2"),
    ("${size:-wide}}", "wide}"),
    ("${size:-wide", None),
    ("${size:-wide ${deep}", None),
    ("${size:-wide {deep}", "wide {deep"),
    # where there is one
    ("in${GONE:+${DIR}}out", "inout"),
    ("in${DIR:+${KIND}}out", "intallout"),
    ("in${DIR:+${DIR}:}out", "in/srv:out"),
    ("in${NONE+n}${NONE:+m}", "inn"),
    # or an error
    ("in${GONE?}", None),
    ("in${GONE:?}", None),
    ("in${DIR?}", "in/srv"),
    ("in${NONE?}", "in"),
    ("in${NONE:?}", None),
    # what a shell has, and this has not
    ("in${GONE:LOST}", None),
    ("in${DIR:=42}out", None),
    ("in${DIR=42}out", None),
    # patterns
    ("${P#*/}", "b.tar.gz"),
    ("${P##*/}", "b.tar.gz"),
    ("${P%.*}", "a/b.tar"),
    ("${P%%.*}", "a/b"),
    ("${P#x}", "a/b.tar.gz"),
    ("${P#}", "a/b.tar.gz"),
    ("${P%%*}", ""),
    ("${P%*}", "a/b.tar.gz"),
    ("${P#?}", "/b.tar.gz"),
    ("${P#$NONE}", "a/b.tar.gz"),
    ("${P#${GONE:-a}}", "/b.tar.gz"),
    ("${S#x\\*}", "y?z"),
    ("${S%\\?z}", "x*y"),
    ("${S##*\\?}", "z"),
    ("${P:#x}", None),
    ("${P:%%x}", None),
    ("${P#\\a}", None),
    ("${P/b/x}", "a/x.tar.gz"),
    ("${P/a\\/b/x}", "x.tar.gz"),
    ("${P/./_}", "a/b_tar.gz"),
    ("${P//./_}", "a/b_tar_gz"),
    ("${P//a/}", "/b.tr.gz"),
    ("${P/*/x}", "x"),
    ("${P//?/-}", "----------"),
    ("${P/t*r/T}", "a/b.T.gz"),
    ("${P//*/x}", "x"),
    ("${L##*}", "\nb"),
    ("${L#??}", "a\nb"),
    ("${L//*/x}", "x\nx"),
    ("${L%?b}", "a\nb"),
    ("${P/zz/x}", "a/b.tar.gz"),
    ("${GONE/a/b}", ""),
    ("${NONE//a/b}", ""),
    ("${P/a}", None),
    ("${P/a/b", None),
    ("${P/\\q/b}", None),
    ("${P/b/\\$1}", "a/\\$1.tar.gz"),
]


@pytest.mark.parametrize(("text", "expected"), WHOLE)
def test_whole(text: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(Mistake):
            expand(text, ENV)
        return
    assert expand(text, ENV).text == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ()),
        ("birch$NONE", ("birch",)),
        ("a b", ("a", "b")),
        ("a${sp}b", ("aa", "bb")),
        ('a"${sp}"b', ("aa  bb",)),
        ('a "${sp}"b', ("a", "a  bb")),
        ('birch" grove  "', ("birch grove  ",)),
        ("birch  grove   ", ("birch", "grove")),
        ("birch\\ grove", ("birch grove",)),
        ('birch\\" grove', ('birch"', "grove")),
        ("\"\" a ''", ("a",)),
        ("$NONE a", ("a",)),
        ("80${X:-80} 1", ("8080", "1")),
        ("<< EOF x", ("<< EOF", "x")),
        ("a < b", ("a", "<", "b")),
    ],
)
def test_words(text: str, words: tuple[str, ...]) -> None:
    assert expand(text, ENV).words == words


def test_the_variables_that_were_asked_for() -> None:
    made = expand("${DIR:-$NOT} $NONE ${NEITHER?x}${NEITHER2-}".replace("${NEITHER?x}", ""), ENV)
    assert made.found == {"DIR", "NONE"}
    assert made.missing == {"NOT", "NEITHER2"}


def test_another_escape() -> None:
    rules = Rules(escape="`")
    assert expand('a`$DIR\\b `"x "c``d`"e"', ENV, rules).text == 'a$DIR\\b "x c`d"e'
    assert expand("${S#x\\*}", ENV, rules).text == "y?z"


def test_quotes_that_are_plain_characters() -> None:
    rules = Rules(quotes=False)
    assert expand('"$DIR" it\'s \\$DIR\n', ENV, rules).text == '"/srv" it\'s $DIR\n'


def test_what_is_kept() -> None:
    rules = Rules(keep_quotes=True, keep_escapes=True, keep_unset=True)
    text = "a \"b $NO\" 'c' \\d ${NO} ${NO:-x} ${NO/a/b}"
    assert expand(text, {}, rules).text == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${A?}", "A: is not allowed to be unset"),
        ("${NONE:?}", "NONE: is not allowed to be empty"),
        ("${A:?give $DIR}", "A: give /srv"),
        ("${A", "no } ends this variable"),
        ("${A:-b", "no } ends this variable"),
        ("${A:-'", "no ' ends this quote"),
        ("${A!x}", "can follow a variable's name; there are :- - :+"),
        ("x'y", "no ' ends this quote"),
    ],
)
def test_what_is_said(text: str, words: str) -> None:
    with pytest.raises(Mistake) as raised:
        expand(text, ENV)
    assert words in raised.value.text()


def test_nothing_grows_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "RESULT_MAX", 10_000)
    value = "x" * shell.RESULT_MAX
    assert len(expand("$A", {"A": value}).text) == shell.RESULT_MAX
    for text in ("$A$A", "${A//x/yy}", "${B:-$A$A}", '"$A$A"'):
        with pytest.raises(Mistake, match="longer than"):
            expand(text, {"A": value})
    with pytest.raises(Mistake, match="deep"):
        expand("${A:-" * 100_000 + "}" * 100_000, {})
    with pytest.raises(Mistake, match="a pattern is longer"):
        expand("${A#" + "*" * 5000 + "}", {"A": "x"})


def test_a_pattern_takes_no_longer_than_its_text() -> None:
    text = "a" * 100_000
    assert expand("${A%%*a*a*a*a*a*a*a*a*a*a*b}", {"A": text}).text == text
    assert expand("${A//*a*a*a*b/x}", {"A": text}).text == text
