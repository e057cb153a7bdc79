"""Matchers of paths against slow ones that were written from the rules, by other means."""

from __future__ import annotations

import re

from hypothesis import example, given, strategies as st

from pycontainer._build.glob import Machine, go_match, go_tokens
from pycontainer._build.ignore import IgnoreFile, PathPatterns

NAMES = st.text(st.sampled_from("ab.\n"), min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
ATOMS = st.sampled_from(["a", "b", ".", "*", "?", "**", "/", "[ab]", "[^a]", "\\*", "\\a"])


def clean(path: str) -> str:
    """Go's filepath.Clean, by rewriting until nothing changes."""
    rooted = path.startswith("/")
    path = re.sub(r"/+", "/", path)
    before = ""
    while before != path:
        before = path
        path = re.sub(r"(^|/)\.(?=/|$)", r"\1", path)
        path = re.sub(r"/+", "/", path)
        path = re.sub(r"(^|/)(?!\.\.(?:/|$))[^/]+/\.\.(?=/|$)", r"\1", path)
        path = re.sub(r"/+", "/", path)
        path = re.sub(r"^/\.\.(?=/|$)", "/", path)
    path = path.rstrip("/") if path != "/" else path
    if rooted:
        return "/" + path.lstrip("/")
    return path.lstrip("/") or "."


# An exception of the root is an error, as a lone ! is.
PATTERNS = st.lists(ATOMS, min_size=1, max_size=7).map("".join).filter(lambda text: clean(text) != "/")
LINES = st.lists(st.tuples(st.booleans(), PATTERNS), max_size=5)


def moby(pattern: str, path: str) -> bool:
    """One cleaned pattern, as moby's code describes it: by kind, else a regular expression."""
    out, kind, position, first = "^", "exact", 0, True
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*" and pattern.startswith("*", position):
            position += 1
            position += pattern.startswith("/", position)
            if position == len(pattern):
                if kind == "exact":
                    kind = "prefix"
                else:
                    out, kind = out + ".*", "regexp"
            else:
                out, kind = out + "(.*/)?", "regexp"
            if first:
                kind = "suffix"
        elif char in "*?":
            out, kind = out + ("[^/]*" if char == "*" else "[^/]"), "regexp"
        elif char == "\\":
            out, kind = out + re.escape(pattern[position]), "regexp"
            position += 1
        elif char == "[":
            end = pattern.index("]", position) + 1
            out, kind = out + pattern[position - 1 : end], "regexp"
            position = end
        else:
            out += re.escape(char)
        first = False
    if kind == "exact":
        return path == pattern
    if kind == "prefix":
        return path.startswith(pattern[:-2])
    if kind == "suffix":
        rest = pattern[2:]
        return path.endswith(rest) or (rest.startswith("/") and path == rest[1:])
    return re.match(out + r"\Z", path) is not None


def walk(lines: list[tuple[bool, str]], path: str) -> bool:
    """Whether docker's walk leaves a path out: the list of what matched is handed down from parent to child."""
    parts = path.split("/")
    above: list[bool] = []
    matched = False
    for depth in range(1, len(parts) + 1):
        here = "/".join(parts[:depth])
        now: list[bool] = []
        matched = False
        for number, (exception, pattern) in enumerate(lines):
            hit = above[number] if above else False
            if not hit and exception == matched:
                hit = moby(pattern, here)
            now.append(hit)
            if hit:
                matched = not exception
        above = now
    return matched


def normal(pattern: str) -> str:
    pattern = clean(pattern)
    return pattern[1:] if len(pattern) > 1 and pattern.startswith("/") else pattern


@given(LINES, PATHS)
@example([(False, "**/a/**/a/**/b")], "a/a/a/a/b")
@example([(False, "*a*a*b")], "aaab")
def test_an_ignore_file_is_dockers(lines: list[tuple[bool, str]], path: str) -> None:
    text = "\n".join("!" * exception + pattern for exception, pattern in lines)
    assert IgnoreFile(text).excludes(path) == walk([(e, normal(pattern)) for e, pattern in lines], path)


@given(LINES, st.lists(PATHS, max_size=8))
def test_the_order_of_questions_does_not_matter(lines: list[tuple[bool, str]], paths: list[str]) -> None:
    text = "\n".join("!" * exception + pattern for exception, pattern in lines)
    one = IgnoreFile(text)
    assert [one.excludes(path) for path in paths] == [IgnoreFile(text).excludes(path) for path in paths]


@given(LINES, PATHS, PATHS)
def test_what_is_pruned_holds_nothing(lines: list[tuple[bool, str]], directory: str, rest: str) -> None:
    ignore = IgnoreFile("\n".join("!" * exception + pattern for exception, pattern in lines))
    if ignore.prunes(directory):
        assert ignore.excludes(f"{directory}/{rest}")
    if not ignore.matches_below(directory):
        assert not ignore.excludes(f"{directory}/{rest}")


def slow_go(pattern: str, path: str) -> bool:
    """filepath.Match by trying everything."""
    if not pattern:
        return not path
    char = pattern[0]
    if char == "*":
        return slow_go(pattern[1:], path) or (bool(path) and path[0] != "/" and slow_go(pattern, path[1:]))
    if not path:
        return False
    if char == "?":
        return path[0] != "/" and slow_go(pattern[1:], path[1:])
    if char == "[":
        end = pattern.index("]") + 1
        inside = pattern[1 : end - 1]
        hit = (path[0] in inside[1:]) is False if inside.startswith("^") else path[0] in inside
        return hit and slow_go(pattern[end:], path[1:])
    if char == "\\":
        return path[0] == pattern[1] and slow_go(pattern[2:], path[1:])
    return path[0] == char and slow_go(pattern[1:], path[1:])


@given(PATTERNS, PATHS)
def test_go_match_is_gos(pattern: str, path: str) -> None:
    assert go_match(pattern, path) == slow_go(pattern, path)


@given(PATTERNS, PATHS, PATHS)
def test_the_machine_and_the_regular_expression_agree(pattern: str, path: str, below: str) -> None:
    machine = Machine(go_tokens(pattern))
    slow = Machine(go_tokens(pattern))
    slow._regexp = None
    assert machine.matches(path) == slow.matches(path)
    if not machine.matches_below(path):
        assert not machine.matches(f"{path}/{below}")


@given(LINES, PATHS)
def test_patterns_read_back(lines: list[tuple[bool, str]], path: str) -> None:
    patterns = PathPatterns("!" * exception + pattern for exception, pattern in lines)
    assert PathPatterns(patterns.patterns).matches(path) == patterns.matches(path)
