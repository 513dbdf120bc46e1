"""README and the pages of `docs`, as fenced blocks."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", *sorted(str(file.relative_to(ROOT)) for file in (ROOT / "docs").rglob("*.md")))
_FENCE = re.compile(r"^( *)```(\S+)\n(.*?)^\1```$", flags=re.M | re.S)
_FILE = re.compile(r"# (\S+\.(?:yaml|py))\n")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """Name of the file that a reader saves it as, which its first line names; or None."""
        found = _FILE.match(self.text)
        return found[1] if found else None

    def commands(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each command of a console block with the lines of output that are shown below it."""
        for part in re.split(r"^\$ ", self.text, flags=re.M)[1:]:
            command, *shown = part.splitlines()
            yield command, shown

    @property
    def script(self) -> str:
        """The commands as a script for bash."""
        return self.text if self.language == "bash" else "\n".join(command for command, _ in self.commands())


def text(page: str) -> str:
    """Return a page."""
    return (ROOT / page).read_text()


def blocks(page: str, *languages: str) -> list[Block]:
    """Return the blocks of a page that are in one of these languages."""
    return [
        Block(page, text(page)[: found.start()].count("\n") + 1, found[2], textwrap.dedent(found[3]))
        for found in _FENCE.finditer(text(page))
        if found[2] in languages
    ]


def block(page: str, language: str, beginning: str) -> str:
    """Return the text of the one block of a page that begins so."""
    (found,) = [each.text for each in blocks(page, language) if each.text.startswith(beginning)]
    return found
