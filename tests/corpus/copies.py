"""COPY and ADD: sources, destinations, flags, archives."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile

from corpus.case import BASE, Case, Content, File, Link


def _archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, mode, data in (
            ("t", tarfile.DIRTYPE, 0o750, b""), ("t/file", tarfile.REGTYPE, 0o640, b"in a tar\n"),
            ("t/link", tarfile.SYMTYPE, 0o777, b""), ("top", tarfile.REGTYPE, 0o4755, b"top\n"),
            ("t/hard", tarfile.LNKTYPE, 0o640, b""),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.uid, info.gid, info.size = kind, mode, 1000, 2000, len(data)
            info.linkname = {"t/link": "file", "t/hard": "t/file"}.get(name, "")
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


TAR = _archive()
_TREE: dict[str, Content] = {
    "src/one.txt": "1\n", "src/two.txt": "2\n", "src/three.md": "3\n", "src/sub/four.txt": "4\n",
    "src/sub/deep/five.md": "5\n", "src/empty/": "", "top.txt": "t\n",
}  # fmt: skip
_LINKS: dict[str, Content] = {
    "to-file": Link("real"), "to-dir": Link("dir"), "nowhere": Link("absent"), "real": "r\n", "dir/x": "x\n",
    "dir/in": Link("x"),
}  # fmt: skip
_MODES: dict[str, Content] = {
    "run": File("run\n", 0o755), "set": File("set\n", 0o4711), "shut": File("shut\n", 0o600), "d/x": File("x\n", 0o750),
}  # fmt: skip
_OLD = "RUN mkdir -p /old/d && echo old > /old/d/a && echo kept > /old/d/kept && chmod 700 /old && ln -s old /link\n"
_DIRECTORY = "d 755 0:0"
_OLD_A, _KEPT = "f 644 0:0 'old\\n'", "f 644 0:0 'kept\\n'"
_FETCHED = hashlib.sha256(b"fetched\n").hexdigest()

CASES = (
    Case("copy-file", "COPY a /x"),
    Case("copy-into", "COPY a b /x/"),
    Case("copy-into-there", "COPY a /tmp"),
    Case("copy-relative", "WORKDIR /w\nCOPY a x\nCOPY a ./\nCOPY a sub/"),
    Case("copy-json", 'COPY ["a b", "c", "/x y/"]', {"a b": "1\n", "c": "2\n"}),
    Case("copy-directory", "COPY src /x\nCOPY src/sub /y/", _TREE),
    Case("copy-all", "COPY . /x", _TREE),
    Case("copy-globs", "COPY src/*.txt /x/\nCOPY s*/t???e.md /y\nCOPY src/[o]ne.* /z/", _TREE),
    Case("copy-glob-of-directories", "COPY src/* /x/", _TREE),
    Case("copy-slashes", "COPY /src/ /x\nCOPY ./src//one.txt /y", _TREE),
    Case("copy-links", "COPY . /x", _LINKS),
    Case("copy-named-links", "COPY to-file /x\nCOPY to-dir /y", _LINKS),
    Case("copy-modes", "COPY . /x", _MODES),
    Case("copy-chown", "COPY --chown=worker:extra src /x\nCOPY --chown=7:8 top.txt /n\nCOPY --chown=worker top.txt /w",
         _TREE),
    Case("copy-chown-id-only", "COPY --chown=1000 a /x\nCOPY --chown=0:2000 a /y"),
    Case("copy-chmod", "COPY --chmod=640 a /x\nCOPY --chmod=0711 d /y\nCOPY --chmod=4755 a /z"),
    Case("copy-chmod-words", "COPY --chmod=u=rwX,go=rX . /x", _MODES, by=(), rows={
        "x": _DIRECTORY, "x/run": "f 755 0:0 'run\\n'", "x/set": "f 755 0:0 'set\\n'", "x/shut": "f 644 0:0 'shut\\n'",
        "x/d": _DIRECTORY, "x/d/x": "f 755 0:0 'x\\n'"}),
    Case("copy-user", "USER worker\nCOPY a /x\nADD a /y"),
    Case("copy-over", _OLD + "COPY a /old/d/a\nCOPY d /old/d"),
    Case("copy-through-link", _OLD + "COPY a /link/new\nCOPY d /link/"),
    Case("copy-merges", "COPY src /x\nCOPY src/sub /x\nCOPY top.txt /x/one.txt", _TREE),
    Case("copy-from-stage", f"FROM {BASE} AS one\n{_OLD}RUN chown -R worker:extra /old/d\nFROM {BASE}\n"
         "COPY --from=one /old /x\nCOPY --from=one /old/d/a old/d/k* /y/\nCOPY --from=one --chown=5:6 /old/d /z",
         by_user={"x/d": _DIRECTORY, "x/d/a": _OLD_A, "x/d/kept": _KEPT, "y/a": _OLD_A, "y/kept": _KEPT}),
    Case("copy-from-link", f"FROM {BASE} AS one\n{_OLD}FROM scratch\nCOPY --from=one /link/d /x"),
    Case("copy-link-flag", "COPY --link a /x/y/\nCOPY --link --chown=3:4 d /z", by=(), rows={
        "x": _DIRECTORY, "x/y": _DIRECTORY, "x/y/a": "f 644 0:0 'a\\n'", "z": "d 755 3:4", "z/c": "f 644 3:4 'c\\n'"}),
    Case("copy-exclude", "COPY --exclude=*.md --exclude=sub/deep src /x", _TREE, by=(), rows={
        "x": _DIRECTORY, "x/one.txt": "f 644 0:0 '1\\n'", "x/two.txt": "f 644 0:0 '2\\n'", "x/empty": _DIRECTORY,
        "x/sub": _DIRECTORY, "x/sub/four.txt": "f 644 0:0 '4\\n'"}),
    Case("copy-exclude-deep", "COPY --exclude=**/*.txt src /x", _TREE, by=(), rows={
        "x": _DIRECTORY, "x/three.md": "f 644 0:0 '3\\n'", "x/empty": _DIRECTORY, "x/sub": _DIRECTORY,
        "x/sub/deep": _DIRECTORY, "x/sub/deep/five.md": "f 644 0:0 '5\\n'"}),
    Case("copy-parents", "COPY --parents src/sub/deep top.txt /x/", _TREE, by=(), rows={
        "x": _DIRECTORY, "x/src": _DIRECTORY, "x/src/sub": _DIRECTORY, "x/src/sub/deep": _DIRECTORY,
        "x/src/sub/deep/five.md": "f 644 0:0 '5\\n'", "x/top.txt": "f 644 0:0 't\\n'"}),
    Case("copy-parents-pivot", "COPY --parents ./src/./sub/*.txt /x/", _TREE, by=(), rows={
        "x": _DIRECTORY, "x/sub": _DIRECTORY, "x/sub/four.txt": "f 644 0:0 '4\\n'"}),
    Case("copy-heredoc", "COPY <<one <<\"two\" /x/\n$PATH\none\n$PATH\ntwo\nENV A=b\n"
         "COPY <<-EOF /y\n\tindented $A\n\tEOF",
         by=(), rows={
             "config.Env": '["PATH=/bin", "A=b"]', "x": _DIRECTORY, "x/one": "f 644 0:0 '/bin\\n'",
             "x/two": "f 644 0:0 '$PATH\\n'", "y": "f 644 0:0 'indented b\\n'"}),
    Case("copy-heredoc-flags", "COPY --chmod=755 --chown=1:2 <<EOF /x\nran\nEOF", by=(),
         rows={"x": "f 755 1:2 'ran\\n'"}),
    Case("add-file", "ADD a b /x/\nADD d /y"),
    Case("add-tar", "ADD x.tar /x\nADD x.tar /tmp/", {"x.tar": TAR}),
    Case("add-tar-compressed", "ADD x.tgz /g\nADD http.tgz /b/",
         {"x.tgz": gzip.compress(TAR, mtime=0), "http.tgz": TAR}),
    Case("add-tar-bzip2", "ADD x.bz2 /b", {"x.bz2": bz2.compress(TAR)}, refused="bzip2"),
    Case("add-tar-xz", "ADD x.txz /x", {"x.txz": lzma.compress(TAR)}, refused="xz"),
    Case("add-no-tar", "ADD x.tar y.gz /x/", {"x.tar": "no tar at all\n", "y.gz": gzip.compress(b"plain\n", mtime=0)}),
    Case("add-tar-chown", "ADD --chown=5:6 x.tar /x", {"x.tar": TAR}),
    Case("copy-tar", "COPY x.tar /x/", {"x.tar": TAR}),
    Case("add-chown-chmod", "ADD --chown=worker --chmod=600 a /x"),
    Case("add-glob", "ADD src/*.txt /x/", _TREE),
    Case("add-url", "ADD {url}/file /x/\nADD {url}/tar /y"),
    Case("add-checksum", f"ADD --checksum=sha256:{_FETCHED} {{url}}/file /x",
         by=(), rows={"x": "f 600 0:0 'fetched\\n'"}),
    Case("add-unpack", "ADD --unpack=false x.tar /x\nADD --unpack=true x.tar /y", {"x.tar": TAR}, by=(), rows={
        "x": f"f 644 0:0 sha256:{hashlib.sha256(TAR).hexdigest()[:16]}", "y": _DIRECTORY, "y/t": "d 750 1000:2000",
        "y/t/file": "f 640 1000:2000 'in a tar\\n'", "y/t/hard": "f 640 1000:2000 'in a tar\\n'",
        "y/t/link": "l 1000:2000 file", "y/top": "f 4755 1000:2000 'top\\n'"}),
    Case("add-heredoc", "ADD <<EOF /x\ntext\nEOF", by=(), rows={"x": "f 644 0:0 'text\\n'"}),
    Case("add-exclude", "ADD --exclude=*.md src /x", _TREE, by=(), rows={
        "x": _DIRECTORY, "x/one.txt": "f 644 0:0 '1\\n'", "x/two.txt": "f 644 0:0 '2\\n'", "x/empty": _DIRECTORY,
        "x/sub": _DIRECTORY, "x/sub/four.txt": "f 644 0:0 '4\\n'", "x/sub/deep": _DIRECTORY,
        "x/sub/deep/five.md": "f 644 0:0 '5\\n'"}),
)  # fmt: skip
