"""Figures of a sweep as files, and as pictures of its page."""

import inspect
import json
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from fgssl.errors import UserError
from fgssl.progress import Track, silent
from fgssl.report.figures import FIGURES, draw
from fgssl.report.figures.records import Records
from fgssl.report.figures.style import save
from fgssl.report.inputs import of_needs
from fgssl.report.page.content import Figure
from fgssl.store.files import write_atomically

MADE = "made.json"
KINDS = ("png", "pdf", "svg")
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
        """Draw each figure as PNG, PDF and SVG, and return these pictures; files of figures not drawn are deleted.

        Figures whose inputs stayed what they are, by `MADE` in the folder, are not drawn again. A figure that raises
        anything but a `UserError` is not drawn either, and its traceback goes to stderr.
        """
        made = self._made()
        with track("figures", len(FIGURES), "figures") as advance:
            for name in FIGURES:
                digest = of_needs(records, FIGURES.load(name).needs)
                if not self._is_made(name, made.get(name), digest):
                    made[name] = self._drawn(name, records, digest)
                if reason := made[name][1]:
                    self.reasons.setdefault(reason, []).append(name)
                else:
                    self.drawn.append(_picture(name, *(self.folder / f"{name}.{kind}" for kind in ("png", "svg"))))
                advance(1)
        write_atomically(self.folder / MADE, json.dumps({name: made[name] for name in FIGURES}, indent=1) + "\n")
        return self

    def _made(self) -> dict[str, list[str]]:
        """Return the digest of the inputs of each figure, and the reason why it was not drawn, or nothing."""
        try:
            found: dict[str, list[str]] = json.loads((self.folder / MADE).read_text(encoding="utf-8"))
            return found
        except (OSError, ValueError):  # there is no report yet, or its file is damaged: all are drawn
            return {}

    def _is_made(self, name: str, made: list[str] | None, digest: str) -> bool:
        files = [self.folder / f"{name}.{kind}" for kind in KINDS]
        return made is not None and made[0] == digest and (bool(made[1]) or all(file.is_file() for file in files))

    def _drawn(self, name: str, records: Records, digest: str) -> list[str]:
        """Draw a figure, and return the digest and nothing, or the reason why there is none.

        A fault has no digest, so that it is tried again. Paths in the folder of the sweep become relative to it, since
        the page is sent to others.
        """
        try:
            save(draw(name, records.out, records), self.folder / name)
            return [digest, ""]
        except UserError as error:
            reason = str(error)
        except Exception as error:  # a fault in one figure, which may be from outside, must not cost the page
            traceback.print_exc()
            digest, reason = "", f"{type(error).__name__}: {error}"
        for file in self.folder.glob(f"{name}.*"):
            file.unlink()
        return [digest, reason.replace(f"{records.out}/", "")]


def _picture(name: str, png: Path, svg: Path) -> Figure:
    caption = (inspect.getdoc(FIGURES.load(name)) or name).split("\n\n")[0].replace("\n", " ").replace("*", "")
    if svg.stat().st_size <= MOST_BYTES:
        return Figure(name, caption, "svg", svg.read_bytes(), caption)
    return Figure(name, caption, "png", png.read_bytes(), caption)
