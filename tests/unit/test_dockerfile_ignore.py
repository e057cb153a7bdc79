""".dockerignore and the patterns of COPY: tables of what docker's matchers say."""

from __future__ import annotations

import pytest

import pycontainer as pc
from pycontainer._build.glob import Machine, go_match, go_tokens, has_wildcard, source_pattern
from pycontainer._build.ignore import IgnoreFile, PathPatterns, ignore_names
from pycontainer._build.source import Mistake, Word

# pattern, path, is it left out
SINGLE: list[tuple[str, str, bool]] = [
    ("**", "file", True),
    ("**", "dir/file", True),
    ("**/", "file", True),
    ("**/", "dir/file", True),
    ("**/**", "dir/file", True),
    ("dir/**", "dir", False),
    ("dir/**", "dir/file", True),
    ("dir/**", "dir/dir2/file", True),
    ("dir/**", "dirx/file", False),
    ("**/dir", "dir", True),
    ("**/dir", "dir/file", True),
    ("**/dir", "a/b/dir", True),
    ("**/dir", "xdir", False),
    ("**/dir2/*", "dir/dir2/file", True),
    ("**/dir2/*", "dir2/file", True),
    ("**/dir2/**", "dir/dir2/dir3/file", True),
    ("**file", "file", True),
    ("**file", "dir/file", True),
    ("**file", "xfile", True),
    ("**file*", "xfile", False),
    ("**/file", "dir/dir/file", True),
    ("**/file*", "dir/dir/file.txt", True),
    ("**/file*txt", "dir/dir/file.txt", True),
    ("**/file*.txt*", "dir/dir/file.txt", True),
    ("**/**/*.txt", "dir/dir/file.txt", True),
    ("**/**/*.txt2", "dir/dir/file.txt", False),
    ("**/*.txt", "file.txt", True),
    ("**/**/*.txt", "file.txt", True),
    ("a**/*.txt", "a/file.txt", True),
    ("a**/*.txt", "a/dir/dir/file.txt", True),
    ("a**/*.txt", "ab/file.txt", True),
    ("a**", "abc/d", True),
    ("a**", "a", True),
    ("a/*.txt", "a/dir/file.txt", False),
    ("a/*.txt", "a/file.txt", True),
    ("a/*.txt**", "a/file.txt", True),
    ("a/*.txt**", "a/file.txt/b", True),
    ("a**b", "a/b", True),
    ("a**b", "axx/b", True),
    ("a**b", "axxb", False),
    ("***", "a/b", True),
    ("a[b-d]e", "ae", False),
    ("a[b-d]e", "ace", True),
    ("a[b-d]e", "aae", False),
    ("a[^b-d]e", "aze", True),
    ("a[^b-d]e", "a/e", True),
    ("[a\\]]x", "]x", True),
    ("[[]x", "[x", True),
    ("[\\-]x", "-x", True),
    ("[!a]", "!", True),
    ("[z-a]", "b", False),
    (".*", ".foo", True),
    (".*", "foo", False),
    ("abc.def", "abcZdef", False),
    ("abc?def", "abcZdef", True),
    ("abc?def", "abc/def", False),
    ("abc?def", "abcdef", False),
    ("a\\\\", "a\\", True),
    ("a\\*b", "a*b", True),
    ("a\\*b", "axb", False),
    ("a\\b", "ab", True),
    ("**/foo/bar", "foo/bar", True),
    ("**/foo/bar", "dir/dir2/foo/bar", True),
    ("**/.foo", "bar.foo", False),
    ("a(b)c/def", "a(b)c/def", True),
    ("a.|)$(}+{bc", "a.|)$(}+{bc", True),
    ("dist/*.whl", "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", True),
    # rooted, and all below a directory
    ("*.pyc", "a.pyc", True),
    ("*.pyc", "d/a.pyc", False),
    ("node_modules", "node_modules/a/b", True),
    ("node_modules", "a/node_modules", False),
    ("a/b", "a/b/c/d", True),
    ("a/b", "a", False),
    ("*", "a/b/c", True),
    ("*/*", "a", False),
    ("*/*", "a/b", True),
    ("*/temp*", "somedir/temporary.txt", True),
    ("*/*/temp*", "a/b/temp", True),
    ("temp?", "tempa", True),
    ("temp?", "temp", False),
    # written in other ways
    ("/foo", "foo", True),
    ("//foo", "foo", True),
    ("/foo/bar", "foo/bar", True),
    ("./foo", "foo", True),
    ("foo/", "foo", True),
    ("foo//bar", "foo/bar", True),
    ("foo/./bar", "foo/bar", True),
    ("foo/../bar", "bar", True),
    ("../foo", "foo", False),
    ("/../foo", "foo", True),
    ("  foo\t", "foo", True),
    ("foo\r", "foo", True),
    ("#foo", "#foo", False),
    (" #foo", "#foo", True),
    ("\\#foo", "#foo", True),
    ("a b", "a b", True),
    ("/", "a", False),
    (".", "a", False),
    ("\ufefffoo", "foo", True),
    ("a?c", "a☺c", True),
    ("Dockerfile", "Dockerfile", True),
]

# lines, path, is it left out
SEVERAL: list[tuple[list[str], str, bool]] = [
    (["**", "!util/docker/web"], "util/docker/web/foo", False),
    (["**", "!util/docker/web"], "util/docker", True),
    (["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", True),
    (["**", "!dist/*.whl"], "dist/a.whl", False),
    (["**", "!dist/*.whl"], "dist/a.txt", True),
    (["*.md", "!README.md"], "README.md", False),
    (["*.md", "!README*.md", "README-secret.md"], "README-secret.md", True),
    (["*.md", "README-secret.md", "!README*.md"], "README-secret.md", False),
    (["!foo", "foo"], "foo", True),
    (["docs", "!docs/README.md"], "docs/README.md", False),
    (["docs", "!docs/README.md"], "docs/other", True),
    (["docs/*", "!docs/README.md"], "docs/README.md", False),
    (["a", "! a/b"], "a/b", False),
    (["a", "!/a/b"], "a/b/c", False),
    (["a", "!./a/b/"], "a/b/c", False),
    (["*", "!**/*.py"], "a/b.py", False),
    (["*", "!**/*.py"], "a/b.c", True),
    (["*", "!a", "a/x"], "a/x/y", True),
    (["*", "!a", "a/x", "!a/x/y"], "a/x/y/z", False),
    (["# comment", "", "a"], "a", True),
    # What cannot change the answer for the parent is not asked again below it: docker's walk, not each path alone.
    (["a/b", "!a"], "a/b", True),
    (["a/b", "!a/b"], "a/b/c", False),
    ([], "a", False),
    (["a"], "", False),
    (["*"], ".", False),
]


@pytest.mark.parametrize(("pattern", "path", "out"), SINGLE)
def test_one_pattern(pattern: str, path: str, out: bool) -> None:
    assert IgnoreFile(f"{pattern}\n").excludes(path) is out


@pytest.mark.parametrize(("lines", "path", "out"), SEVERAL)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_several_patterns(lines: list[str], path: str, out: bool, end: str) -> None:
    assert IgnoreFile(end.join(lines)).excludes(path) is out


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a\n!\n", "2:1", "a ! without a pattern"),
        ("a\n  ! \n", "2:3", "a ! without a pattern"),
        ("a\n#\n[\n", "3:1", "has no end"),
        ("[]a]", "1:1", "are written"),
        ("[-a]", "1:1", "has no end"),
        ("[a-]", "1:1", "has no end"),
        ("a[", "1:1", "[[] is a plain ["),
        ("b/[x", "1:1", "has no end"),
        ("a\\", "1:1", "ends with a backslash"),
        ("[a\\", "1:1", "has no end"),
        ("!**/[", "1:1", "has no end"),
    ],
)
def test_bad_patterns(text: str, place: str, words: str) -> None:
    with pytest.raises(pc.BuildError) as raised:
        IgnoreFile(text)
    assert str(raised.value).startswith(f".dockerignore:{place}: ")
    assert words in str(raised.value)
    assert raised.value.line == int(place.partition(":")[0])


@pytest.mark.parametrize("path", ["/a", "../a", "..", "a//b", "a/", "./a", "a/../b"])
def test_paths_are_relative_and_clean(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        IgnoreFile("b").excludes(path)


@pytest.mark.parametrize(
    ("lines", "directory", "pruned"),
    [
        (["a"], "a", True),
        (["a"], "b", False),
        (["a", "!b"], "a", True),
        (["a", "!a/b"], "a", False),
        (["a", "!a/b"], "a/c", True),
        (["a", "!a/*/c"], "a/b", False),
        (["a", "!a/*/c"], "a/b/d", True),
        (["*", "!**/*.py"], "a", False),
        (["*", "!src/**"], "src", False),
        (["*", "!src/**"], "lib", True),
        (["*", "!src"], "src", False),
        (["**", "!x**"], "xy", False),
        (["**", "!x**"], "ay", True),
        (["a/b", "!a"], "a/b", True),
        (["a/**"], "a", False),
        (["a/**"], "a/b", True),
        (["*"], "", False),
    ],
)
def test_directories_that_nobody_needs_to_look_into(lines: list[str], directory: str, pruned: bool) -> None:
    assert IgnoreFile("\n".join(lines)).prunes(directory) is pruned


def test_many_directories_are_forgotten_and_the_answers_stay() -> None:
    ignore = IgnoreFile("*/x\n!*/x/y\n")
    for number in range(10_000):
        assert ignore.excludes(f"d{number}/x/z") is True
    assert ignore.excludes("d0/x/y/z") is False
    assert ignore.excludes("d0/x") is True


def test_no_pattern_takes_long() -> None:
    names = "/".join(["a" * 200] * 15)
    for pattern in ("*a" * 40 + "b", "**/" * 30 + "b", "/".join(["**/*a*a*a*a*a*"] * 10) + "/b", "[^b]*" * 40 + "b"):
        ignore = IgnoreFile(pattern)
        assert ignore.excludes(names) is False


def test_an_ignore_file_has_a_bound() -> None:
    with pytest.raises(pc.BuildError, match="more than"):
        IgnoreFile("a\n" * 10_001)
    with pytest.raises(pc.BuildError, match="more than"):
        IgnoreFile("#" * (2 << 20))


def test_names() -> None:
    assert ignore_names("docker/App") == ("docker/App.dockerignore", ".dockerignore")
    assert IgnoreFile(b"\xff\n").excludes("\udcff") is True


# Go's filepath.Match

GO: list[tuple[str, str, bool | None]] = [
    ("abc", "abc", True),
    ("*", "abc", True),
    ("*c", "abc", True),
    ("a*", "a", True),
    ("a*", "ab/c", False),
    ("a*/b", "abc/b", True),
    ("a*/b", "a/c/b", False),
    ("a*b*c*d*e*/f", "axbxcxdxe/f", True),
    ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True),
    ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
    ("a*b?c*x", "abxbbxdbxebxczzx", True),
    ("a*b?c*x", "abxbbxdbxebxczzy", False),
    ("ab[c]", "abc", True),
    ("ab[e-g]", "abc", False),
    ("ab[^c]", "abc", False),
    ("ab[^e-g]", "abc", True),
    ("a\\*b", "a*b", True),
    ("a\\*b", "ab", False),
    ("a?b", "a☺b", True),
    ("a[^a]b", "a☺b", True),
    ("a???b", "a☺b", False),
    ("[a-ζ]*", "α", True),
    ("*[a-ζ]", "A", False),
    ("a?b", "a/b", False),
    ("a*b", "a/b", False),
    ("[\\]a]", "]", True),
    ("[\\-]", "-", True),
    ("[x\\-]", "x", True),
    ("[x\\-]", "z", False),
    ("[\\-x]", "a", False),
    ("**", "a/b", False),
    ("**", "ab", True),
    ("*x", "xxx", True),
    ("[]a]", "]", None),
    ("[-]", "-", None),
    ("[x-]", "x", None),
    ("[-x]", "x", None),
    ("\\", "a", None),
    ("[a-b-c]", "a", None),
    ("[", "a", None),
    ("[^", "a", None),
    ("[^bc", "a", None),
    ("a[", "a", None),
    ("a[", "x", None),
    ("a/b[", "x", None),
]


@pytest.mark.parametrize(("pattern", "path", "matches"), GO)
def test_go_match(pattern: str, path: str, matches: bool | None) -> None:
    if matches is None:
        with pytest.raises(Mistake):
            go_match(pattern, path)
        return
    assert go_match(pattern, path) is matches
    machine = Machine(go_tokens(pattern))
    machine._regexp = None
    assert machine.matches(path) is matches


@pytest.mark.parametrize(
    ("text", "wild"),
    [
        ("a", False),
        ("a*", True),
        ("a?", True),
        ("[a", True),
        ("a\\*", False),
        ("\\\\*", True),
        ("", False),
        ("a\\", False),
    ],
)
def test_wildcards(text: str, wild: bool) -> None:
    assert has_wildcard(text) is wild


@pytest.mark.parametrize(
    ("text", "base", "pattern"),
    [
        (".", "", None),
        ("/", "", None),
        ("", "", None),
        ("a/b/", "a/b", None),
        ("/a/./b/../c", "a/c", None),
        ("../../a", "a", None),
        ("*.py", "", "*.py"),
        ("src/*/x?.py", "src", "*/x?.py"),
        ("/a/[b]/c/", "a", "[b]/c"),
        ("arr[[]0].txt", "", "arr[[]0].txt"),
    ],
)
def test_sources(text: str, base: str, pattern: str | None) -> None:
    source = source_pattern(Word(text))
    assert (source.base, source.pattern) == (base, pattern)


def test_what_a_source_matches() -> None:
    source = source_pattern(Word("src/*/x?.py"))
    assert source.matches("a/x1.py")
    assert not source.matches("a/b/x1.py")
    assert source.matches_below("a")
    assert not source.matches_below("a/b")
    assert source_pattern(Word("arr[[]0].txt")).matches("arr[0].txt")
    assert not source_pattern(Word("a")).matches("a")
    with pytest.raises(Mistake) as raised:
        source_pattern(Word("a[", 3, 7))
    assert isinstance(raised.value.at, Word)
    assert (raised.value.at.line, raised.value.at.column) == (3, 7)


def test_patterns_of_exclude_and_of_parents() -> None:
    exclude = PathPatterns(["*.o", "**/tmp", "!keep.o"])
    assert [exclude.matches(path) for path in ("a.o", "d/a.o", "keep.o", "d/tmp/x")] == [True, False, False, True]
    assert exclude.patterns == ("*.o", "**/tmp", "!keep.o")
    include = PathPatterns(["src/**/*.txt"])
    assert [include.matches(path) for path in ("src/a.txt", "src/x/y/c.txt", "src/a.c", "a.txt")] == [
        True,
        True,
        False,
        False,
    ]
    assert include.matches_below("src/x")
    assert include.matches_below("")
    assert not include.matches_below("lib")
    with pytest.raises(Mistake):
        PathPatterns(["["])
