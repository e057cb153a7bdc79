"""A build: stages in threads of its own, joined before it returns; the thread that called delivers the events.

A stage waits for what it takes from others, no sooner than it takes it. The first failure ends all.
"""

from __future__ import annotations

import queue
import threading
from contextlib import suppress

from pycontainer import _stored as stored
from pycontainer._build import cache
from pycontainer._build.bases import Bases
from pycontainer._build.draft import MANIFEST
from pycontainer._build.events import event, told
from pycontainer._build.request import Request
from pycontainer._build.running import Runs
from pycontainer._build.stage import Cancelled, StageBuild
from pycontainer._build.stages import make_plan
from pycontainer._native import core
from pycontainer._progress import Follower
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pycontainer._build.stages import Plan

# Stages at one time; the others begin as these end. Each needs earlier ones only, so that no one waits for ever.
_AT_ONCE = 16
_WAITING = 4096  # events that nobody has taken yet: who makes more waits


class Handle:
    """By which another thread ends a build: it raises Cancelled then."""

    def __init__(self) -> None:
        self.over = False
        self.build: Build | None = None

    def cancel(self) -> None:
        """End it soon."""
        self.over = True
        if self.build is not None:
            self.build.wake()

    def check(self) -> None:
        """Raise Cancelled where somebody has."""
        if self.over:
            raise Cancelled

    def watched(self, progress: Callable[[Any], object] | None) -> Callable[[Any], object]:
        """Return what is called with events, and ends the build."""

        def tell(event: Any) -> None:
            self.check()
            if progress is not None and event is not None:
                progress(event)

        return tell


def build(given: Mapping[str, Any], handle: Handle | None = None) -> tuple[Any, ...]:
    """Build an image; its row in the store. `given`: the arguments of Image.build."""
    request = Request(given)
    with told(given["progress"]) as progress, stored.held():
        if handle is not None:
            progress = handle.watched(progress)
        return _build(request, progress, handle)


def _build(
    request: Request, progress: Callable[[Any], object] | None, handle: Handle | None
) -> tuple[Any, ...]:
    platform = core().platform_parse(None)
    plan = make_plan(request.document, target=request.target, build_args=request.args, build_platform=platform)
    if progress is not None:
        for text, line in _warnings(plan):
            progress(event("warning", text, line=line))
    watch = None if progress is None else Follower(progress, None if handle is None else handle.check)
    bases = Bases(platform, watch)
    plan = bases.gather(plan)
    work = Build(request, plan, bases, platform, progress)
    if handle is not None:
        handle.build = work
    draft = work.run().draft
    config, manifest = draft.documents()
    store = stored.store()
    core().document_put(store, config)
    digest = core().document_put(store, manifest)
    if request.tag is not None:
        stored.tag(digest, request.tag)
    else:
        cache.keep_image(digest, len(manifest), MANIFEST)
    return (request.tag, *stored.opened(digest)[1:])


def _warnings(plan: Plan) -> list[tuple[str, int]]:
    found = [(notice.text, notice.line) for notice in plan.document.notices]
    unused = plan.unused()
    if unused:
        found.append((f"one or more build args were not consumed: {', '.join(unused)}", 0))
    return found


class Build:
    """One that goes on.

    Attributes:
        request: what was asked.
        plan: with the triggers of all bases.
        bases: the images that it stands on.
        platform: this machine's.
        runs: the containers of it that run now.
    """

    def __init__(
        self, request: Request, plan: Plan, bases: Bases, platform: str, progress: Callable[[Any], object] | None
    ) -> None:
        self.request, self.plan, self.bases, self.platform = request, plan, bases, platform
        self.runs = Runs()
        self._progress = progress
        self._events: queue.Queue[Any] = queue.Queue(_WAITING)
        self._over = threading.Event()
        self._stages = {index: StageBuild(self, plan.stages[index]) for index in plan.needed()}

    # What stages ask for, from their threads.

    def check(self) -> None:
        """Raise Cancelled where the build is over."""
        if self._over.is_set():
            raise Cancelled

    def wait_for(self, index: int) -> StageBuild:
        """Return a stage that is done.

        Raises:
            Cancelled: it has failed.
        """
        found = self._stages[index]
        found.ended.wait()
        if not found.ok:
            raise Cancelled
        return found

    def tell(self, what: object) -> None:
        """Pass an event on; nothing waits for long where nobody takes them."""
        while self._progress is not None and not self._over.is_set():
            try:
                return self._events.put(what, timeout=0.1)
            except queue.Full:
                continue

    def wake(self) -> None:
        """Let the thread that called look up, from any other."""
        with suppress(queue.Full):  # it has enough to look at
            self._events.put_nowait(None)

    # The thread that called.

    def run(self) -> StageBuild:
        """Build all that is needed; the stage that is wanted.

        Raises:
            BuildError: of the stage that failed first.
        """
        waiting = list(self._stages.values())
        threads: list[threading.Thread] = []
        failures: list[BaseException] = []
        alive = 0
        try:
            while waiting or alive:
                while waiting and alive < _AT_ONCE and not failures:
                    threads.append(self._start(waiting.pop(0)))
                    alive += 1
                what = self._events.get()
                if isinstance(what, _Ended):
                    alive -= 1
                    if what.error is not None:
                        failures.append(what.error)
                        self._end()
                        waiting.clear()
                elif self._progress is not None and not self._over.is_set():
                    self._progress(what)
        finally:
            self._end()
            self._join(threads, failures)
        if failures:
            raise failures[0]
        return self._stages[self.plan.target]

    def _start(self, stage: StageBuild) -> threading.Thread:
        thread = threading.Thread(target=self._thread, args=(stage,), name=f"build {stage.stage.label()}", daemon=True)
        thread.start()
        return thread

    def _thread(self, stage: StageBuild) -> None:
        error: BaseException | None = None
        try:
            stage.carry_out()
        except Cancelled:
            pass
        except BaseException as caught:  # of whatever kind, it is the caller's
            error = caught
        finally:
            stage.ended.set()
            self._events.put(_Ended(error))

    def _end(self) -> None:
        self._over.set()
        self.runs.kill()
        for stage in self._stages.values():
            if not stage.ok:
                stage.ended.set()

    def _join(self, threads: list[threading.Thread], failures: list[BaseException]) -> None:
        while any(thread.is_alive() for thread in threads):
            try:
                what = self._events.get(timeout=0.01)
            except queue.Empty:
                continue
            if isinstance(what, _Ended) and what.error is not None:
                failures.append(what.error)
        for thread in threads:
            thread.join()


class _Ended:
    """A stage has ended, well where there is no error."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error
