"""A Dockerfile's stages: their bases, what each takes from which, and what a target needs.

A stage can use earlier ones only, so their order is an order to build in; a cycle is a use of a later one.
"""

from __future__ import annotations

from pycontainer._build import values
from pycontainer._build.expand import at_word, expand_word
from pycontainer._build.frozen import Value
from pycontainer._build.instructions import Arg, Copy, Document, From, Instruction, Onbuild, Run
from pycontainer._build.parse import parse_trigger
from pycontainer._build.scope import PREDEFINED, Scope, global_arguments, platform_args
from pycontainer._build.source import Mistake, Word, failure, quoted, suggestion
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TypeAlias

    # Where files come from: a stage by its number, an image by its reference, or nothing ("scratch").
    Origin: TypeAlias = int | str | None


class Stage(Value):
    """One FROM and what follows it.

    Attributes:
        index: its number, from 0.
        name: its name, in lower case, or None.
        opening: its FROM, as written.
        base: the number of an earlier stage, an image's reference, or None: from nothing.
        platform: of its FROM, expanded: os/architecture[/variant]; None is the build's.
        instructions: triggers of its base first, then its own.
        triggers: how many of them came from the base.
        needs: the numbers of the stages that it uses, its base among them.
    """

    index: int
    name: str | None
    opening: From
    base: Origin
    platform: str | None
    instructions: tuple[Instruction, ...]
    triggers: int = 0
    needs: frozenset[int] = frozenset()

    def label(self) -> str:
        """Its name, or "stage-2"."""
        return self.name or f"stage-{self.index}"


class Plan(Value):
    """What a build will do.

    Attributes:
        document: the Dockerfile.
        build_args: the arguments that the build was given.
        arguments: the values that FROM could use.
        stages: all of them.
        target: the number of the one that is wanted.
    """

    document: Document
    build_args: Mapping[str, str]
    arguments: Mapping[str, str]
    stages: tuple[Stage, ...]
    target: int

    def needed(self) -> tuple[int, ...]:
        """The stages that the target needs, itself last; each after all that it needs."""
        found = {self.target}
        for stage in reversed(self.stages[: self.target + 1]):
            if stage.index in found:
                found |= stage.needs
        return tuple(sorted(found))

    def images(self) -> dict[str, Word]:
        """The references of images that the target needs, each with the word that names it first."""
        found: dict[str, Word] = {}
        names = _names(self.stages)
        for index in self.needed():
            stage = self.stages[index]
            if isinstance(stage.base, str):
                found.setdefault(stage.base, stage.opening.image)
            for word in _origins(stage.instructions):
                origin = _origin(self.stages, names, index, word)
                if isinstance(origin, str):
                    found.setdefault(origin, word)
        return found

    def origin(self, index: int, name: Word) -> Origin:
        """What `--from=` of COPY, or from= of a mount, means in a stage.

        Raises:
            BuildError: a stage that is missing, later, or this one.
        """
        try:
            return _origin(self.stages, _names(self.stages), index, name)
        except Mistake as mistake:
            raise at_word(mistake, self.stages[index].opening, self.document.file) from None

    def meant(self, reference: str) -> str:
        """For an image that is nowhere: the stage that was likely meant by it, or nothing."""
        return suggestion(reference, [stage.name for stage in self.stages if stage.name])

    def scope(self, index: int, *, env: Mapping[str, str] | None = None, parent: Scope | None = None) -> Scope:
        """The variables at the beginning of a stage: of its base's environment, or of the stage that it is from."""
        if parent is not None:
            return parent.child()
        document = self.document
        return Scope(self.arguments, self.build_args, env=env, escape=document.escape, file=document.file)

    def with_triggers(self, index: int, triggers: Sequence[str]) -> Plan:
        """The plan with the ONBUILD instructions of a stage's base image, which nobody knows before it is there.

        Raises:
            BuildError: a trigger that cannot be read, or that uses a stage which cannot be used there.
        """
        stage = self.stages[index]
        read = _triggers(triggers, stage.opening, self.document)
        instructions = (*read, *stage.instructions[stage.triggers :])
        stage = stage.but(instructions=instructions, triggers=len(read))
        stages = (*self.stages[:index], stage, *self.stages[index + 1 :])
        return self.but(stages=_connected(stages, self.document))

    def unused(self) -> tuple[str, ...]:
        """The arguments that the build was given, no ARG names and docker does not know either."""
        named = {
            str(item.name)
            for instruction in (*self.document.instructions, *(i for stage in self.stages for i in stage.instructions))
            if isinstance(instruction, Arg)
            for item in instruction.items
        }
        return tuple(name for name in self.build_args if name not in named and name not in PREDEFINED)


def make_plan(
    document: Document,
    *,
    target: str | None = None,
    build_args: Mapping[str, str] | None = None,
    build_platform: str = "linux/amd64",
    target_platform: str | None = None,
) -> Plan:
    """Find the stages of a Dockerfile, their bases and what they need.

    Args:
        document: the Dockerfile.
        target: the name or number of a stage; None is the last.
        build_args: values for ARGs.
        build_platform: this machine's.
        target_platform: the image's; None is this machine's.

    Raises:
        BuildError: no FROM, an instruction before it, names that are taken twice, stages that are missing, later than
            their use, or in a cycle; a base that comes to nothing; a target that is not there.
    """
    given = dict(build_args or {})
    first = next((i for i, item in enumerate(document.instructions) if not isinstance(item, Arg)), None)
    if first is None:
        raise failure(document.file, (1, 1), "there is no FROM in it, so nothing to build")
    opening = document.instructions[first]
    if not isinstance(opening, From):
        place = (opening.span.line, opening.span.column)
        what = f"{opening.keyword} before the first FROM; only ARG can stand there"
        raise failure(document.file, place, what, opening.original)
    groups = _groups(document.instructions[first:])
    number = _target(groups, target, document)
    name = groups[number][0].name or ""
    arguments = global_arguments(
        (item for item in document.instructions[:first] if isinstance(item, Arg)),
        given,
        platform_args(build_platform, target_platform or build_platform, target or name),
        escape=document.escape,
        file=document.file,
    )
    stages = _stages(groups, arguments, document)
    return Plan(document=document, build_args=given, arguments=arguments, stages=stages, target=number)


def _groups(instructions: Sequence[Instruction]) -> list[tuple[From, list[Instruction]]]:
    groups: list[tuple[From, list[Instruction]]] = []
    for instruction in instructions:
        if isinstance(instruction, From):
            groups.append((instruction, []))
        else:
            groups[-1][1].append(instruction)
    return groups


def _target(groups: list[tuple[From, list[Instruction]]], target: str | None, document: Document) -> int:
    if target is None:
        return len(groups) - 1
    names = {str(opening.name): index for index, (opening, _) in enumerate(groups) if opening.name}
    if target.lower() in names:
        return names[target.lower()]
    if target.isascii() and target.isdecimal() and len(target) < 10 and int(target) < len(groups):
        return int(target)
    last = groups[-1][0]
    known = suggestion(target, names) or f"there are {', '.join(names) or 'none with a name'}"
    what = f"the target {quoted(target)} is no stage of it; {known}"
    raise failure(document.file, (last.span.line, last.span.column), what)


def _stages(
    groups: list[tuple[From, list[Instruction]]], arguments: Mapping[str, str], document: Document
) -> tuple[Stage, ...]:
    stages: list[Stage] = []
    names: dict[str, Stage] = {}
    for index, (opening, instructions) in enumerate(groups):
        try:
            if opening.name and opening.name in names:
                line = names[opening.name].opening.span.line
                raise Mistake(f"the stage {quoted(opening.name)} is there already, in line {line}", opening.name)
            image, platform = _opening(opening, arguments, document.escape)
        except Mistake as mistake:
            raise at_word(mistake, opening, document.file) from None
        base: Origin = names[image.lower()].index if image.lower() in names else image
        triggers: tuple[Instruction, ...] = ()
        if isinstance(base, int):
            own = stages[base].instructions
            triggers = _triggers([item.trigger for item in own if isinstance(item, Onbuild)], opening, document)
        stage = Stage(
            index=index,
            name=str(opening.name) if opening.name else None,
            opening=opening,
            base=None if base == "scratch" else base,
            platform=platform,
            instructions=(*triggers, *instructions),
            triggers=len(triggers),
        )
        stages.append(stage)
        if stage.name:
            names[stage.name] = stage
    return _connected(tuple(stages), document)


def _opening(opening: From, arguments: Mapping[str, str], escape: str) -> tuple[str, str | None]:
    """The image and the platform of a FROM, expanded."""
    image = expand_word(opening.image, arguments, escape)
    if not image:
        fix = suggestion(opening.image.strip("${}"), arguments) or "an ARG before it can have a default"
        raise Mistake(f"FROM has no image: {quoted(opening.image)} is empty", opening.image, fix)
    if any(char.isspace() for char in image):
        raise Mistake(f"FROM has an image with a space in it: {quoted(image)}", opening.image)
    platform = None
    if opening.platform is not None:
        said = expand_word(opening.platform, arguments, escape)
        if not said:
            raise Mistake(f"--platform is empty: {quoted(opening.platform)}", opening.platform)
        platform = values.platform(said)
    return str(image), platform


def _triggers(texts: Sequence[str], opening: From, document: Document) -> tuple[Instruction, ...]:
    return tuple(
        parse_trigger(str(text), escape=document.escape, file=document.file, span=opening.span) for text in texts
    )


def _origins(instructions: Sequence[Instruction]) -> Iterator[Word]:
    """The words that name stages or images."""
    for instruction in instructions:
        if isinstance(instruction, Copy) and instruction.from_:
            yield instruction.from_
        elif isinstance(instruction, Run):
            yield from (mount.from_ for mount in instruction.mounts if mount.from_)


def _connected(stages: tuple[Stage, ...], document: Document) -> tuple[Stage, ...]:
    """The stages with what each needs."""
    made: list[Stage] = []
    numbers = _names(stages)
    for stage in stages:
        needs = {stage.base} if isinstance(stage.base, int) else set()
        for instruction in stage.instructions:
            for word in _origins([instruction]):
                try:
                    origin = _origin(stages, numbers, stage.index, word)
                except Mistake as mistake:
                    raise at_word(mistake, instruction, document.file) from None
                if isinstance(origin, int):
                    needs.add(origin)
        made.append(stage.but(needs=frozenset(needs)))
    return tuple(made)


def _names(stages: tuple[Stage, ...]) -> dict[str, int]:
    return {stage.name: stage.index for stage in stages if stage.name}


def _origin(stages: tuple[Stage, ...], names: Mapping[str, int], index: int, name: Word) -> Origin:
    if name.isascii() and name.isdecimal() and len(name) < 10:
        found = int(name)
        if found >= len(stages):
            raise Mistake(f"there is no stage {name}; the last is {len(stages) - 1}", name)
    else:
        number = names.get(name.lower())
        if number is None:
            return None if name == "scratch" else str(name)
        found = number
    if found == index:
        raise Mistake(f"the stage {quoted(stages[index].label())} needs itself", name)
    if found > index:
        later = stages[found]
        if index in _reached(stages, found):
            raise Mistake(f"{quoted(stages[index].label())} and {quoted(later.label())} need each other", name)
        raise Mistake(f"the stage {quoted(later.label())} comes later", name, f"move it before line {name.line}")
    return found


def _reached(stages: tuple[Stage, ...], start: int) -> set[int]:
    """The stages that one needs, in any direction; wrong names are not its business."""
    seen: set[int] = set()
    waiting = [start]
    while waiting:
        stage = stages[waiting.pop()]
        if stage.index in seen:
            continue
        seen.add(stage.index)
        names = {word.lower() for word in _origins(stage.instructions)}
        waiting += [other.index for other in stages if other.name in names or str(other.index) in names]
        if isinstance(stage.base, int):
            waiting.append(stage.base)
    return seen
