"""What each kind of thing that ``draw`` draws has in common: how it is recognised, and what the user asks for."""

from dataclasses import dataclass
from typing import Any, Protocol

from microgrid.drawing.marks import Mark
from microgrid.drawing.picture import Picture
from microgrid.drawing.placing import Drawing
from microgrid.engine import Value


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The options of ``draw``, of which a kind of picture reads those that are for it."""

    title: str
    direction: str | None
    depth: int | None
    focus: Value | None
    radius: int
    fold: int | None
    limit: int | None
    mark: "Mark | None"
    theme: str
    legend: bool
    scale: float
    like: Picture | None
    renderer: str | None

    @property
    def paper(self) -> str:
        """The theme in which a picture is drawn; with ``"auto"`` a page turns light into dark."""
        return "dark" if self.theme == "dark" else "light"

    def picture(self, dot: str, descriptions: dict[str, str], drawing: Drawing | None = None) -> Picture:
        """Return a DOT text, and what each of its elements is in words, as a picture."""
        return Picture(
            dot,
            descriptions,
            title=self.title,
            theme=self.theme,
            renderer=self.renderer,
            scale=self.scale,
            drawing=drawing,
        )


class Drawable(Protocol):
    """A kind of thing that can be drawn: a module with these two functions, and its name in ``KINDS``."""

    def suits(self, what: object, /) -> bool:
        """Return whether something is of this kind."""

    def picture(self, what: Any, options: Options, /) -> Picture:
        """Draw it."""
