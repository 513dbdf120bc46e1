"""Report of a sweep: one HTML file with tables, figures, the interactive embedding, states and origins of its runs.

It is a function of the files in the output folder: the same ones give the same bytes. Nothing is made again while they
stay what they are.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeAlias

from fgssl.errors import UserError
from fgssl.progress import Track, silent
from fgssl.report.aggregate import aggregate
from fgssl.report.embedding import embed
from fgssl.report.figures.records import Embedding, NotDrawnError, Records
from fgssl.report.image_tables import image_tables
from fgssl.report.inputs import digest, of_needs
from fgssl.report.layout import lay_out
from fgssl.report.page import content
from fgssl.report.page.render import render
from fgssl.report.page.tables import page_tables
from fgssl.report.pictures import Pictures
from fgssl.report.provenance import RunJobs, provenances, run_states
from fgssl.store.files import write_atomically
from fgssl.store.plan import PlanRecord

MOST_MEGABYTES = 25.0
"""Largest size of the page unless another one is given; mail servers refuse larger attachments."""
_FEWEST_BYTES = 200_000
"""Smallest room for an embedding that is worth one."""

Jobs: TypeAlias = Callable[[PlanRecord, Path], Mapping[str, RunJobs]]
"""Function that returns the jobs of the runs of a sweep in its output folder, by the name of the run folder."""


@dataclass(frozen=True)
class Sweep:
    """Sweep in its output folder, and what distinguishes it on a page of two."""

    out: Path
    records: Records
    name: str = ""
    """Name on a page of two sweeps; empty on a page of one."""

    @property
    def prefix(self) -> str:
        """Beginning of its captions, notes and cells on a page of two sweeps."""
        return f"{self.name}: " if self.name else ""

    @property
    def title(self) -> str:
        """Title of the page, or its part of the title."""
        preset = f", preset {self.plan.preset}" if self.plan.preset else ""
        name = self.name or f"{self.plan.sweep}{preset}"
        return f"{self.plan.title} ({name})" if self.plan.title else name

    @property
    def plan(self) -> PlanRecord:
        """Plan of the sweep."""
        plan: PlanRecord = self.records["plan"]
        return plan


def report(
    out: Path, jobs: Jobs, other: Path | None = None, most_megabytes: float = MOST_MEGABYTES, track: Track = silent
) -> Path:
    """Write the tables and the report of the sweep in `out`, and return the page.

    The page is report/index.html; beside it lie figures as PNG, PDF and SVG, and the tables of test images as CSV. With
    `other`, another sweep's folder, the page holds both, links an embedding of each, and is report/beside-<name>.html.
    A page that would be too large has less: smaller thumbnails, then fewer images, then fewer figures.

    Raises:
        UserError: A folder holds no sweep, or nothing can be written to `out`.
    """
    aggregate(out, track)
    folder, sweeps = out / "report", _named(out, other)
    page = folder / ("index.html" if other is None else f"beside-{sweeps[1].name.replace('/', '-')}.html")
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error
    inputs = digest(most_megabytes, *(_inputs(sweep, jobs) for sweep in sweeps))
    mark, pictures = page.with_suffix(".inputs"), Pictures(folder / "figures").draw(sweeps[0].records, track)
    if page.is_file() and mark.is_file() and mark.read_text(encoding="utf-8") == inputs:
        return page
    mark.unlink(missing_ok=True)
    write_atomically(page, _page(sweeps, jobs, folder, pictures, most_megabytes))
    write_atomically(mark, inputs)
    return page


def _named(out: Path, other: Path | None) -> list[Sweep]:
    """Return the sweeps, each of two with the name of its folder, or with that of the folder above too if equal."""
    if other is None:
        return [Sweep(out, Records(out))]
    paths = [out.resolve(), other.resolve()]
    names = [path.name for path in paths]
    if names[0] == names[1]:
        names = [f"{path.parent.name}/{path.name}" for path in paths]
    return [Sweep(path, Records(path), name) for path, name in zip((out, other), names, strict=True)]


def _inputs(sweep: Sweep, jobs: Jobs) -> list[object]:
    """Return what the page shows of a sweep: its rows and files, how far its runs are, and their jobs."""
    found = {run: asdict(of_run) for run, of_run in jobs(sweep.plan, sweep.out).items()}
    return [sweep.name, of_needs(sweep.records, ("table", "embeddings")), list(map(asdict, _runs(sweep))), found]


def _page(sweeps: Sequence[Sweep], jobs: Jobs, folder: Path, pictures: Pictures, most_megabytes: float) -> bytes:
    """Return the bytes of the page. Figures and tables of images are those of the first sweep."""
    first = sweeps[0]
    tables: list[content.Table] = []
    notes: list[str] = []
    origins: dict[str, content.Provenance] = {}
    for sweep in sweeps:
        layout = lay_out(sweep.records["table"], sweep.records["rows"], sweep.plan)
        tables += page_tables(layout, sweep.prefix)
        notes += [f"{sweep.prefix}{note}" for note in layout.notes]
        of_cells = provenances(sweep.plan, sweep.records["rows"], sweep.out, jobs(sweep.plan, sweep.out))
        origins |= {f"{sweep.prefix}{cell}": origin for cell, origin in of_cells.items()}
    of_images, without_images = image_tables(first.records, folder)
    runs = [run for sweep in sweeps for run in _runs(sweep)]
    page = content.Page(
        title=" beside ".join(sweep.title for sweep in sweeps),
        summary=_summary(runs),
        tables=(*tables, *of_images),
        notes=(*notes, *without_images, *pictures.missing),
        figures=tuple(pictures.drawn),
        runs=tuple(runs),
        provenances=origins,
    )
    return _with_embeddings(page, sweeps, most_megabytes)


def _runs(sweep: Sweep) -> list[content.Run]:
    states = run_states(sweep.plan, sweep.records["rows"], sweep.out)
    return [replace(run, cell=f"{sweep.prefix}{run.cell}") for run in states]


def _summary(runs: Sequence[content.Run]) -> str:
    counts = Counter(run.state for run in runs)
    each = ", ".join(f"{counts[state]} {state}" for state in ("done", "running", "failed", "missing") if counts[state])
    return f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}: {each}"


def _with_embeddings(page: content.Page, sweeps: Sequence[Sweep], most_megabytes: float) -> bytes:
    """Return the rendered page with the embeddings that fit into the room that is left."""
    most_bytes = int(most_megabytes * 1e6)
    page = _with_fewer_figures(page, most_bytes)
    without = render(page)
    room = most_bytes - len(without) - 20_000
    try:
        chosen = _chosen(sweeps)
        if room < _FEWEST_BYTES * len(chosen):
            raise NotDrawnError(
                f"no room is left for it: tables and figures take {len(without) / 1e6:.1f} of {most_megabytes:g} MB "
                "(--max-megabytes)"
            )
        embeddings = tuple(embed(runs, room // len(chosen)) for runs in chosen)
    except UserError as error:
        return render(replace(page, notes=(*page.notes, f"No interactive embedding: {error}")))
    return render(replace(page, embeddings=embeddings))


def _with_fewer_figures(page: content.Page, most_bytes: int) -> content.Page:
    """Return the page without its largest figures, as many as do not fit, and a note that names them."""
    left_out: list[str] = []
    figures = list(page.figures)
    while figures and len(render(replace(page, figures=tuple(figures)))) > most_bytes:
        largest = max(figures, key=lambda figure: len(figure.content))
        figures.remove(largest)
        left_out.append(largest.name)
    if not left_out:
        return page
    note = f"Only in the folder figures, since the page would be too large (--max-megabytes): {', '.join(left_out)}"
    return replace(page, figures=tuple(figures), notes=(*page.notes, note))


def _chosen(sweeps: Sequence[Sweep]) -> list[list[Embedding]]:
    """Return the runs of each embedding of the page: two linked ones, or one alone.

    Of one sweep they are the baseline and the best other cell, or the two best cells. Of two sweeps they are the best
    cells, linked if their test images are the same. The seed is the first at which both are there.
    """
    ranked = [_ranked(sweep) for sweep in sweeps]
    if len(sweeps) == 1:
        baseline = [ranked[0].pop(cell) for cell in (sweeps[0].plan.baseline,) if cell in ranked[0]]
        first, *others = [*baseline, *ranked[0].values()]
    else:
        first, *others = [next(iter(of_sweep.values())) for of_sweep in ranked]
    if not others:
        return [first[:1]]
    pairs = [[a, b] for a in first for b in others[0] if a.images["test"].version == b.images["test"].version]
    pairs.sort(key=lambda pair: pair[0].seed != pair[1].seed)
    return pairs[:1] or [first[:1], others[0][:1]]


def _ranked(sweep: Sweep) -> dict[str, list[Embedding]]:
    """Return the embeddings of each cell with a method, the cell of the best mean in the primary metric first."""
    plan, table = sweep.plan, sweep.records["table"]
    of_cells: dict[str, list[Embedding]] = {}
    methods = {cell.cell for cell in plan.of_arms}
    for one in (one for one in sweep.records["embeddings"] if one.cell in methods):
        of_cells.setdefault(one.cell, []).append(replace(one, cell=f"{sweep.prefix}{one.cell}"))
    if not of_cells:
        raise NotDrawnError(
            f"no run of {plan.sweep} that is done keeps features of images that are there: see "
            "evaluation.keep_features and data.folder"
        )
    metric = plan.primary or next(iter(plan.metrics), None)
    of_metric = table[table["metric"] == metric].set_index("cell")
    worse = {cell: 0.0 for cell in of_cells}
    for cell in of_cells:
        if cell in of_metric.index and of_metric.loc[cell, "n"]:
            sign = 1 if of_metric.loc[cell, "lower_is_better"] else -1
            worse[cell] = sign * float(of_metric.loc[cell, "mean"])
    return dict(sorted(of_cells.items(), key=lambda item: worse[item[0]]))
