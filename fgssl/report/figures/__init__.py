"""Figures of a sweep, one module each, with `needs` and `draw`.

`needs` names records of `fgssl.report.figures.records`, and `draw` takes them as arguments of these names. It returns a
matplotlib figure or plain data, and imports matplotlib inside. It raises a `NotDrawnError` if the sweep has nothing to
draw.
"""

from pathlib import Path
from typing import Any

from fgssl.errors import UserError
from fgssl.registries import Registry
from fgssl.report.figures.records import Records
from fgssl.settings.validation import unknown

FIGURES = Registry(
    f"{__file__}: FIGURES",
    {
        "ablation": "fgssl.report.figures.ablation",
        "label_fractions": "fgssl.report.figures.label_fractions",
        "nuisances": "fgssl.report.figures.nuisances",
        "training": "fgssl.report.figures.training",
        "spectrum": "fgssl.report.figures.spectrum",
        "tsne": "fgssl.report.figures.tsne",
        "gate": "fgssl.report.figures.gate",
        "attention": "fgssl.report.figures.attention",
        "reconstructions": "fgssl.report.figures.reconstructions",
        "confusion": "fgssl.report.figures.confusion",
        "lookalikes": "fgssl.report.figures.lookalikes",
    },
)
"""Dotted path of the module of each figure. A figure is one file and one line here."""


def draw(name: str, out: Path, records: Records | None = None) -> Any:
    """Draw a figure of the sweep in the folder `out`, from the runs that are done.

    Several figures of one sweep share their `records`, so that each is read once. Raise a `NotDrawnError` with the
    reason if the figure does not apply to the sweep.
    """
    if name not in FIGURES:
        raise UserError(unknown(name, list(FIGURES), what="figure"))
    figure = FIGURES.load(name)
    records = Records(out) if records is None else records
    return figure.draw(**{need: records[need] for need in figure.needs})
