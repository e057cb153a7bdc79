"""The native module: plain values in, plain values and this package's exceptions out. Only `pycontainer._native` loads it.

Everything that can block releases the GIL. No function takes a Python callable.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, Final, final

__all__ = [
    "Container", "ContainerLog", "Exec", "Held", "Outcome", "TEST_SEAMS", "Tree", "archives_drop", "cache_remove",
    "cache_size", "can_own", "causes", "container_commit", "container_export", "container_freeze", "container_layer",
    "container_oom", "container_pressure", "container_stats", "container_update", "copy_in", "copy_out", "diff",
    "disk_bound", "document_put", "find", "fork_after_child", "fork_after_parent", "fork_before", "give_owner",
    "group_support", "image_all", "image_collect", "image_file", "image_find", "image_in_use", "image_layers",
    "image_load", "image_open", "image_paths", "image_pull", "image_push", "image_save", "image_tag", "image_untag",
    "image_verify", "keeper_lives", "keeper_pid", "launch", "launch_copied", "layer_copy", "layer_directories",
    "layer_directory", "layers_left_out", "platform_parse", "probe_host", "read_bytes", "reference_parse", "registry_catalog",
    "registry_home", "registry_place", "registry_tags", "run", "seccomp_compile", "seccomp_program",
    "set_packaged_keeper", "start", "step_forget", "step_lock", "step_read", "step_write", "storage", "store_hold",
    "store_root", "take_notices", "unpack_archive", "unpack_layer_files", "write_bytes",
]

TEST_SEAMS: Final[bool]
"""Built with the feature `test-seams`: the environment variable PYCONTAINER_SEAM leaves steps out."""

@final
class Outcome:
    """What a run came to. Made by `run`; frozen."""

    @property
    def returncode(self) -> int:
        """The exit status; a killing signal is negative."""
    @property
    def reason(self) -> str:
        """The value of a `pycontainer.Reason`."""
    @property
    def truncated(self) -> tuple[bool, bool]:
        """Whether something of stdout and stderr was dropped."""
    def take_output(self) -> tuple[bytes, bytes] | None:
        """Return what was captured of stdout and stderr, empty where it was not; None the second time."""
    def usage(self) -> dict[str, Any]:
        """Return the fields of `Usage`: seconds and bytes, None for what this kernel did not tell."""
    def evidence(self) -> dict[str, Any]:
        """Return what the kernel said after exec: the text of status, uid_map and cgroup, namespace inodes, flags."""
    def held(self) -> list[tuple[str, str, str, str, str]]:
        """Return rows (name, state, by, why, fix) of the limits that control groups hold."""
    def overhead(self) -> tuple[int, int]:
        """Return the nanoseconds of the call before the command started, and after it ended."""

@final
class Container:
    """A container that runs beside its caller. Any thread may use it; a forked copy of this process gets StateError."""

    def go(self) -> None:
        """Let the command go of one that was started with `hold`; `runs` tells what became of it."""
    def begin(self) -> None:
        """Do the same, and come back when it runs. Signals of the main thread are served."""
    def runs(self) -> bool:
        """Tell whether its command runs, or has run, or waits for `go`. Waits for nothing; raises what its start failed with."""
    def command(self) -> tuple[int, int]:
        """Return the command's pid as this process sees it, and its pidfd, which stays this object's; 0 and -1: unknown."""
    def has_layer_on_disk(self) -> bool:
        """Tell whether it has a writable layer whose removal may take long."""
    def shed(self) -> None:
        """Remove the writable layer of one that has ended."""
    def take_pipes(self) -> tuple[int, int, int]:
        """Return our ends of stdin, stdout and stderr, for the caller to close; -1 where there is none, and the second time."""
    def terminal(self) -> int:
        """Return a descriptor of its terminal's outer end, for the caller to close; -1 where there is none."""
    def poll(self) -> bool:
        """Tell whether it has ended. Waits for nothing."""
    def nudge(self) -> None:
        """Wake a keeper that was stopped and owes an end.

        Raises:
            SetupError: what was killed does not die.
        """
    def wait(self, timeout: float | None) -> bool:
        """Wait for its end; False where `timeout` seconds passed first. Signals of the main thread are served."""
    def outcome(self) -> Outcome | None:
        """Return what it came to, without output; None while it runs."""
    def so_far(self) -> Outcome | None:
        """Return what is known of it while it runs: evidence and what groups hold; None once it has ended."""
    def signal(self, number: int) -> bool:
        """Send a signal to the command; False where it has ended."""
    def kill(self, cause: str) -> None:
        """End all of it: "killed", "stopped", "timeout" or "output". Does not wait."""
    def close(self) -> None:
        """End it, wait for that, and remove what is left of it."""
    def fileno(self) -> int:
        """Return a descriptor that is readable when there may be news; it stays this object's. -1 of one that was closed."""
    def log(self) -> ContainerLog | None:
        """Return its log; None where nothing is logged, or it was forgotten."""
    def forget_log(self) -> None:
        """Let the log go."""
    def listen(self) -> int:
        """Return a socket, for the caller to close, that gets a byte for what is logged and ends with the container."""
    def ports(self) -> list[int]:
        """Return the numbers of the published ports on this machine, in the order of the plan."""
    def socket(self, family: int, milliseconds: int) -> int:
        """Return a stream socket of its network namespace, for the caller to close; -1 where the time passed first.

        Args:
            family: AF_INET or AF_INET6.
        """
    def address(self) -> tuple[str, int, bytes] | None:
        """Return where others find it: its keeper's directory, its number there, and what their commands have to know.

        None where there is no place for that.
        """
    def popen(self, spec: object) -> Exec:
        """Start a command beside the first one; come back when it runs. `spec` is a `pycontainer._beside.BesideSpec`."""
    def launch(self, spec: object) -> Exec:
        """Send a command on its way; `Exec.runs` tells what became of it."""
    def exec(self, spec: object) -> dict[str, Any]:
        """Run a command beside the first one to its end: the numbers of `Exec.wait`, stdout, stderr and truncated."""

@final
class Foreign:
    """A container of another process of this user: what `Container` can do, less what its owner alone can. Ends nothing."""

    def attach(self) -> None:
        """Make the connection to its keeper, which the first question makes otherwise: then its end is not missed."""
    def command(self) -> tuple[int, int]:
        """Return as Container.command; the pidfd may be that of PID 1."""
    def take_pipes(self) -> tuple[int, int, int]:
        """Return -1 for each: they are the owner's."""
    def terminal(self) -> int:
        """Return -1: it is the owner's."""
    def ports(self) -> list[int]:
        """Return the numbers that were given."""
    def socket(self, family: int, milliseconds: int) -> int:
        """Return as Container.socket."""
    def poll(self) -> bool:
        """Return as Container.poll."""
    def wait(self, timeout: float | None) -> bool:
        """Return as Container.wait."""
    def outcome(self) -> Outcome | None:
        """Return as Container.outcome, without what control groups counted. StateError where nobody looked while it ended."""
    def so_far(self) -> Outcome | None:
        """Return as Container.so_far."""
    def signal(self, number: int) -> bool:
        """Return as Container.signal."""
    def kill(self, cause: str) -> None:
        """End all of it, as Container.kill."""
    def close(self) -> None:
        """Let it go; it runs on."""
    def fileno(self) -> int:
        """Return as Container.fileno."""
    def log(self) -> ContainerLog | None:
        """Return as Container.log."""
    def forget_log(self) -> None:
        """Let the log go."""
    def listen(self) -> int:
        """Return as Container.listen."""
    def popen(self, spec: object) -> Exec:
        """Return as Container.popen."""
    def launch(self, spec: object) -> Exec:
        """Return as Container.launch."""
    def exec(self, spec: object) -> dict[str, Any]:
        """Return as Container.exec."""

@final
class ContainerLog:
    """What a container has printed and is kept, also after it was closed."""

    def read(self, stream: int, start: int, most: int) -> tuple[bytes, int, int, int, bool]:
        """Read a stream (0: stdout) from a position on.

        Returns:
            At most `most` bytes, where the next look begins, how many bytes before them are lost, how many were dropped
            beyond the limit, and whether nothing more will come.
        """

@final
class Exec:
    """A command beside the first one of a container."""

    def runs(self) -> bool:
        """Tell whether it runs, or has run. Raises what its start failed with."""
    def command(self) -> tuple[int, int]:
        """Return its pid as this process sees it, and its pidfd, which stays this object's; 0 and -1: unknown."""
    def take_pipes(self) -> tuple[int, int, int]:
        """Return our ends of stdin, stdout and stderr, for the caller to close; -1 where there is none, and the second time."""
    def terminal(self) -> int:
        """Return a descriptor of its terminal's outer end, for the caller to close; -1 where there is none."""
    def poll(self) -> dict[str, Any] | None:
        """Return how it ended; None while it runs."""
    def wait(self, timeout: float | None) -> dict[str, Any] | None:
        """Wait for its end: returncode, reason, lost, wall, cpu_user, cpu_system, memory_peak; None: the time passed."""
    def log(self) -> ContainerLog | None:
        """Return what it has printed; None where that is not kept. Waits a moment for what it wrote before its end."""
    def listen(self) -> int:
        """Return a socket for the caller: a byte when something was written to the log, its end with the streams'."""
    def is_gone(self) -> bool:
        """Tell whether nothing is left of what came of it, after `kill`."""
    def wait_gone(self, timeout: float) -> bool:
        """Wait for that; False where `timeout` seconds passed first."""
    def signal(self, number: int) -> bool:
        """Send it a signal; False where it has ended."""
    def kill(self, cause: str) -> None:
        """End it and all that came of it: "killed", "stopped", "timeout" or "output". Does not wait."""
    def fileno(self) -> int:
        """Return a descriptor that is readable when there may be news; it stays this object's."""

def start(spec: object) -> Container:
    """Start a container; come back when its command runs. Signals of the main thread are served.

    Args:
        spec: a `pycontainer._spec.Spec` with `handle`.

    Raises:
        As `run`.
    """

def launch(spec: object) -> Container | None:
    """Send a container on its way; `Container.runs` tells what became of it. None where its image had to be copied first."""

def launch_copied(spec: object, events: Callable[[str, str, int, int], object]) -> Container:
    """Copy its image, and then do the same. `events` is called now and then, and ends it by what it raises."""

def run(spec: object) -> Outcome:
    """Run one container to its end. Signals of the main thread are served meanwhile.

    Args:
        spec: a `pycontainer._spec.Spec`, whose attributes are read once.

    Raises:
        SetupError, CommandNotFound, CommandNotExecutable: it could not be started.
        NotSupported: this machine cannot hold what was asked.
        ValueError: what only this machine can refuse, such as a descriptor that is not open.
        KeyboardInterrupt, or what a signal handler raised: the container was killed and removed before.
    """

def keeper_pid() -> tuple[int, int] | None:
    """Return (pid, start time in clock ticks) of this interpreter's keeper; None where none runs."""

def take_notices() -> tuple[int, int | None, int, int] | None:
    """Return what this interpreter's engine did without being asked, once; None where there is nothing to tell.

    Returns:
        The keeper's pid, that of a keeper that died and that it stands in for, and how many groups and writable layers of
        keepers that are gone were removed.
    """

def find(keeper: str, number: int, spec: object, basis: bytes, ports: list[int]) -> Foreign:
    """Return a handle on a container of another process. Asks nobody yet.

    Args:
        keeper: the directory of its keeper.
        number: as its keeper knows it.
        spec: what it was started with; a `pycontainer._spec.Spec`.
        basis: what its own process's `Container.address` gave.
        ports: the numbers of its published ports on this machine.
    """

def registry_place() -> str:
    """Return the directory of all keepers of this user, whether or not it is there."""

def registry_home() -> str | None:
    """Return the directory of this process's keeper, which is started where there is none; None where it cannot have one."""

def keeper_lives(name: str) -> bool:
    """Tell whether the keeper lives that has a directory of this name; what a dead one left there is removed."""

def set_packaged_keeper(path: str | os.PathLike[str]) -> None:
    """Say where the wheel's copy of the keeper lies, for machines that forbid executable memfds."""

def fork_before() -> None:
    """Wait until no start has a container's ends of its pipes open, and keep new ones out. For os.register_at_fork."""

def fork_after_parent() -> None:
    """Let starts go on."""

def fork_after_child() -> None:
    """Forget the parent's containers, and close what belongs to them."""

def group_support() -> list[tuple[str, str, str, str, str]]:
    """Return rows (name, state, by, why, fix) of what control groups can hold here, tried for real."""

def probe_host() -> dict[str, Any]:
    """Return the answers of the kernel that need no container; `pycontainer._doctor` makes rows of them."""

def storage() -> tuple[str, str, tuple[int, int], str | None, bool, str] | None:
    """Return (path of the store, kind of its file system, bytes, driver or None, shifted, why); None without an engine.

    The bytes are those of images, and of caches of builds. Shifted: an overlay's layers are copied once for each range.
    """

def disk_bound() -> tuple[str | None, str, str]:
    """Return (what would bound a writable layer on the disk, why nothing would, the cure), tried for real."""

def causes() -> list[tuple[str, str, str]]:
    """Return (name, why, fix) of every cause that an error of the native side can name."""

def container_stats(container: Any) -> tuple[Any, ...]:
    """Return what a live container uses now; `pycontainer._stats` makes a Stats of it. None is what the kernel does not tell.

    Returns:
        CPU seconds, (bytes of memory, their peak), (anonymous, of files, shared, of the kernel), tasks, (bytes read,
        written), OOM kills, stalled seconds (cpu some, memory some, memory full, io some, io full).
    """

def container_freeze(container: Any, stop: bool) -> None:
    """Stop every task of a live container, and come back when all stand still; or let them go on."""

def container_update(container: Any, limits: Any) -> None:
    """Give a live container other limits: all of them, or none. `limits` has the attributes of a Spec that are limits."""

def container_oom(container: Any) -> tuple[int, int, int] | None:
    """Return what tells of the OOM killer: what to poll for, a descriptor, and the one whose text has the counter `oom_kill`.

    Both are the caller's; -1: the first one has it. On cgroup v1 it is ready when the killer is about to, also for a
    limit above the container. None where no group counts what it takes.
    """

def container_pressure(container: Any, resource: str, full: bool, stall: float, window: float) -> int:
    """Return a descriptor, the caller's, that has POLLPRI when tasks were stalled for so many seconds within a window."""

def image_pull(
    store: str | os.PathLike[str],
    reference: str,
    platform: str | None = None,
    auth: tuple[str, str] | str | None = None,
    events: Callable[[str, str, int, int], object] | None = None,
    patience: tuple[float, int, float] | None = None,
) -> str:
    """Ask a registry what a name is now, fetch what the store does not have, and return the manifest's digest.

    Args:
        auth: a user and a password, or a token for the registry itself; None: the user's files, when they are asked for.
        events: called in this thread with (state, digest, bytes done, bytes in all) of each blob.
        patience: seconds without a byte, attempts, seconds before the second one.

    Raises:
        ImageNotFound: the registry does not have it, or not for this platform.
        AuthError: the registry wants credentials, or others.
        RegistryError: its answer is an error, or there was none.
        DigestMismatch: content is not what its digest says.
        NoSpaceError: the store's file system is full.
    """

def image_push(
    store: str | os.PathLike[str],
    digest: str,
    reference: str,
    auth: tuple[str, str] | str | None = None,
    events: Callable[[str, str, int, int], object] | None = None,
    chunk: int | None = None,
    patience: tuple[float, int, float] | None = None,
) -> tuple[str, int, int, int]:
    """Send the image of a manifest's digest, and return (digest there, blobs sent, mounted, there already).

    Where it was chosen from an index all of which is in the store, the index is sent.

    Args:
        chunk: bytes of one piece of a blob; None: a blob is sent in one.
    """

def registry_catalog(
    host: str, auth: tuple[str, str] | str | None = None, patience: tuple[float, int, float] | None = None
) -> list[str]:
    """Return the repositories of a registry ("host" or "host:port"), where it tells them."""

def registry_tags(
    name: str, auth: tuple[str, str] | str | None = None, patience: tuple[float, int, float] | None = None
) -> list[str]:
    """Return the tags of a repository, in the registry's order."""

@final
class Tree:
    """Files that COPY and ADD take: a directory of the host, or the union of layers. Opened once; every path is beneath its root.

    A path is relative to the root, whether or not it begins with a slash. Links in it, the last name too, lead where they would
    lead if the root were /: never out of it.
    """

    @staticmethod
    def context(path: str | os.PathLike[str]) -> Tree:
        """Open a directory of the host. What is taken from it belongs to root. Raises SetupError."""
    @staticmethod
    def layers(roots: Sequence[str | os.PathLike[str]]) -> Tree:
        """Open what `image_layers` gave, the lowest first; [] is a union with nothing in it. Nobody removes them meanwhile."""
    def paths(self, path: bytes) -> list[tuple[bytes, str, int]]:
        """Return everything beneath a directory, sorted, each before what is in it; [] where there is no such directory.

        Returns:
            Rows (path relative to the directory, what it is: d f l p s c b, permission bits).
        """
    def kind(self, path: bytes) -> str | None:
        """Return what is at a path, links followed: d f p s c b; None where nothing is."""
    def real(self, path: bytes) -> bytes | None:
        """Return where a path leads, relative to the root and without links; None where nothing is."""
    def read(self, path: bytes, most: int) -> bytes | None:
        """Return the content of a regular file; None where nothing is at the path.

        Raises:
            ValueError: it has more than `most` bytes.
            SetupError: it is no regular file, or cannot be read.
        """
    def digest(self, sources: Sequence[tuple[bytes, Sequence[bytes] | None]]) -> str:
        """Return the SHA-256 of what the sources are: names, kinds, modes, links, contents, of layers owners; no times.

        Args:
            sources: (path, what of it is taken), as in `layer_copy`.

        Raises:
            SetupError: a source is not there, or cannot be read.
            LayerError: a file changed while it was read.
        """

def layer_copy(
    store: str | os.PathLike[str],
    below: Tree,
    sources: Sequence[
        tuple[Tree, bytes, Sequence[bytes] | None, bool] | tuple[bytes, bytes | int, int, int | None, bool]
    ],
    destination: bytes,
    *,
    directory: bool,
    owner: str | None = None,
    chmod: str | None = None,
    link: bool = False,
    made: int = 0,
    latest: int | None = None,
) -> tuple[str, int, str, str] | None:
    """Make the layer of COPY or ADD. The same input makes the same layer.

    Args:
        store: the store's directory.
        below: the layers that it will lie on, by `Tree.layers`. They decide where the destination's links lead.
        sources: what is copied, in order; patterns have been applied. Either (tree, path, taken, unpack): a file, or the content
            of a directory. `taken` lists paths relative to that directory; the directories on their way come too, but nothing
            else that is in them; None is all of it. Or (name, content, mode, mtime or None, unpack): one file, its content as bytes
            or as a descriptor of a regular file, which stays the caller's. `unpack`: if it is a tar (by its content; plain, gzip or
            zstd), its entries are taken.
        destination: an absolute path; a source that is a file goes into it if it is a directory.
        directory: whether it is one in any case.
        owner: "user[:group]", names or numbers. None: root, but what comes from layers keeps its own.
        chmod: octal, or as chmod(1) takes it.
        link: COPY --link: as if nothing were below.
        made: seconds since 1970; the time of what has none, as directories that are missing.
        latest: no time is after this one.

    Returns:
        (digest of the blob, its size, its media type, digest of the tar); None where nothing is changed.

    Raises:
        ValueError: `owner`, `chmod`, a name or a descriptor.
        SetupError: a source is not there, or cannot be read.
        LayerError: a socket or a device; a directory in the place of a file, or the other way; a damaged archive.
        ImageError: an unknown user or group.
        NoSpaceError: the store is full.
    """

def layer_directory(
    store: str | os.PathLike[str], below: Tree, path: bytes, *, owner: str | None = None, made: int = 0
) -> tuple[str, int, str, str] | None:
    """Make the layer of WORKDIR: a directory with those above it that are missing; None where it is there. As `layer_copy`."""

def unpack_archive(path: bytes) -> str:
    """Unpack a tar into the store, once, and return its directory.

    Raises:
        SetupError: the archive cannot be read, or the store cannot be written.
        LayerError: it is no tar, is damaged, or an entry leads out of its root.
    """

def unpack_layer_files(paths: Sequence[bytes], store: bytes) -> list[str]:
    """Take layers that are files, tars or packed ones, into the store at this path; return their directories.

    The lowest first, as they came; none that a higher one hides wholly, with an opaque mark in its root.

    Raises:
        LayerError: one is malformed, or asks for what a layer may not. It names the digest.
        SetupError: a file cannot be read, or the store cannot be written.
        NoSpaceError: the store is full.
    """

def seccomp_program(capabilities: int, deny_setid_bits: bool) -> bytes:
    """Return the default filter for these capabilities (bit n: capability n), as classic BPF instructions of 8 bytes."""

def seccomp_compile(
    default: tuple[str, int | None],
    rules: Sequence[tuple[Sequence[str], str, int | None, Sequence[tuple[int, str, int, int]]]],
) -> tuple[bytes, list[str]]:
    """Compile a profile: rules (names, action, errno, [(index, op, value, value_two)]).

    Returns:
        The filter, and the names that this architecture does not have.

    Raises:
        ValueError: an unknown action, comparison or name.
    """

def read_bytes(container: Any, path: bytes, max_size: int) -> bytes:
    """Return the content of a file in a container.

    Raises:
        ValueError: it has more than `max_size` bytes.
        SetupError: it cannot be read.
        StateError: the container is closed, or another process's.
    """

def write_bytes(container: Any, path: bytes, data: bytes, mode: int) -> None:
    """Make or replace a file in a container, in one step. Raises SetupError and StateError."""

def copy_in(container: Any, source: bytes, target: bytes) -> None:
    """Copy a file, link or tree into a container. Raises SetupError and StateError."""

def copy_out(container: Any, source: bytes, target: bytes) -> None:
    """Copy a file, link or tree out of a container. Raises SetupError and StateError."""

def container_layer(
    container: Any, store: str, latest: int | None = None, events: Any = None
) -> tuple[str, int, str, str] | None:
    """Put what a container has changed into the store: (digest of the blob, size, media type, digest of the tar), or None
    where nothing has. No time in it is after `latest`. `events` is called now
    and then as those of images are. Raises SetupError, LayerError, NoSpaceError, NotSupported and StateError.
    """

def container_commit(
    container: Any,
    store: str,
    parent: str | None,
    reference: str | None,
    changes: str,
    created: int,
    created_by: str = "",
    comment: str = "",
    latest: int | None = None,
    events: Any = None,
) -> str:
    """Make an image of a container and return the digest of its manifest: the parent's layers and one more, or, without a
    parent, its whole root. `changes` is JSON: of the config's `config`, null takes a key away. Raises as container_layer.
    """

def container_export(container: Any, path: str, latest: int | None = None, events: Any = None) -> None:
    """Write the whole root of a container to a tar. Raises SetupError, NoSpaceError and StateError."""

@final
class Held:
    """Something of the store that is held until it is released, or dropped."""

    def release(self) -> None:
        """Let go of it."""

def step_forget(store: str, seconds: float) -> None:
    """Forget the steps that no build asked for in that many seconds; their layers go with the next collection."""

def can_own(uid: int, gid: int) -> bool:
    """Return whether this user can give files to the ids that a container knows as these."""

def give_owner(directory: int, name: bytes, uid: int, gid: int) -> None:
    """Give them an entry of the directory that is open as `directory`."""

def cache_size(path: str) -> int:
    """Return how many bytes a directory takes, as far as this user may look."""

def cache_remove(path: str) -> None:
    """Remove a directory of the store, which is under its name no more when this comes back.

    Raises:
        SetupError: it cannot be set aside.
    """

def store_hold(store: str) -> Held:
    """Keep garbage from being collected. Raises SetupError and NoSpaceError."""

def step_lock(store: str, key: str) -> Held | None:
    """Take the right to carry a step of a build out; None while somebody has it. `key`: 64 hexadecimal digits.

    Raises ValueError, SetupError and NoSpaceError.
    """

def step_read(store: str, key: str) -> bytes | None:
    """Return what was kept of a step (JSON); None where nothing was, or its layer is gone. Raises as step_lock."""

def step_write(store: str, key: str, value: bytes) -> None:
    """Keep what a step came to, whole or not at all. `layer` and `diffId`, or `manifest`, in it are no garbage.

    Raises as step_lock.
    """

def document_put(store: str, document: bytes) -> str:
    """Put a config or manifest into the store and return its digest. Raises SetupError and NoSpaceError."""

def layer_directories(store: str, layers: Sequence[tuple[str, int, str, str]]) -> list[os.PathLike[str]]:
    """Return the directories of layers, each (digest, size, media type, digest of the tar), as image_layers does."""

def diff(container: Any) -> list[tuple[str, bytes]]:
    """Return ("A", "C" or "D", path) for what a container has changed, sorted by path. Raises SetupError and StateError."""

def store_root() -> str:
    """Return where the store lies."""

def reference_parse(text: str) -> tuple[str, str, str | None]:
    """Return a reference in full, as one would type it, and its digest. Raises InvalidReference."""

def platform_parse(text: str | None = None) -> str:
    """Return a platform as it is compared; None: this machine's. Raises ValueError."""

# The row of an image: (name or None, digest of the manifest, manifest, config, bytes of all its blobs).

def image_find(
    store: str, reference: str, platform: str | None = None
) -> tuple[str | None, str, bytes, bytes, int] | None:
    """Return the row of a name; None where the store has none.

    Raises:
        InvalidReference: it breaks the grammar of references.
        ImageNotFound: it has none for this platform.
        ImageError, DigestMismatch: its documents cannot be read, or are not what their digests say.
    """

def image_open(store: str, digest: str) -> tuple[str | None, str, bytes, bytes, int]:
    """Return the row of a manifest. Raises ImageNotFound, ImageError and DigestMismatch."""

def image_all(store: str) -> list[tuple[str | None, str, bytes, bytes, int]]:
    """Return the rows of all names whose image can be read."""

def image_tag(store: str, digest: str, reference: str) -> str:
    """Give an image a name, and return it in full. Raises InvalidReference and ImageNotFound."""

def image_untag(store: str, reference: str) -> bool:
    """Take a name away. False where there is none."""

def layers_left_out(roots: list[str]) -> list[str]:
    """Return the devices that unpacked layers should have and a plain user may not make: "c 1:3 dev/null"."""

def archives_drop(store: str, age: float) -> int:
    """Remove archives that were unpacked so many seconds ago, or longer, and on which nobody stands; return how many."""

def image_collect(store: str) -> tuple[int, int, int] | None:
    """Remove what no name needs: (blobs, bytes, layers). None while somebody is at work in the store."""

def image_layers(store: str, digest: str, events: Any | None = None) -> list[str]:
    """Return the directories of an image's layers, the lowest first, unpacked now where they were not.

    `events` is called with (state, what, done, total) in this thread.

    Raises:
        LayerError, DigestMismatch, ImageError, NoSpaceError, SetupError.
    """

def image_load(store: str, path: str, events: Any | None = None) -> list[tuple[list[str], str]]:
    """Load an archive or a layout: (names, digest of the manifest) of each image. `events` as of image_layers.

    Raises:
        ImageError, DigestMismatch, NoSpaceError, SetupError.
    """

def image_in_use(store: str, digest: str) -> bool:
    """Return whether a container stands on its highest layer."""

def image_save(store: str, digest: str, reference: str | None, path: str, form: str) -> None:
    """Write an image to a tar; `form`: "oci" or "docker". Raises SetupError, NoSpaceError and ImageError."""

def image_verify(store: str, digest: str) -> None:
    """Compute all digests of an image again. Raises DigestMismatch and ImageError."""

def image_file(roots: Sequence[str], path: bytes) -> int:
    """Open a regular file of a union of directories, the lowest first; the descriptor is the caller's. Raises SetupError."""

def image_paths(roots: Sequence[str]) -> list[bytes]:
    """Return all paths of a union of directories, sorted. Raises SetupError and ImageError."""

