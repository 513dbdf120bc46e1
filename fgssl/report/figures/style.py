"""House style of figures: colors, sizes and fonts, and saving with the same bytes each time."""

import functools
import io
import itertools
import math
import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec

from fgssl.errors import UserError
from fgssl.store.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ONE_COLUMN, TWO_COLUMNS = 3.3, 6.9
"""Widths of figures in inches, as columns of papers have them."""

COLORS = {
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "black": "#222222",
}
"""Colors that differ for color-blind readers too (Okabe and Ito 2008), without its yellow, which is faint on white."""
GRAY, LIGHT = "#777777", "#D8D8D8"
"""Colors of what is not a series: notes and grids."""
MARKERS, DASHES = "osD^vPX", ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))

FONT = "DejaVu Sans"
"""Font of all text: it comes with matplotlib, so that it is the same everywhere."""
FALLBACK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "SimHei",
    "Noto Sans Devanagari",
    "Noto Sans Bengali",
    "Noto Sans Tamil",
    "Noto Sans Thai",
)
"""Fonts of letters that `FONT` lacks, in the order in which they are tried if they are installed."""
_CODE = re.compile(r"U\+[0-9A-F…]")

TEXT_POINTS, SMALL_POINTS = 7.0, 6.0
_LINE_IN = {TEXT_POINTS: 0.145, SMALL_POINTS: 0.115}
_HANDLE_IN, _LEGEND_GAP_IN, _EDGE_IN = 0.29, 0.13, 0.06

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelsize": TEXT_POINTS,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": TEXT_POINTS,
    "axes.formatter.use_mathtext": True,
    "figure.dpi": 300,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "font.size": TEXT_POINTS,
    "grid.color": LIGHT,
    "grid.linewidth": 0.4,
    "legend.borderaxespad": 0.0,
    "legend.borderpad": 0.2,
    "legend.columnspacing": 1.2,
    "legend.fontsize": TEXT_POINTS,
    "legend.frameon": False,
    "legend.handlelength": 2.0,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "mathtext.fontset": "dejavusans",
    "pdf.fonttype": 42,  # text stays text; publishers refuse type 3
    "savefig.dpi": 300,
    "svg.fonttype": "path",  # the same look without the font
    "svg.hashsalt": "fgssl",
    "xtick.labelsize": SMALL_POINTS,
    "xtick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "xtick.minor.visible": False,
    "ytick.labelsize": SMALL_POINTS,
    "ytick.major.size": 2.5,
    "ytick.major.width": 0.6,
}
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}

P = ParamSpec("P")


def house_style(draw: "Callable[P, Figure]") -> "Callable[P, Figure]":
    """Make a figure's `draw` use the style of this module, whatever the user's matplotlibrc holds."""

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> "Figure":
        with _matplotlib().rc_context():
            _apply()
            return draw(*args, **kwargs)

    return styled


def save(figure: "Figure", file: Path) -> list[Path]:
    """Write the figure as PNG, PDF and SVG beside each other, with no date in them, and return the files.

    `file` has no suffix. Equal figures give equal bytes under one version of matplotlib.
    """
    written = []
    with _matplotlib().rc_context():
        _apply()
        for kind, metadata in _METADATA.items():
            content = io.BytesIO()
            figure.savefig(content, format=kind, metadata=metadata)
            written.append(file.with_name(f"{file.name}.{kind}"))
            write_atomically(written[-1], content.getvalue())
    return written


def _apply() -> None:
    matplotlib = _matplotlib()
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(STYLE)
    matplotlib.rcParams["font.family"] = list(_fonts())


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise UserError("figures need matplotlib: pip install 'fgssl[report]'") from None
    return matplotlib


def panels(rows: int, columns: int, *, width: float, panel_height: float, **options: Any) -> tuple["Figure", Any]:
    """Return a figure of panels, each of that height in inches, and the array (rows, columns) of their axes.

    The height is that of the panels alone: `finish` adds what the legend and the note need.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, rows * panel_height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def finish(figure: "Figure", legends: Sequence[Mapping[str, Any]], note: str = "") -> "Figure":
    """Add legends above the panels, each a mapping from labels to artists, and a note below, and return the figure.

    The figure becomes higher by what they need, so that the panels keep their height. Labels are shortened to the
    figure's width. The note explains codes of letters, see `plain`.
    """
    from matplotlib.text import Text

    width, panels_height = figure.get_size_inches()
    blocks = [_columns(handles, width - 2 * _EDGE_IN) for handles in legends if handles]
    heights = [math.ceil(len(labels) / columns) * _LINE_IN[TEXT_POINTS] + _EDGE_IN for labels, columns, _ in blocks]
    texts = [text.get_text() for text in figure.findobj(Text)] + [label for labels, _, _ in blocks for label in labels]
    if any(map(_CODE.search, [*texts, plain(note)])):
        note = f"{note} U+…: letters that no installed font has.".strip()
    lines = _wrapped(note, width - 2 * _EDGE_IN)
    below = len(lines) * _LINE_IN[SMALL_POINTS] + _EDGE_IN if lines else 0.0
    height = panels_height + sum(heights) + below
    figure.set_size_inches(width, height)
    figure.get_layout_engine().set(rect=(0, below / height, 1, panels_height / height))
    top = height
    for (labels, columns, handles), of_block in zip(blocks, heights, strict=True):
        place = (_EDGE_IN / width, top / height)
        legend = figure.legend(handles, labels, loc="upper left", bbox_to_anchor=place, ncols=columns)
        legend.set_in_layout(False)
        top -= of_block
    if lines:
        text = figure.text(_EDGE_IN / width, 0.6 * _EDGE_IN / height, "\n".join(lines), va="bottom", color=GRAY)
        text.set(fontsize=SMALL_POINTS, linespacing=1.15, in_layout=False)
    _fix_layout(figure)
    return figure


def _fix_layout(figure: "Figure") -> None:
    """Lay the panels out once, and round their places: the solver's last digits vary from process to process."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        axes.set_position([round(number, 5) for number in axes.get_position(original=True).bounds])


def _columns(handles: Mapping[str, Any], width: float) -> tuple[list[str], int, list[Any]]:
    """Return the labels of a legend, the largest number of columns that fits into so many inches, and the artists."""
    labels = [shortened(label, width - _HANDLE_IN) for label in handles]
    widths = [_HANDLE_IN + text_width(label) for label in labels]

    def total(columns: int) -> float:
        rows = math.ceil(len(widths) / columns)
        return sum(max(widths[first : first + rows]) + _LEGEND_GAP_IN for first in range(0, len(widths), rows))

    columns = max((count for count in range(1, len(labels) + 1) if total(count) <= width + _LEGEND_GAP_IN), default=1)
    rows = math.ceil(len(labels) / columns)
    return labels, math.ceil(len(labels) / rows), list(handles.values())


def log_axis(axes: Any, which: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, with ticks at 1, 2 and 5 times powers of ten if it spans few of them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    low, high = axis.get_view_interval()
    subs = (1.0, 2.0, 5.0) if high / low < 200 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=6))
    if high / low < 1e4:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def looks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return color, marker and dashes of each series, distinct for 28 of them.

    The looks of cells follow their order in the plan, so that a cell looks the same in all figures of a sweep.
    """
    colors = list(COLORS.values())
    return {
        name: {
            "color": colors[number % len(colors)],
            "marker": MARKERS[(number + number // len(colors)) % len(MARKERS)],
            "linestyle": DASHES[number // len(colors) % len(DASHES)],
        }
        for number, name in enumerate(dict.fromkeys(names))
    }


def text_width(text: str, points: float = TEXT_POINTS) -> float:
    """Return the width of a line of text in inches, without kerning."""
    return sum(map(_advance, text)) * points / 72


@functools.cache
def _advance(letter: str) -> float:
    """Return the width of a letter, relative to the size of the font."""
    font = next((font for font in _fonts().values() if font.get_char_index(ord(letter))), None)
    if font is None:
        return 1.0
    font.set_size(1000, 72)
    return float(font.load_char(ord(letter)).linearHoriAdvance) / 65536 / 1000


@functools.cache
def _fonts() -> dict[str, Any]:
    """Return the installed fonts by family, in the order in which matplotlib takes letters from them."""
    from matplotlib.font_manager import findfont, fontManager, get_font

    installed = {font.name for font in fontManager.ttflist}
    return {name: get_font(findfont(name)) for name in (FONT, *FALLBACK_FONTS) if name in installed}


@functools.cache
def _drawable(letter: str) -> str:
    """Return a letter, its code if no installed font has it, or nothing if it is an invisible sign."""
    if letter.isspace() or any(font.get_char_index(ord(letter)) for font in _fonts().values()):
        return letter
    return "" if unicodedata.category(letter) in ("Cc", "Cf", "Mn") else f" U+{ord(letter):04X} "


def shortened(text: str, width: float, points: float = TEXT_POINTS) -> str:
    """Return the text, or as much of its start and end as fits into so many inches, with `…` between."""
    text = plain(" ".join(text.split()))
    if text_width(text, points) <= width:
        return text
    fits = [kept for kept in range(1, len(text)) if text_width(_middle_cut(text, kept), points) <= width]
    return _middle_cut(text, max(fits, default=1))


def _middle_cut(text: str, kept: int) -> str:
    end = kept // 3
    return text[: kept - end].rstrip() + "…" + (text[-end:].lstrip() if end else "")


def plain(text: str) -> str:
    """Return the text such that matplotlib reads no formulas into it, and no letter becomes a box.

    Letters that no installed font has become their codes, such as U+6BD2.
    """
    letters = "".join(map(_drawable, text))
    return (text if letters == text else " ".join(letters.split())).replace("$", r"\$")


def _wrapped(text: str, width: float) -> list[str]:
    """Return lines of small text that fit into so many inches."""
    mean = text_width(text, SMALL_POINTS) / max(len(text), 1)
    return list(
        itertools.chain.from_iterable(
            textwrap.wrap(plain(part), max(10, int(width / max(mean, 1e-6) * 0.96))) for part in text.split("\n")
        )
    )


def axis_label(metric: str, unit: str, lower_is_better: bool = False) -> str:
    """Return the label of an axis that shows a metric."""
    shown = {"percent": "%", "count": "images"}.get(unit)
    return plain(metric) + (f" ({shown})" if shown else "") + (" ↓" if lower_is_better else "")


def letter(axes: Sequence[Any]) -> None:
    """Put a, b, c, ... before the titles of panels."""
    for name, one in zip("abcdefghijklmnopqrstuvwxyz", axes, strict=False):
        one.set_title(f"({name}) {one.get_title(loc='left')}", loc="left")
