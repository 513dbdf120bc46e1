"""Layout of a sweep as Markdown, with columns padded for reading in a terminal."""

from fgssl.report.layout import Block, Layout, emphasized


def markdown(layout: Layout) -> str:
    """Return the layout as Markdown, with columns padded for reading in a terminal."""
    parts = [f"# {layout.title}", ""]
    for block in layout.blocks:
        parts += [f"{block.caption}:", "", *_markdown_table(block), ""]
    parts += [f"- {note}" for note in map(_markdown_text, layout.notes)]
    return "\n".join(parts).rstrip("\n") + "\n"


def _markdown_table(block: Block) -> list[str]:
    marked = emphasized(block, lambda text: f"**{text}**", lambda text: f"_{text}_")
    grid = [[_markdown_text(text) for text in line] for line in [block.header, *marked]]
    widths = [max(len(line[column]) for line in grid) for column in range(len(block.header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    padded = [
        [line[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True))]
        for line in grid
    ]
    return [f"| {' | '.join(line)} |" for line in [padded[0], rule, *padded[1:]]]


def _markdown_text(text: str) -> str:
    return text.replace("|", "\\|")
