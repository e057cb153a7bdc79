"""Variables, quotes and escapes in words: a table of what BuildKit's lexer makes of them."""

from __future__ import annotations

import pytest

from pycontainer._build import shell
from pycontainer._build.shell import Rules, expand
from pycontainer._build.source import Mistake

ENV = {
    "PWD": "/home",
    "SHELL": "bash",
    "NULL": "",
    "KOREAN": "한국어",
    "sp": "a  b",
    "P": "a/b.tar.gz",
    "S": "x*y?z",
    "L": "a\nb",
}

WHOLE: list[tuple[str, str | None]] = [
    ("", ""),
    ("hello", "hello"),
    ("he'll'o", "hello"),
    ("he'llo", None),
    ("he\\'llo", "he'llo"),
    ("he\\\\'llo", None),
    ("abc\\tdef", "abctdef"),
    ('"abc\\tdef"', "abc\\tdef"),
    ('"abc\\\\tdef"', "abc\\tdef"),
    ("'abc\\tdef'", "abc\\tdef"),
    ("hello\\", "hello"),
    ("hello\\\\", "hello\\"),
    ('"hello', None),
    ('"hello\\"', None),
    ('"hel\'lo"', "hel'lo"),
    ("'hello", None),
    ("'hello\\'", "hello\\"),
    ("\"''\"", "''"),
    ("$.", "$."),
    ("$", "$"),
    ("he$1x", "hex"),
    ("he$.x", "he$.x"),
    ("he$pwd.", "he."),
    ("he$PWD", "he/home"),
    ("he\\$PWD", "he$PWD"),
    ("he\\\\$PWD", "he\\/home"),
    ('"he\\$PWD"', "he$PWD"),
    ('"he\\\\$PWD"', "he\\/home"),
    ("\\${}", "${}"),
    ("${}", None),
    ("he${}xx", None),
    ("he${hi}xx", "hexx"),
    ("he${PWD}", "he/home"),
    ("he${.}", None),
    ("he${XXX:-000}xx", "he000xx"),
    ("he${PWD:-000}xx", "he/homexx"),
    ("he${NULL:-000}xx", "he000xx"),
    ("he${NULL-000}xx", "hexx"),
    ("he${XXX-000}xx", "he000xx"),
    ("he${XXX:-$PWD}xx", "he/homexx"),
    ("he${XXX:-${PWD:-yyy}}xx", "he/homexx"),
    ("he${XXX:-${YYY:-yyy}}xx", "heyyyxx"),
    ("he${XXX:YYY}", None),
    ("he${XXX?}", None),
    ("he${XXX:?}", None),
    ("he${PWD?}", "he/home"),
    ("he${NULL?}", "he"),
    ("he${NULL:?}", None),
    ("he${XXX:+${PWD}}xx", "hexx"),
    ("he${PWD:+${SHELL}}xx", "hebashxx"),
    ("he${NULL+x}${NULL:+y}", "hex"),
    ("'he${XX}'", "he${XX}"),
    ('"he${PWD}"', "he/home"),
    ("\"he'$PWD'\"", "he'/home'"),
    ("'\\$PWD'", "\\$PWD"),
    ("'\"hello\"'", '"hello"'),
    ("he${PWD", None),
    ("he${PWD:=000}xx", None),
    ("he${PWD=000}xx", None),
    ("he${PWD:+${PWD}:}xx", "he/home:xx"),
    ("he${XXX:-\\$PWD:}xx", "he$PWD:xx"),
    ("he${XXX:-\\${PWD}z}xx", "he${PWDz}xx"),
    ("${XXX:-'a}b'}", "a}b"),
    ('${XXX:-"a}b"}', "a}b"),
    ("${XXX:-a b}", "a b"),
    ("안녕$KOREAN", "안녕한국어"),
    ("${{aaa}", None),
    ("${aaa}}", "}"),
    ("${aaa:-bbb}}", "bbb}"),
    ("${aaa:-bbb", None),
    ("${aaa:-bbb ${foo}", None),
    ("${aaa:-bbb {foo}", "bbb {foo"),
    ("${:}", None),
    ("${:-bbb}", None),
    ("$999aaa", "aaa"),
    ("${999:-bbb}aaa", "bbbaaa"),
    ("$@@@", "@@"),
    ("${@:-bbb}", "bbb"),
    ("$$", ""),
    ("${$}", ""),
    ("${#}", ""),
    ("${-:-b}", "b"),
    ("${#PWD}", None),
    ("a<b<<c<< d", "a<b<<c<< d"),
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
    ("${P#$NULL}", "a/b.tar.gz"),
    ("${P#${XXX:-a}}", "/b.tar.gz"),
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
    ("${XXX/a/b}", ""),
    ("${NULL//a/b}", ""),
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
        ("hello$NULL", ("hello",)),
        ("a b", ("a", "b")),
        ("a${sp}b", ("aa", "bb")),
        ('a"${sp}"b', ("aa  bb",)),
        ('a "${sp}"b', ("a", "a  bb")),
        ('hello" there  "', ("hello there  ",)),
        ("hello  there   ", ("hello", "there")),
        ("hello\\ there", ("hello there",)),
        ('hello\\" there', ('hello"', "there")),
        ("\"\" a ''", ("a",)),
        ("$NULL a", ("a",)),
        ("80${X:-80} 1", ("8080", "1")),
        ("<< EOF x", ("<< EOF", "x")),
        ("a < b", ("a", "<", "b")),
    ],
)
def test_words(text: str, words: tuple[str, ...]) -> None:
    assert expand(text, ENV).words == words


def test_the_variables_that_were_asked_for() -> None:
    made = expand("${PWD:-$NOT} $NULL ${NEITHER?x}${NEITHER2-}".replace("${NEITHER?x}", ""), ENV)
    assert made.found == {"PWD", "NULL"}
    assert made.missing == {"NOT", "NEITHER2"}


def test_another_escape() -> None:
    rules = Rules(escape="`")
    assert expand('a`$PWD\\b `"x "c``d`"e"', ENV, rules).text == 'a$PWD\\b "x c`d"e'
    assert expand("${S#x\\*}", ENV, rules).text == "y?z"


def test_quotes_that_are_plain_characters() -> None:
    rules = Rules(quotes=False)
    assert expand('"$PWD" it\'s \\$PWD\n', ENV, rules).text == '"/home" it\'s $PWD\n'


def test_what_is_kept() -> None:
    rules = Rules(keep_quotes=True, keep_escapes=True, keep_unset=True)
    text = "a \"b $NO\" 'c' \\d ${NO} ${NO:-x} ${NO/a/b}"
    assert expand(text, {}, rules).text == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${A?}", "A: is not allowed to be unset"),
        ("${NULL:?}", "NULL: is not allowed to be empty"),
        ("${A:?give $PWD}", "A: give /home"),
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
