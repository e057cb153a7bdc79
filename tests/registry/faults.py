"""A registry that misbehaves: one image, in memory, and one kind of fault. It remembers each request."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import socket
import ssl
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from registry.layouts import Picture, digest, picture

IDLE = 0.4  # seconds without a byte, after which the tests' pulls give a connection up
PATIENCE = (IDLE, 4, 0.01)
STALL = 3 * IDLE
NUMBERS = itertools.count()  # of uploads


@dataclass
class Seen:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Registry:
    """What it serves, what it does wrong, and what came."""

    picture: Picture
    fault: Fault | None = None
    point: int = 0  # where in a body the fault strikes
    elsewhere: str = ""  # the origin of another server
    seen: list[Seen] = field(default_factory=list)
    hits: int = 0
    uploads: dict[str, list[bytes]] = field(default_factory=dict)
    uploads_at: str = ""  # the origin of the places of uploads; "": this one
    mistakes: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    host: str = ""

    def hit(self) -> int:
        with self.lock:
            self.hits += 1
            return self.hits


# True: the answer was given.
Fault = Callable[["Handler", str], bool]


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD of the distribution protocol, by the book where no fault is due."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    @property
    def registry(self) -> Registry:
        return self.server.registry

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().handle()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def do_PATCH(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        registry = self.registry
        registry.seen.append(Seen(self.command, self.path, {key.lower(): value for key, value in self.headers.items()}))
        what = self.what()
        if registry.fault is not None and registry.fault(self, what):
            return
        self.serve(what)

    def what(self) -> str:
        """manifest, config, layer, token, upload, or other."""
        registry = self.registry
        if "/uploads/" in self.path or self.command == "PUT":
            return "upload"
        if "/manifests/" in self.path:
            return "manifest"
        if "/token" in self.path:
            return "token"
        found = re.search(r"/blobs/(sha256:[0-9a-f]{64})", self.path)
        if not found:
            return "other"
        return "layer" if found[1] in registry.picture.layers else "config"

    def body(self) -> bytes:
        name = self.path.rsplit("/", 1)[1]
        if "/manifests/" in self.path:
            return self.registry.picture.manifest
        return self.registry.picture.blobs[name]

    def serve(self, what: str) -> None:
        if what == "upload":
            self.take()
            return
        if what in ("token", "other"):
            self.answer(200, b"{}")
            return
        try:
            body = self.body()
        except KeyError:
            self.answer(404, json.dumps({"errors": [{"code": "BLOB_UNKNOWN", "message": "unknown"}]}).encode())
            return
        headers = {"Docker-Content-Digest": digest(body)}
        headers["Content-Type"] = self.registry.picture.kind if what == "manifest" else "application/octet-stream"
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if what != "manifest" and asked:
            first = int(asked[1])
            headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
            self.answer(206, body[first:], headers)
        else:
            self.answer(200, body, headers)

    def sent(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def take(self) -> None:
        """An upload: begun by POST, added to by PATCH, ended by PUT; where it is, its path says."""
        body, stored = self.sent(), self.registry.picture.blobs
        place, _, query = self.path.partition("?")
        if self.command == "POST":
            place = f"{place}{next(NUMBERS)}"
        parts = self.registry.uploads.setdefault(place, [])
        parts.append(body)
        if self.command == "PUT":
            whole = b"".join(parts)
            stored[digest(whole)] = whole
            self.answer(201)
        else:
            self.answer(202, b"", {"Location": f"{self.registry.uploads_at}{place}?{query}"})

    def answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, claim: int | None = None
    ) -> None:
        """An answer; `claim`: a Content-Length that is not true, and then the connection ends."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if claim is None else claim))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        if claim is not None:
            self.close_connection = True

    def chunked(self, *parts: bytes, end: bool = True) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Content-Type", self.registry.picture.kind)
        self.end_headers()
        for part in parts:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        if end:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True

    def reset(self) -> None:
        """End the connection with a RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def raw(self, data: bytes) -> None:
        self.wfile.write(data)
        self.close_connection = True


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    registry: Registry

    def handle_error(self, *_: object) -> None:
        """A client that goes away is what these tests are about; a mistake in here is not."""
        if not isinstance(sys.exc_info()[1], (OSError, ValueError)):
            self.registry.mistakes.append(traceback.format_exc())

    def takes(self, registry: Registry) -> Registry:
        """Serve this one from now on."""
        registry.host = f"localhost:{self.server_address[1]}"
        self.registry = registry
        return registry


@contextlib.contextmanager
def server(tls: tuple[Path, Path, Path] | None = None) -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls[1], tls[2])
        made.socket = context.wrap_socket(made.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        made.server_close()
        thread.join()
        assert not made.registry.mistakes, "".join(made.registry.mistakes)


@contextlib.contextmanager
def serving(registry: Registry, tls: tuple[Path, Path, Path] | None = None) -> Iterator[Registry]:
    with server(tls) as made:
        yield made.takes(registry)


# ---- kinds of fault ----------------------------------------------------------------------------------------------


@dataclass
class Kind:
    """A fault, and what a pull comes to: None, it succeeds; else the names of the errors that it may raise."""

    name: str
    strike: Fault
    raises: tuple[str, ...] = ()
    is_slow: bool = False
    change: Callable[[Picture], Picture] = lambda one: one


KINDS: list[Kind] = []


def kind(*raises: str, slow: bool = False, change: Callable[[Picture], Picture] = lambda one: one) -> Any:
    def add(strike: Fault) -> Fault:
        KINDS.append(Kind(strike.__name__, strike, raises, slow, change))
        return strike

    return add


def first(what: str, times: int, strike: Callable[[Handler], object]) -> Fault:
    """Strike the first requests (not HEAD) of this sort; later ones are served."""

    def fault(handler: Handler, found: str) -> bool:
        if found != what or handler.command == "HEAD" or handler.registry.hit() > times:
            return False
        strike(handler)
        return True

    return fault


def always(what: str, strike: Callable[[Handler], object]) -> Fault:
    return first(what, 1 << 30, strike)


def cut(handler: Handler) -> None:
    body = handler.body()
    handler.answer(200, body[: handler.registry.point % len(body)], claim=len(body))


def named(name: str, fault: Fault) -> Fault:
    fault.__name__ = name
    return fault


# Those that pass: the pull succeeds.
kind()(named("cut_once", first("layer", 1, cut)))
kind()(named("cut_three_times", first("layer", 3, cut)))
kind()(named("cut_config", first("config", 1, cut)))
kind()(named("cut_manifest", first("manifest", 1, cut)))
kind()(named("reset_before_the_answer", first("layer", 2, Handler.reset)))
kind()(named("closed_before_the_answer", first("manifest", 2, lambda handler: handler.raw(b""))))
kind()(named("server_error", first("layer", 2, lambda handler: handler.answer(500, b"oops"))))
kind()(named("bad_gateway", first("manifest", 1, lambda handler: handler.answer(502, b"<html>"))))
kind()(named("unavailable", first("config", 1, lambda handler: handler.answer(503, b"", {"Retry-After": "0"}))))
kind()(named("too_many", first("layer", 3, lambda handler: handler.answer(429, b"{}", {"Retry-After": "0"}))))
kind()(named("gateway_timeout", first("layer", 1, lambda handler: handler.answer(504))))
kind()(named("garbage_instead_of_http", first("layer", 2, lambda handler: handler.raw(b"\x16\x03\x01\x00\xff" * 40))))
kind()(
    named(
        "garbage_headers", first("layer", 1, lambda handler: handler.raw(b"HTTP/1.1 200 OK\r\nno colon\x00\r\n\r\nx"))
    )
)
kind()(
    named("giant_headers", first("layer", 1, lambda handler: handler.raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000)))
)
kind()(named("empty_chunked", first("layer", 1, lambda handler: handler.chunked())))
kind()(named("manifest_in_chunks", first("manifest", 1, lambda handler: handler.chunked(handler.body()))))


@kind()
def reset_in_the_body(handler: Handler, what: str) -> bool:
    if what != "layer" or handler.registry.hit() > 2:
        return False
    body = handler.body()
    handler.answer(200, body[: handler.registry.point % len(body)], claim=len(body))
    handler.wfile.flush()
    handler.reset()
    return True


@kind()
def cut_in_chunks(handler: Handler, what: str) -> bool:
    if what != "layer" or handler.registry.hit() > 2:
        return False
    body = handler.body()
    handler.chunked(body[: 1 + handler.registry.point % len(body)], end=False)
    return True


@kind(slow=True)
def stall_before_the_answer(handler: Handler, what: str) -> bool:
    if what != "layer" or handler.registry.hit() > 1:
        return False
    time.sleep(STALL)
    handler.close_connection = True
    return True


@kind(slow=True)
def stall_in_the_body(handler: Handler, what: str) -> bool:
    if what != "layer" or handler.registry.hit() > 1:
        return False
    body = handler.body()
    handler.answer(200, body[: handler.registry.point % len(body)], claim=len(body))
    handler.wfile.flush()
    time.sleep(STALL)
    return True


@kind(slow=True)
def drip_once(handler: Handler, what: str) -> bool:
    return what == "layer" and handler.registry.hit() <= 1 and drip(handler)


def drip(handler: Handler) -> bool:
    body = handler.body()
    handler.answer(200, b"", claim=len(body))
    with contextlib.suppress(OSError):
        for at in range(200):
            handler.wfile.write(body[at : at + 1])
            time.sleep(0.02)
    return True


def after_a_cut(handler: Handler, what: str) -> bool:
    """The first answer is cut; is this another one, with a range?"""
    if what != "layer":
        return False
    if "Range" in handler.headers:
        return True
    if handler.registry.hit() == 1:
        body = handler.body()
        handler.answer(200, body[: 1 + handler.registry.point % (len(body) - 1)], claim=len(body))
        handler.server.registry.seen[-1].headers["x-cut"] = "1"
    return False


def ranged(name: str, strike: Callable[[Handler], object]) -> None:
    def fault(handler: Handler, what: str) -> bool:
        if after_a_cut(handler, what):
            strike(handler)
            return True
        return "x-cut" in handler.registry.seen[-1].headers

    kind()(named(name, fault))


ranged("range_ignored", lambda handler: handler.answer(200, handler.body()))
ranged("range_refused", lambda handler: handler.answer(416))
ranged(
    "range_of_somewhere_else",
    lambda handler: handler.answer(206, handler.body()[:9], {"Content-Range": f"bytes 0-8/{len(handler.body())}"}),
)
ranged("range_of_another_size", lambda handler: handler.answer(206, b"x" * 9, {"Content-Range": "bytes 1-9/10"}))
ranged("range_without_saying", lambda handler: handler.answer(206, handler.body()))


@kind()
def wrong_until_the_cut(handler: Handler, what: str) -> bool:
    """What was fetched before a cut was never right: all of it is fetched anew."""
    if what != "layer" or handler.registry.hit() > 1:
        return False
    body = handler.body()
    half = len(body) // 2
    handler.answer(200, bytes(byte ^ 1 for byte in body[:half]), claim=len(body))
    return True


@kind()
def redirect_to_another_origin(handler: Handler, what: str) -> bool:
    if what not in ("layer", "config"):
        return False
    handler.answer(307, b"", {"Location": f"{handler.registry.elsewhere}{handler.path}"})
    return True


@kind()
def redirect_to_itself_once(handler: Handler, what: str) -> bool:
    if what != "layer" or "again" in handler.path:
        return False
    handler.answer(302, b"", {"Location": f"/v2/again/blobs/{handler.path.rsplit('/', 1)[1]}"})
    return True


# Those that stay: the pull ends with an error, and leaves nothing half done.
def wrong(handler: Handler) -> None:
    body = bytearray(handler.body())
    body[handler.registry.point % len(body)] ^= 1
    handler.answer(200, bytes(body))


kind("DigestMismatch")(named("wrong_layer", always("layer", wrong)))
kind("DigestMismatch")(named("wrong_config", always("config", wrong)))
kind("DigestMismatch")(
    named("longer_than_promised", always("layer", lambda handler: handler.answer(200, handler.body() + b"x")))
)
kind("DigestMismatch")(
    named("shorter_than_promised", always("layer", lambda handler: handler.answer(200, handler.body()[:-1])))
)
kind("DigestMismatch")(
    named("longer_in_chunks", always("layer", lambda handler: handler.chunked(handler.body(), b"more")))
)
kind("RegistryError")(named("empty_for_ever", always("layer", lambda handler: handler.chunked())))
kind("RegistryError")(named("error_for_ever", always("layer", lambda handler: handler.answer(500))))
kind("RegistryError")(
    named("wait_an_hour", always("layer", lambda handler: handler.answer(429, b"", {"Retry-After": "3600"})))
)
kind("RegistryError")(named("reset_for_ever", always("layer", Handler.reset)))
kind("RegistryError")(named("no_such_blob", always("layer", lambda handler: handler.answer(404, b"{}"))))
kind("ImageNotFound")(named("no_such_manifest", always("manifest", lambda handler: handler.answer(404, b"{}"))))
kind("RegistryError")(named("teapot", always("layer", lambda handler: handler.answer(418, b"short and stout"))))
kind("AuthError")(named("forbidden", always("layer", lambda handler: handler.answer(403, b""))))
kind("RegistryError")(
    named("encoded", always("layer", lambda handler: handler.answer(200, handler.body(), {"Content-Encoding": "gzip"})))
)
kind("RegistryError", slow=True)(named("drip_for_ever", always("layer", drip)))
kind("RegistryError")(
    named("redirect_loop", always("layer", lambda handler: handler.answer(307, b"", {"Location": handler.path})))
)
for number, target in enumerate(
    ["", "file:///etc/passwd", "ftp://localhost/x", "http://user:secret@localhost/x", "gopher:x", "http://localhost:x/"]
):
    kind("RegistryError")(
        named(
            f"redirect_to_nowhere_{number}",
            always("layer", lambda handler, target=target: handler.answer(302, b"", {"Location": target})),
        )
    )
kind("RegistryError")(named("redirect_without_a_place", always("layer", lambda handler: handler.answer(302))))
kind("RegistryError")(
    named("huge_manifest", always("manifest", lambda handler: handler.answer(200, b"{", claim=1 << 30)))
)


@kind("RegistryError")
def endless_manifest(handler: Handler, what: str) -> bool:
    if what != "manifest" or handler.command == "HEAD":
        return False
    with contextlib.suppress(OSError):
        handler.chunked(*[b" " * 65536] * 80, end=False)
    return True


kind("DigestMismatch")(
    named(
        "digest_of_another_manifest",
        always(
            "manifest", lambda handler: handler.answer(200, handler.body(), {"Docker-Content-Digest": digest(b"x")})
        ),
    )
)
kind("DigestMismatch")(
    named("another_manifest", always("manifest", lambda handler: handler.answer(200, picture(99).manifest)))
)
kind("RegistryError", "ImageError")(
    named(
        "digest_that_is_none",
        lambda handler, what: (
            what == "manifest" and not handler.answer(200, b"", {"Docker-Content-Digest": "sha256:../../x"})
        ),
    )
)


def edited(**changes: Any) -> Callable[[Picture], Picture]:
    """Another manifest, whose digest is right."""

    def change(one: Picture) -> Picture:
        whole = json.loads(one.manifest) | changes
        return Picture(json.dumps(whole).encode(), one.kind, one.blobs, one.layers)

    return change


def served_as(media_type: str) -> Callable[[Picture], Picture]:
    return lambda one: Picture(one.manifest, media_type, one.blobs, one.layers)


kind("ImageError", change=edited(manifests=[]))(named("manifest_and_index", lambda handler, what: False))
kind("ImageError", change=served_as("application/vnd.oci.image.index.v1+json"))(
    named("manifest_called_an_index", lambda handler, what: False)
)
kind("ImageError", change=edited(schemaVersion=1))(named("old_schema", lambda handler, what: False))
kind("ImageError", change=edited(layers=[{"digest": "sha256:../../x", "size": 1}]))(
    named("layer_with_a_path", lambda handler, what: False)
)
kind("ImageError", change=lambda one: Picture(b"{" * 5000, one.kind))(
    named("manifest_that_is_none", lambda handler, what: False)
)


# ---- authorization -----------------------------------------------------------------------------------------------


def challenged(challenge: str, token: Callable[[Handler], object], takes: str | None = None) -> Fault:
    """401 with this challenge, but for who brings `takes`; `token` answers for the token server."""

    def fault(handler: Handler, what: str) -> bool:
        if what == "token":
            token(handler)
            return True
        if takes is not None and handler.headers.get("Authorization") == takes:
            return False
        text = challenge.replace("HOST", handler.headers["Host"]).replace("ELSEWHERE", handler.registry.elsewhere)
        handler.answer(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}', {"WWW-Authenticate": text})
        return True

    return fault


BEARER = 'Bearer realm="http://HOST/token",service="here",scope="repository:a/b:pull"'


def gives(body: bytes, status: int = 200) -> Callable[[Handler], object]:
    return lambda handler: handler.answer(status, body)


kind()(named("a_token_is_asked_for", challenged(BEARER, gives(b'{"token":"t0"}'), "Bearer t0")))
kind("AuthError")(named("the_token_is_never_right", challenged(BEARER, gives(b'{"token":"t0"}'))))
kind("AuthError")(named("token_that_is_no_json", challenged(BEARER, gives(b"<html>"))))
kind("AuthError")(named("no_token", challenged(BEARER, gives(b"{}"))))
kind("AuthError", "RegistryError")(
    named("giant_token", challenged(BEARER, gives(b'{"token":"' + b"t" * 1_000_000 + b'"}')))
)
kind("AuthError")(named("long_token", challenged(BEARER, gives(b'{"token":"' + b"t" * 20_000 + b'"}'))))
kind("AuthError")(named("token_with_a_line", challenged(BEARER, gives(b'{"token":"t\\r\\nX: y"}'))))
kind("AuthError")(named("token_refused", challenged(BEARER, gives(b"", 403))))
kind("AuthError", "RegistryError")(named("token_server_is_ill", challenged(BEARER, gives(b"", 500))))
kind("AuthError")(named("token_server_elsewhere", challenged('Bearer realm="http://evil.test/token"', gives(b""))))
kind("AuthError")(named("token_server_by_its_address", challenged('Bearer realm="ELSEWHERE/token"', gives(b""))))
kind("AuthError")(named("token_server_is_a_file", challenged('Bearer realm="file:///etc/passwd"', gives(b""))))
kind("AuthError")(
    named(
        "token_server_redirects", challenged(BEARER, lambda handler: handler.answer(307, b"", {"Location": "/token"}))
    )
)
kind("AuthError")(named("no_realm", challenged("Bearer", gives(b""))))
kind("AuthError")(named("password_wanted", challenged('Basic realm="x"', gives(b""))))
kind("AuthError")(named("unknown_challenge", challenged("Negotiate", gives(b""))))
kind("AuthError")(named("garbage_challenge", challenged('Bearer realm="', gives(b""))))
kind("AuthError")(
    named("two_realms", challenged('Bearer realm="http://HOST/token",realm="http://evil.test/"', gives(b"")))
)
kind("AuthError")(named("giant_challenge", challenged('Bearer realm="' + "x" * 20_000 + '"', gives(b""))))
