"""One stage of a build: its instructions, one after the other, from its base to what the next stage or the image is made of."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime

from pycontainer._build import cache, instructions as made
from pycontainer._build.commands import SCRIPTS, join_workdir, run_command
from pycontainer._build.copies import Copying, files_of, make_directory
from pycontainer._build.draft import Draft, Layer
from pycontainer._build.events import event
from pycontainer._build.expand import at_word
from pycontainer._build.history import created_by
from pycontainer._build.metadata import change, shell_of
from pycontainer._build.mounting import Mounts
from pycontainer._build.running import Failed, StageImage, carry_out, ended
from pycontainer._build.scratch import Scratch
from pycontainer._build.source import Mistake, failure, quoted
from pycontainer._errors import BuildError, Error, NoSpaceError, NotSupported
from pycontainer._mounts import Mount
from pycontainer._text import TYPE_CHECKING, last_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pycontainer._build.build import Build
    from pycontainer._build.files import Files
    from pycontainer._build.instructions import Instruction
    from pycontainer._build.scope import Scope
    from pycontainer._build.stages import Stage
    from pycontainer._image import Image


class Cancelled(Exception):
    """The build is over: another stage failed, or the caller wants no more."""


class StageBuild:
    """A stage that is being built, or was.

    Attributes:
        stage: of the plan.
        draft: what it has come to.
        scope: its variables.
        ended: set when it is done, or has failed.
        ok: it is done.
    """

    def __init__(self, build: Build, stage: Stage) -> None:
        self._build, self.stage = build, stage
        self.draft: Draft
        self.scope: Scope
        self.ended = threading.Event()
        self.ok = False
        self._total = len(stage.instructions) + 1
        self._has_cmd = False
        # Of the instruction that is carried out.
        self._number, self._now = 1, stage.opening.span

    def carry_out(self) -> None:
        """Build it, in a thread of its own.

        Raises:
            BuildError: an instruction failed, or is wrong.
            Cancelled: the build is over.
        """
        self._begin()
        for number, instruction in enumerate(self.stage.instructions, 2):
            self._build.check()
            self._number, self._now = number, instruction.span
            self._say("begun", instruction.original)
            with self._at(instruction):
                self._one(instruction)
        self.ok = True

    def _begin(self) -> None:
        self._say("begun", self.stage.opening.original)
        plan, stage = self._build.plan, self.stage
        if isinstance(stage.base, int):
            base = self._build.wait_for(stage.base)
            self.draft, self.scope = base.draft.child(), plan.scope(stage.index, parent=base.scope)
        else:
            self.draft = self._build.bases.draft(stage)
            self.scope = plan.scope(stage.index, env=self.draft.variables())
        self.draft.config.pop("OnBuild", None)  # they are instructions of this stage
        self._say("done", "")

    def _say(self, kind: str, text: str) -> None:
        self._build.tell(
            event(
                kind, text, stage=self.stage.label(), number=self._number, total=self._total, line=self._now.line
            )
        )  # fmt: skip

    def _at(self, instruction: Instruction) -> _At:
        return _At(instruction, self._build.plan.document.file)

    def _one(self, written: Instruction) -> None:
        instruction = self.scope.apply(written)
        match instruction:
            case made.Run():
                self._run(instruction)
            case made.Copy() | made.Add():
                self._copy(instruction)
            case made.Workdir():
                self._workdir(instruction)
            case _:
                change(self.draft, instruction, has_cmd=self._has_cmd)
                self._has_cmd |= isinstance(instruction, made.Cmd)
                self.draft.record(created_by(instruction, shell_of(self.draft)))
                self._say("done", "")

    # Instructions that change files.

    def _run(self, run: made.Run) -> None:
        if self.draft.platform.split("/")[:2] != self._build.platform.split("/")[:2]:
            what = f"this stage is for {self.draft.platform}, and this machine runs {self._build.platform}"
            raise Mistake(what, self.stage.opening.image)
        network = self._network(run)
        command = run_command(run, shell_of(self.draft))
        draft, request = self.draft, self._build.request
        mounts = Mounts(run.mounts, draft.workdir, request.context, self._image, request.secrets, self._build.check)
        variables = self.scope.environment()
        known = self.scope.variables()
        key = cache.key_of(
            "RUN",
            below=draft.diff_ids,
            argv=list(command.argv),
            script=str(command.script.content) if command.script else None,
            env=known,
            arguments=self.scope.arguments(),
            workdir=draft.workdir,
            user=draft.config.get("User", ""),
            network=network,
            mounts=mounts.facts(),
            platform=draft.platform,
            epoch=request.epoch,
        )

        def make() -> Layer | None:
            with ExitStack() as stack:
                seen, secret = mounts.make(stack)
                if command.script is not None:
                    seen.append(self._script(command.script, stack))
                return carry_out(
                    command.argv,
                    image=StageImage.of(draft.layers, draft.env()),
                    mounts=seen,
                    runs=self._build.runs,
                    say=self._say,
                    stack=stack,
                    latest=request.epoch,
                    env={**variables, **secret},
                    cwd=draft.workdir,
                    user=draft.config.get("User") or None,
                    network=network,
                    limits=request.limits,
                )

        try:
            self._layered(key, created_by(run, shell_of(draft), arguments=self.scope.arguments()), make)
        except Failed as failed:
            raise self._failure(run, failed) from failed

    def _network(self, run: made.Run) -> str:
        allowed: str = self._build.request.network
        if run.network is None or run.network is made.Network.DEFAULT:
            return allowed
        if run.network is made.Network.HOST and allowed != "host":
            raise Mistake('RUN --network=host: this build has no network; network="host" gives it one', run.command[0])
        return str(run.network)

    @staticmethod
    def _script(script: made.InlineFile, stack: ExitStack) -> Mount:
        place = Scratch()
        stack.callback(place.close)
        file = place.file(str(script.content).encode("utf-8", "surrogateescape"), 0o755)
        return Mount.bind(file, f"{SCRIPTS}/{script.name}", read_only=True)

    def _failure(self, run: made.Run, failed: Failed) -> BuildError:
        place = (run.span.line, run.span.column)
        what = f"{ended(failed.result)}: {quoted(run.original)}"
        tail = last_lines(failed.log)
        what = f"{what}\n{tail}" if tail else what
        return failure(self._build.plan.document.file, place, what, run.original, failed.log)

    def _copy(self, copy: made.Copy | made.Add) -> None:
        request = self._build.request
        copying = Copying(copy, self.draft, self._sources(copy), network=request.network == "host")
        try:
            key = cache.key_of("COPY", **copying.facts(), epoch=request.epoch)
            self._layered(key, created_by(copy, ()), lambda: copying.make(request.epoch))
        finally:
            copying.close()

    def _sources(self, copy: made.Copy | made.Add) -> Files | None:
        """What the sources are of; None where there is no context."""
        if isinstance(copy, made.Copy) and copy.from_:
            origin = self._build.plan.origin(self.stage.index, copy.from_)
            if isinstance(origin, int):
                return files_of(self._build.wait_for(origin).draft.layers)
            return files_of(self._build.bases.layers(origin) if origin is not None else [])
        context = self._build.request.context
        return None if context is None else context.files()

    def _workdir(self, workdir: made.Workdir) -> None:
        draft, epoch = self.draft, self._build.request.epoch
        path = join_workdir(draft.workdir, workdir.path)
        draft.config["WorkingDir"] = path
        says = created_by(workdir, (), workdir=path)
        key = cache.key_of(
            "WORKDIR", below=draft.diff_ids, path=path, user=draft.config.get("User", ""), epoch=epoch
        )  # fmt: skip
        self._layered(key, says, lambda: make_directory(draft, path, epoch))

    def _image(self, name: Any) -> tuple[Image, list[str]] | None:
        """The files of what from= names, and what identifies them; None for nothing."""
        origin = self._build.plan.origin(self.stage.index, name)
        if origin is None:
            return None
        if isinstance(origin, int):
            draft = self._build.wait_for(origin).draft
            return StageImage.of(draft.layers), draft.diff_ids
        image = self._build.bases.image(origin)
        return image, list(image.layers)

    def _layered(self, key: str, says: str, make: Callable[[], Layer | None]) -> None:
        """Take the layer of a step that was carried out before, by whatever process, or carry it out."""
        request = self._build.request
        if request.cache:
            found = cache.read(key)
            if found is None:
                with cache.alone(key, self._build.check):
                    found = cache.read(key)
                    if found is None:
                        return self._fresh(key, says, make)
            self.draft.record(says, *found)
            self._say("cached", "")
            return None
        return self._fresh(key, says, make)

    def _fresh(self, key: str, says: str, make: Callable[[], Layer | None]) -> None:
        layer = make()
        created = self._clock()
        cache.write(key, layer, created)
        self.draft.record(says, layer, created)
        self._say("done", "")

    def _clock(self) -> str:
        epoch = self._build.request.epoch
        moment = datetime.fromtimestamp(time.time() if epoch is None else epoch, UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class _At:
    """Gives what goes wrong in an instruction its place."""

    def __init__(self, instruction: Instruction, file: str) -> None:
        self._instruction, self._file = instruction, file

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None or isinstance(error, (BuildError, Cancelled)) or not isinstance(error, Exception):
            return
        if isinstance(error, Mistake):
            raise at_word(error, self._instruction, self._file) from None
        span, step = self._instruction.span, self._instruction.original
        if isinstance(error, (NoSpaceError, NotSupported)):
            error.add_note(f"{self._file}:{span.line}: {step}")
        elif isinstance(error, (Error, ValueError, TypeError, OSError)):
            raise failure(self._file, (span.line, span.column), str(error), step) from error
