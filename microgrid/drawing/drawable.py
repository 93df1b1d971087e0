"""The protocol of the kinds of objects that ``draw`` draws, and the options of the user."""

from dataclasses import dataclass
from typing import Any, Protocol

from microgrid.drawing.marks import Mark
from microgrid.drawing.picture import Picture
from microgrid.drawing.placing import Drawing
from microgrid.engine import Value


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The options of ``draw``; each kind of picture reads those that apply to it."""

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
        """The theme in which a picture is drawn; for ``"auto"`` it is light, and a dark page recolours it."""
        return "dark" if self.theme == "dark" else "light"

    def picture(self, dot: str, descriptions: dict[str, str], drawing: Drawing | None = None) -> Picture:
        """Return a picture of a DOT text, with a description of each of its elements."""
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
    """A kind of object that can be drawn: a module with these two functions, and its name in ``KINDS``."""

    def suits(self, what: object, /) -> bool:
        """Return whether something is of this kind."""

    def picture(self, what: Any, options: Options, /) -> Picture:
        """Draw it."""
