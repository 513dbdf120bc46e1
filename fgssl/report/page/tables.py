"""Tables of a sweep on its page."""

from fgssl.report.layout import EMPTY, Block, Layout
from fgssl.report.page.content import Entry, Table


def page_tables(layout: Layout, prefix: str = "") -> tuple[Table, ...]:
    """Return the tables of a layout; each entry but an empty one has the name of its cell as key of its provenance.

    `prefix` stands before captions and keys; it distinguishes the sweeps of a page.
    """
    return tuple(
        Table(
            prefix + block.caption,
            tuple(block.header),
            tuple(_row(block, line, prefix) for line in range(len(block.lines))),
        )
        for block in layout.blocks
    )


def _row(block: Block, line: int, prefix: str) -> tuple[Entry, ...]:
    cell, *texts = block.lines[line]
    entries = [Entry(cell)]
    for column, text in enumerate(texts, start=1):
        origin = "" if text == EMPTY else prefix + cell
        if (line, column) in block.bold:
            entries.append(Entry(text, "best", origin))
        elif (line, column) in block.underlined:
            entries.append(Entry(text, "second", origin))
        else:
            entries.append(Entry(text, "", origin))
    return tuple(entries)
