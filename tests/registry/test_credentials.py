"""Who is told a password, and who is not: registries A and B, token servers, files, helpers (CVE-2020-15157,
CVE-2019-10214, CVE-2026-33540).
"""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

import pycontainer
from pycontainer import _core
from registry import faults, layouts, serving
from registry.faults import PATIENCE, Handler, Registry, challenged, gives
from registry.serving import PASSWORD, USER, Served

SECRET = "hunter2-correct-horse"
BASIC = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
WANTED = challenged('Basic realm="here"', gives(b""), BASIC)


def auth_file(path: Path, host: str, user: str = "me", password: str = SECRET) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    entry = {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}
    path.write_text(json.dumps({"auths": {host: entry}}))


def never_told(registry: Registry) -> bool:
    return all("authorization" not in seen.headers and SECRET not in seen.path for seen in registry.seen)


# ---- where credentials come from ---------------------------------------------------------------------------------


def test_a_password_is_sent_when_it_is_asked_for_and_not_before(store: Path) -> None:
    with faults.serving(Registry(layouts.picture(1), WANTED)) as registry:
        _core.image_pull(store, f"{registry.host}/a/b", None, ("me", SECRET), patience=PATIENCE)
        assert "authorization" not in registry.seen[0].headers
        assert all(seen.headers.get("authorization") == BASIC for seen in registry.seen[1:])


@pytest.mark.parametrize("place", [".config/containers/auth.json", "run/containers/auth.json", ".docker/config.json"])
def test_files_of_the_user(place: str, home: Path, store: Path) -> None:
    with faults.serving(Registry(layouts.picture(1), WANTED)) as registry:
        auth_file(home / place, registry.host)
        assert _core.image_pull(store, f"{registry.host}/a/b", patience=PATIENCE)


def test_a_named_file_is_the_only_one(home: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with faults.serving(Registry(layouts.picture(1), WANTED)) as registry:
        auth_file(home / ".docker/config.json", registry.host)
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(home / "named.json"))
        with pytest.raises(pycontainer.AuthError, match="none are known"):
            _core.image_pull(store, f"{registry.host}/a/b", patience=PATIENCE)
        auth_file(home / "named.json", f"{registry.host}/a")
        assert _core.image_pull(store, f"{registry.host}/a/b", patience=PATIENCE)


def helper(home: Path, monkeypatch: pytest.MonkeyPatch, script: str, name: str = "docker-credential-test") -> Path:
    directory = home / "bin"
    directory.mkdir(exist_ok=True)
    program = directory / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return program


def test_a_helper_is_asked_for_its_host(home: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f'read -r server; echo "$1 $server" > {home}/asked; printf \'{{"Username":"me","Secret":"{SECRET}"}}\''
    helper(home, monkeypatch, script)
    with faults.serving(Registry(layouts.picture(1), WANTED)) as registry:
        (home / ".docker").mkdir()
        config = {"credHelpers": {registry.host: "test"}, "credsStore": "none"}
        (home / ".docker/config.json").write_text(json.dumps(config))
        assert _core.image_pull(store, f"{registry.host}/a/b", patience=PATIENCE)
        assert (home / "asked").read_text() == f"get {registry.host}\n"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo credentials not found; exit 1", "none are known"),
        ("echo boom; exit 1", "cannot be read"),
        ("head -c 1000000 /dev/zero", "prints too much"),
        ("exec cat", "cannot be read"),
    ],
)
def test_a_helper_that_is_of_no_help(
    script: str, why: str, home: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper(home, monkeypatch, script)
    with faults.serving(Registry(layouts.picture(1), WANTED)) as registry:
        (home / ".docker").mkdir()
        (home / ".docker/config.json").write_text(json.dumps({"credHelpers": {registry.host: "test"}}))
        with pytest.raises(pycontainer.AuthError, match=why):
            _core.image_pull(store, f"{registry.host}/a/b", patience=PATIENCE)


@pytest.mark.parametrize("name", ["../bin/evil", "a/b", "", "x y", "missing"])
def test_a_helper_s_name_is_a_word_on_the_path(name: str, home: Path, store: Path) -> None:
    with faults.serving(Registry(layouts.picture(1), WANTED)) as registry:
        (home / ".docker").mkdir()
        (home / ".docker/config.json").write_text(json.dumps({"credHelpers": {registry.host: name}}))
        with pytest.raises(pycontainer.AuthError):
            _core.image_pull(store, f"{registry.host}/a/b", patience=PATIENCE)


@pytest.mark.parametrize("text", ['{"auths": {"x": {"auth": "' + SECRET, "[]", SECRET])
def test_a_file_that_is_none_is_named_and_not_shown(text: str, home: Path, store: Path) -> None:
    path = home / ".docker/config.json"
    path.parent.mkdir()
    path.write_text(text)
    with faults.serving(Registry(layouts.picture(1), WANTED)) as registry:
        with pytest.raises(pycontainer.AuthError) as caught:
            _core.image_pull(store, f"{registry.host}/a/b", patience=PATIENCE)
        assert SECRET not in str(caught.value)


def test_an_identity_token_goes_to_the_token_server_alone(home: Path, store: Path) -> None:
    posted = []

    def token(handler: Handler) -> None:
        posted.append(handler.rfile.read(int(handler.headers["Content-Length"])))
        handler.answer(200, b'{"access_token":"t1"}')

    fault = challenged(faults.BEARER, token, "Bearer t1")
    with faults.serving(Registry(layouts.picture(1), fault)) as registry:
        (home / ".docker").mkdir()
        config = {"auths": {registry.host: {"auth": "", "identitytoken": SECRET}}}
        (home / ".docker/config.json").write_text(json.dumps(config))
        assert _core.image_pull(store, f"{registry.host}/a/b", patience=PATIENCE)
        assert never_told(Registry(layouts.picture(1), seen=[seen for seen in registry.seen if "/token" in seen.path]))
    assert len(posted) == 1
    assert b"grant_type=refresh_token" in posted[0]
    assert SECRET.encode() in posted[0]


def test_a_token_of_the_caller_s(store: Path) -> None:
    fault = challenged(faults.BEARER, gives(b"{}"), "Bearer mine")
    with faults.serving(Registry(layouts.picture(1), fault)) as registry:
        assert _core.image_pull(store, f"{registry.host}/a/b", None, "mine", patience=PATIENCE)
        for bad in ("other", "a b", "a\r\nX: y", "x" * 20_000):
            with pytest.raises(pycontainer.AuthError) as caught:
                _core.image_pull(store, f"{registry.host}/c/d", None, bad, patience=PATIENCE)
            assert bad not in str(caught.value) or bad == "other"


# ---- and where they go (rows 68 and 69) --------------------------------------------------------------------------


def test_a_redirect_to_another_origin_takes_no_password_along(store: Path) -> None:
    picture = layouts.picture(2)

    def fault(handler: Handler, what: str) -> bool:
        return WANTED(handler, what) or faults.redirect_to_another_origin(handler, what)

    with faults.serving(Registry(picture)) as b, faults.serving(Registry(picture, fault)) as a:
        # The same machine, another port: another origin.
        a.elsewhere = f"http://{b.host}"
        assert _core.image_pull(store, f"{a.host}/a/b", None, ("me", SECRET), patience=PATIENCE)
        assert any("authorization" in seen.headers for seen in a.seen)
        assert len(b.seen) == len(picture.blobs)
        assert never_told(b)


def test_a_redirect_that_asks_for_a_password_gets_none(store: Path) -> None:
    picture = layouts.picture(2)
    with (
        faults.serving(Registry(picture, challenged('Basic realm="b"', gives(b"")))) as b,
        faults.serving(Registry(picture, faults.redirect_to_another_origin)) as a,
    ):
        a.elsewhere = f"http://{b.host}"
        with pytest.raises(pycontainer.AuthError):
            _core.image_pull(store, f"{a.host}/a/b", None, ("me", SECRET), patience=PATIENCE)
        assert b.seen
        assert never_told(b)


@pytest.mark.parametrize(
    "realm", ["http://127.0.0.1:PORT/token", "http://localhost@127.0.0.1:PORT/token", "//127.0.0.1:PORT/token"]
)
def test_a_token_server_elsewhere_is_not_asked(realm: str, store: Path) -> None:
    with faults.serving(Registry(layouts.picture(1))) as b:
        challenge = f'Bearer realm="{realm.replace("PORT", b.host.split(":")[1])}",service="s"'
        with faults.serving(Registry(layouts.picture(1), challenged(challenge, gives(b"")))) as a:
            with pytest.raises(pycontainer.AuthError, match="is not asked") as caught:
                _core.image_pull(store, f"{a.host}/a/b", None, ("me", SECRET), patience=PATIENCE)
            assert SECRET not in str(caught.value)
            assert b.seen == []


def test_control_a_token_server_on_the_same_host_is_asked(store: Path) -> None:
    """What the two tests above refuse works where it may: the password is sent to who belongs to the registry."""
    token = challenged("x", gives(b'{"token":"t"}'))
    with faults.serving(Registry(layouts.picture(1), token)) as b:
        challenge = f'Bearer realm="http://{b.host}/token",service="s"'
        fault = challenged(challenge, gives(b""), "Bearer t")
        with faults.serving(Registry(layouts.picture(1), fault)) as a:
            assert _core.image_pull(store, f"{a.host}/a/b", None, ("me", SECRET), patience=PATIENCE)
            assert [seen.headers["authorization"] for seen in b.seen] == [BASIC]
            assert {seen.headers.get("authorization") for seen in a.seen} == {None, "Bearer t"}


def test_a_registry_cannot_make_us_ask_for_more(store: Path) -> None:
    greedy = 'Bearer realm="http://HOST/token",service="s",scope="repository:a/b:pull,push,delete registry:catalog:*"'
    fault = challenged(greedy, gives(b'{"token":"t"}'), "Bearer t")
    with faults.serving(Registry(layouts.picture(1), fault)) as registry:
        assert _core.image_pull(store, f"{registry.host}/a/b", patience=PATIENCE)
        asked = [seen.path for seen in registry.seen if "/token" in seen.path]
        assert asked == ["/token?service=s&scope=repository:a/b:pull"]


def test_foreign_layers_are_fetched_from_the_registry_alone(store: Path) -> None:
    """`urls` in a manifest lead to B (CVE-2020-15157)."""
    picture = layouts.picture(3)
    with faults.serving(Registry(picture)) as b:
        whole = json.loads(picture.manifest)
        for layer in whole["layers"]:
            layer["urls"] = [f"http://{b.host}/v2/a/b/blobs/{layer['digest']}"]
        picture.manifest = json.dumps(whole).encode()
        with faults.serving(Registry(picture, faults.always("layer", lambda handler: handler.answer(404)))) as a:
            with pytest.raises(pycontainer.RegistryError):
                _core.image_pull(store, f"{a.host}/a/b", patience=PATIENCE)
            assert b.seen == []


@pytest.mark.requires("program:openssl")
def test_from_https_to_http_nothing_is_followed(authority: tuple[Path, Path, Path], home: Path, store: Path) -> None:
    picture = layouts.picture(4)
    with faults.serving(Registry(picture)) as b, faults.serving(Registry(picture), tls=authority) as a:
        a.fault, a.elsewhere = faults.redirect_to_another_origin, f"http://{b.host}"
        trust = home / ".config/containers/certs.d" / a.host
        trust.mkdir(parents=True)
        (trust / "ca.crt").write_bytes(authority[0].read_bytes())
        with pytest.raises(pycontainer.RegistryError, match="from https to http"):
            _core.image_pull(store, f"{a.host}/a/b", patience=PATIENCE)
        assert b.seen == []


# ---- the real registry, with TLS and a password ------------------------------------------------------------------


@pytest.mark.requires("program:docker-registry", "program:skopeo", "program:openssl", "program:htpasswd")
def test_tls_and_a_password(secure: Served, home: Path, tmp_path: Path, store: Path) -> None:
    picture = layouts.picture(60)
    serving.put(secure, layouts.write(tmp_path / "source", "image", picture), "secure/a:1")
    name = f"{secure.host}/secure/a:1"
    trust = home / ".config/containers/certs.d" / secure.host
    trust.mkdir(parents=True)
    assert secure.authority is not None
    (trust / "ca.crt").write_bytes(secure.authority.read_bytes())
    with pytest.raises(pycontainer.AuthError, match="give auth="):
        _core.image_pull(store, name)
    with pytest.raises(pycontainer.AuthError, match="refuses the credentials"):
        _core.image_pull(store, name, None, (USER, "wrong"))
    digest = _core.image_pull(store, name, None, (USER, PASSWORD))
    assert digest == picture.digest
    auth_file(home / ".config/containers/auth.json", secure.host, USER, PASSWORD)
    _core.image_push(store, digest, f"{secure.host}/secure/b:1")
    serving.get(secure, "secure/b:1", tmp_path / "back")
    assert _core.registry_tags(f"{secure.host}/secure/b") == ["1"]
    assert {"secure/a", "secure/b"} <= set(_core.registry_catalog(secure.host))
    for path in [*store.rglob("*"), secure.log]:
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes()
