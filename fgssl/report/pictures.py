"""Figures of a sweep as files, and as pictures of its page."""

import inspect
from dataclasses import dataclass, field
from pathlib import Path

from fgssl.errors import UserError
from fgssl.progress import Track, silent
from fgssl.report.figures import FIGURES, draw
from fgssl.report.figures.records import Records
from fgssl.report.figures.style import save
from fgssl.report.page.content import Figure

MOST_BYTES = 400_000
"""Largest vector picture on a page; a larger one is shown as PNG."""


@dataclass
class Pictures:
    """Figures that were drawn into a folder, and those that were not."""

    folder: Path
    drawn: list[Figure] = field(default_factory=list)
    reasons: dict[str, list[str]] = field(default_factory=dict)
    """Figures that were not drawn, by the reason."""

    @property
    def missing(self) -> list[str]:
        """Lines about the figures that were not drawn, one for each reason."""
        return [
            f"{'Figures' if len(names) > 1 else 'Figure'} {', '.join(names)} {'are' if len(names) > 1 else 'is'} not "
            f"drawn: {reason}"
            for reason, names in self.reasons.items()
        ]

    def draw(self, records: Records, track: Track = silent) -> "Pictures":
        """Draw each figure as PNG, PDF and SVG, and return these pictures; files of figures not drawn are deleted."""
        with track("figures", len(FIGURES), "figures") as advance:
            for name in FIGURES:
                try:
                    png, _, svg = save(draw(name, records.out, records), self.folder / name)
                except UserError as error:
                    for file in self.folder.glob(f"{name}.*"):
                        file.unlink()
                    self.reasons.setdefault(str(error), []).append(name)
                else:
                    self.drawn.append(_picture(name, png, svg))
                advance(1)
        return self


def _picture(name: str, png: Path, svg: Path) -> Figure:
    figure = FIGURES.load(name)
    caption = _first_paragraph(figure) or name
    description = _first_paragraph(figure.draw).removeprefix("Draw ") or f"figure {name}"
    if svg.stat().st_size <= MOST_BYTES:
        return Figure(name, caption, "svg", svg.read_bytes(), description)
    return Figure(name, caption, "png", png.read_bytes(), description)


def _first_paragraph(documented: object) -> str:
    """Return the first paragraph of a docstring in one line, or nothing if there is none."""
    return (inspect.getdoc(documented) or "").split("\n\n")[0].replace("\n", " ").replace("*", "")
