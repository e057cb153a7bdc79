"""An image under construction: its config, history and layers, and the documents that they come to. Nothing is stored.

The config has the fields that docker's builder keeps, and as there what is empty is not said.
"""

from __future__ import annotations

import hashlib
import json
from collections import namedtuple

from pycontainer._errors import ImageError
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
# A manifest has one family of media types.
_OCI_LAYERS = {
    f"{_LAYER}{end}": f"{_LAYER}{end}" for end in ("", "+gzip", "+zstd")
} | {
    "application/vnd.docker.image.rootfs.diff.tar": _LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{_LAYER}+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": f"{_LAYER}+zstd",
}  # fmt: skip
_WHOLE = ("architecture", "author", "os", "os.features", "os.version", "variant")
_CONFIG = (
    "ArgsEscaped", "Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels", "OnBuild", "Shell",
    "StopSignal", "User", "Volumes", "WorkingDir",
)  # fmt: skip


class Layer(namedtuple("_Layer", "digest size media_type diff_id")):  # noqa: PYI024 - typing costs 2 ms
    """A layer in the store, as the native side tells it."""

    __slots__ = ()
    digest: str
    size: int
    media_type: str
    diff_id: str


class Draft:
    """An image under construction.

    Attributes:
        whole: of the config document: platform and author.
        config: its `config`, in docker's names.
        history: its entries.
        layers: the lowest first.
        created: when the last layer was made, RFC 3339; None while there is none.
    """

    def __init__(self, whole: Mapping[str, Any], config: Mapping[str, Any], layers: list[Layer]) -> None:
        self.whole = dict(whole)
        self.config = json.loads(json.dumps(dict(config)))
        self.history: list[dict[str, Any]] = []
        self.layers = layers
        self.created: str | None = None
        if not any(entry.startswith("PATH=") for entry in self.env()):
            self.set_env("PATH", SEARCH)

    @classmethod
    def from_nothing(cls, platform: str) -> Draft:
        """FROM scratch, for os/architecture[/variant]."""
        names = ("os", "architecture", "variant")
        return cls(dict(zip(names, platform.split("/"), strict=False)), {"WorkingDir": "/"}, [])

    @classmethod
    def of_image(cls, manifest: Mapping[str, Any], whole: Mapping[str, Any]) -> Draft:
        """FROM an image, of its documents, which the native side has read before.

        Raises:
            ImageError: a layer that cannot be in a manifest of ours.
        """
        config = whole.get("config") or {}
        layers = []
        for layer, diff_id in zip(manifest["layers"], whole["rootfs"].get("diff_ids") or (), strict=True):
            kind = _OCI_LAYERS.get(layer.get("mediaType"))
            if kind is None:
                raise ImageError(f"a layer of type {layer.get('mediaType')!r}")
            layers.append(Layer(layer["digest"], layer["size"], kind, diff_id))
        made = cls(
            {name: whole[name] for name in _WHOLE if whole.get(name)},
            {name: config[name] for name in _CONFIG if config.get(name)},
            layers,
        )
        made.history = [dict(entry) for entry in whole.get("history") or ()]
        made.created = whole.get("created")
        return made

    def child(self) -> Draft:
        """Of a stage that is FROM this one as it is now."""
        made = Draft(self.whole, self.config, list(self.layers))
        made.history, made.created = list(self.history), self.created
        return made

    def env(self) -> list[str]:
        """The variables, as "name=value"."""
        found: list[str] = self.config.setdefault("Env", [])
        return found

    def variables(self) -> dict[str, str]:
        """The variables by name; an entry without a = is none."""
        pairs = (entry.partition("=") for entry in self.env())
        return {name: value for name, equals, value in pairs if name and equals}

    def set_env(self, name: str, value: str) -> None:
        """Set a variable, where it stood before."""
        env = self.env()
        for number, entry in enumerate(env):
            if entry.partition("=")[0] == name:
                env[number] = f"{name}={value}"
                return
        env.append(f"{name}={value}")

    @property
    def platform(self) -> str:
        """os/architecture[/variant]."""
        return "/".join(filter(None, (self.whole.get(name) for name in ("os", "architecture", "variant"))))

    @property
    def workdir(self) -> str:
        """The WORKDIR, absolute."""
        path = self.config.get("WorkingDir") or "/"
        return path if path.startswith("/") else f"/{path}"

    @property
    def diff_ids(self) -> list[str]:
        """What identifies its files."""
        return [layer.diff_id for layer in self.layers]

    def record(self, created_by: str, layer: Layer | None = None, created: str | None = None) -> None:
        """Add an entry to the history, and the layer if the instruction has made one."""
        entry: dict[str, Any] = {"created_by": created_by}
        if layer is None:
            entry["empty_layer"] = True
        else:
            self.layers.append(layer)
            self.created = created
        if self.created is not None:
            entry = {"created": self.created, **entry}
        self.history.append(entry)

    def documents(self) -> tuple[bytes, bytes]:
        """(config, manifest): the same draft, the same bytes."""
        whole = {
            **self.whole,
            "created": self.created or "1970-01-01T00:00:00Z",
            "config": {name: value for name, value in self.config.items() if value},
            "history": self.history,
            "rootfs": {"type": "layers", "diff_ids": self.diff_ids},
        }
        config = _bytes(whole)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)},
            "layers": [
                {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size} for layer in self.layers
            ],
        }
        return config, _bytes(manifest)


def _bytes(document: Mapping[str, Any]) -> bytes:
    text = json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def digest_of(document: bytes) -> str:
    """The digest by which the store knows a document."""
    return f"sha256:{hashlib.sha256(document).hexdigest()}"
