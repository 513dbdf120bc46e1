"""Tables of a sweep on its page."""

from fgssl.report.layout import EMPTY, Block, Layout
from fgssl.report.page.content import Entry, Table


def page_tables(layout: Layout) -> tuple[Table, ...]:
    """Return the tables of a layout; each entry but an empty one has the name of its cell as key of its provenance."""
    return tuple(
        Table(block.caption, tuple(block.header), tuple(_row(block, line) for line in range(len(block.lines))))
        for block in layout.blocks
    )


def _row(block: Block, line: int) -> tuple[Entry, ...]:
    cell, *texts = block.lines[line]
    entries = [Entry(cell)]
    for column, text in enumerate(texts, start=1):
        position = line, column
        emphasis = "best" if position in block.bold else "second" if position in block.underlined else ""
        entries.append(Entry(text, emphasis, "" if text == EMPTY else cell))
    return tuple(entries)
