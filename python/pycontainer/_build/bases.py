"""The images that a build stands on: found in the store, or pulled, before anything is carried out."""

from __future__ import annotations

from pycontainer._build.draft import Draft, Layer
from pycontainer._build.expand import at_word
from pycontainer._build.source import Mistake, failure, quoted
from pycontainer._errors import AuthError, ImageError, ImageNotFound, InvalidReference, RegistryError
from pycontainer._image import Image
from pycontainer._image_config import document
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from pycontainer._build.source import Word
    from pycontainer._build.stages import Plan, Stage
    from pycontainer._progress import Follower


class Bases:
    """The images of a plan, each fixed to its digest for the whole build."""

    def __init__(self, platform: str, progress: Follower | None) -> None:
        self._platform, self._progress = platform, progress
        self._images: dict[tuple[str, str | None], Image] = {}

    def gather(self, plan: Plan) -> Plan:
        """Find all that the target needs; the plan with the triggers of its bases.

        Raises:
            BuildError: an image that is nowhere, no reference, or of another platform only; a bad trigger.
            RegistryError, AuthError: a pull failed.
        """
        seen: set[int] = set()
        while waiting := [index for index in plan.needed() if index not in seen]:
            for index in waiting:
                seen.add(index)
                stage = plan.stages[index]
                if isinstance(stage.base, str):
                    image = self._find(plan, stage.base, stage.platform, stage.opening.image, stage)
                    triggers = (document(image._config).get("config") or {}).get("OnBuild") or ()
                    if triggers:
                        plan = plan.with_triggers(index, triggers)
        for reference, word in plan.images().items():
            if all(reference != known for known, _ in self._images):
                self._find(plan, reference, None, word, _stage_of(plan, word))
        return plan

    def _find(self, plan: Plan, reference: str, platform: str | None, word: Word, stage: Stage) -> Image:
        key = (reference, platform)
        if key not in self._images:
            try:
                self._images[key] = Image(reference, platform=platform, progress=self._progress or False)  # type: ignore[arg-type]
            except (ImageNotFound, InvalidReference) as error:
                meant = plan.meant(reference)
                raise at_word(Mistake(str(error), word, meant), stage.opening, plan.document.file) from error
            except (RegistryError, AuthError) as error:
                error.add_note(f"{plan.document.file}:{word.line}: {word}")
                raise
            except (ImageError, ValueError) as error:
                place = (word.line, word.column)
                what = f"{quoted(reference)}: {error}"
                raise failure(plan.document.file, place, what, stage.opening.original) from error
            self._check(plan, self._images[key], platform, word, stage)
        return self._images[key]

    @staticmethod
    def _check(plan: Plan, image: Image, platform: str | None, word: Word, stage: Stage) -> None:
        """A name alone can be of another platform's image."""
        if platform is not None and (image.platform or "").split("/")[:2] != platform.split("/")[:2]:
            what = f"the image {quoted(str(word))} is for {image.platform}, not for {platform}"
            raise at_word(Mistake(what, word), stage.opening, plan.document.file)

    def image(self, reference: str) -> Image:
        """One that was found."""
        return next(image for (known, _), image in self._images.items() if known == reference)

    def layers(self, reference: str) -> list[Layer]:
        """The layers of one that was found."""
        image = self.image(reference)
        return Draft.of_image(document(image._manifest), document(image._config)).layers

    def draft(self, stage: Stage) -> Draft:
        """What a stage begins with that is FROM an image, or from scratch."""
        if stage.base is None:
            return Draft.from_nothing(stage.platform or self._platform)
        image = self._images[(str(stage.base), stage.platform)]
        return Draft.of_image(document(image._manifest), document(image._config))


def _stage_of(plan: Plan, word: Word) -> Stage:
    """The stage whose text has the word; messages name it."""
    before = [stage for stage in plan.stages if stage.opening.span.line <= word.line]
    return before[-1] if before else plan.stages[0]
