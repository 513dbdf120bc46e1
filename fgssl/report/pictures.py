"""Figures of a sweep as files, and as pictures of its page."""

import inspect
import traceback
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
    damaged: list[str] = field(default_factory=list)
    """Files without whose runs the figures were drawn, because they cannot be read."""

    @property
    def missing(self) -> list[str]:
        """Lines about the figures that were not drawn, one for each reason, and about runs that they leave out."""
        advice = "restore the files, or delete their run folders and train the runs again"
        without = [f"Figures and the embedding leave out what cannot be read: {', '.join(self.damaged)}: {advice}"]
        return without * bool(self.damaged) + [
            f"{'Figures' if len(names) > 1 else 'Figure'} {', '.join(names)} {'are' if len(names) > 1 else 'is'} not "
            f"drawn: {reason}"
            for reason, names in self.reasons.items()
        ]

    def draw(self, records: Records, track: Track = silent) -> "Pictures":
        """Draw each figure as PNG, PDF and SVG, and return these pictures; files of figures not drawn are deleted.

        A figure that raises anything but a `UserError` is not drawn either, and its traceback goes to stderr. Paths in
        the folder of the sweep become relative to it, since the page is sent to others.
        """
        with track("figures", len(FIGURES), "figures") as advance:
            for name in FIGURES:
                try:
                    png, _, svg = save(draw(name, records.out, records), self.folder / name)
                    picture = _picture(name, png, svg)
                except UserError as error:
                    self._leave_out(name, records.out, str(error))
                except Exception as error:  # a fault in one figure, which may be from outside, must not cost the page
                    traceback.print_exc()
                    self._leave_out(name, records.out, f"{type(error).__name__}: {error}")
                else:
                    self.drawn.append(picture)
                advance(1)
        self.damaged = records.damaged
        return self

    def _leave_out(self, name: str, out: Path, reason: str) -> None:
        for file in self.folder.glob(f"{name}.*"):
            file.unlink()
        self.reasons.setdefault(reason.replace(f"{out}/", ""), []).append(name)


def _picture(name: str, png: Path, svg: Path) -> Figure:
    caption = (inspect.getdoc(FIGURES.load(name)) or name).split("\n\n")[0].replace("\n", " ").replace("*", "")
    if svg.stat().st_size <= MOST_BYTES:
        return Figure(name, caption, "svg", svg.read_bytes(), caption)
    return Figure(name, caption, "png", png.read_bytes(), caption)
