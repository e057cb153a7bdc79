"""Registries of this test run, a store of each test's own, and a user who has no files of credentials."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry import serving


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing that this machine's user or administrator has configured plays a part."""
    place = tmp_path / "home"
    (place / ".config/containers").mkdir(parents=True)
    (tmp_path / "empty.conf").write_text("")
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place / ".config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place / "run"))
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "empty.conf"))
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return place


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return serving.authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[serving.Served]:
    with serving.registry(tmp_path_factory.mktemp("plain")) as served:
        yield served


@pytest.fixture(scope="session")
def secure(tmp_path_factory: pytest.TempPathFactory, authority: tuple[Path, Path, Path]) -> Iterator[serving.Served]:
    """TLS, and a password."""
    with serving.registry(tmp_path_factory.mktemp("secure"), tls=authority, password=True) as served:
        yield served
