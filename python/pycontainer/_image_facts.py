"""What an image of layers says of itself: its documents, read when somebody asks. No store and no registry is asked."""

from __future__ import annotations

from pycontainer import _image_config as config_of
from pycontainer._text import TYPE_CHECKING
from pycontainer._types import Frozen, FrozenMap

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Facts(Frozen):
    """The attributes of Image that come from its manifest and config; empty of what is no image of layers."""

    __slots__ = ("_config", "_manifest", "_search", "_size")
    _manifest: bytes
    _config: bytes
    _size: int
    # Where its programs are, where no config says it.
    _search: tuple[bytes, ...]

    @property
    def id(self) -> str | None:
        """The digest of its config, as docker's image id."""
        return str(config_of.document(self._manifest)["config"]["digest"]) if self._manifest else None

    @property
    def config(self) -> Mapping[str, Any]:
        """What its config says of its containers."""
        return FrozenMap(self._document().get("config") or {})

    @property
    def history(self) -> tuple[Mapping[str, Any], ...]:
        """How it was made, the first instruction first."""
        return tuple(FrozenMap(entry) for entry in self._document().get("history") or ())

    @property
    def layers(self) -> tuple[str, ...]:
        """The digests of its layers' tars, the lowest first."""
        return tuple((self._document().get("rootfs") or {}).get("diff_ids") or ())

    @property
    def size(self) -> int:
        """Bytes of all its blobs."""
        return self._size

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        return FrozenMap(config_of.labels(self._document()))

    @property
    def platform(self) -> str | None:
        """os/architecture[/variant]."""
        whole = self._document()
        parts = [whole.get(name) for name in ("os", "architecture", "variant")]
        return "/".join(str(part) for part in parts if part) or None

    def _document(self) -> dict[str, Any]:
        return config_of.document(self._config) if self._config else {}

    @property
    def _says(self) -> config_of.Says:
        """What its containers start with. ImageError where its config says what no container can have."""
        return config_of.says(self._config) if self._config else config_of.nothing(self._search)
