"""Write the page as one HTML file that needs no network, and is the same bytes for the same content."""

import base64
import functools
import hashlib
import html
import json
import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import resources

from fgssl.report.page.blocks import Blocks, add_embedding
from fgssl.report.page.content import Embedding, Entry, Figure, Page, Provenance, Run, Table

SCRIPTS = ("blocks", "colors", "geometry", "raster", "sprites", "elements", "pins", "map", "explorer", "page")
"""Modules of the page; each imports from earlier ones only."""
_MIME = {"svg": "image/svg+xml", "png": "image/png"}


def render(page: Page) -> bytes:
    """Return the bytes of the HTML file."""
    blocks = Blocks()
    described = [add_embedding(blocks, embedding) for embedding in page.embeddings]
    script, style = bundle(), _file("page.css")
    keys = {key: f"origin-{number}" for number, key in enumerate(page.provenances or {})}
    sections = {
        "Tables": [_table(table, keys) for table in page.tables] + [_notes(page.notes)] * bool(page.notes),
        "Embedding": [_explorer(number, one) for number, one in enumerate(page.embeddings)],
        "Figures": [_figure(figure) for figure in page.figures],
        "Runs": [_runs(page.runs)] * bool(page.runs),
    }
    sections = {name: parts for name, parts in sections.items() if parts}
    text = string.Template(_file("page.html")).substitute(
        policy=f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'",
        title=_text(page.title),
        summary=_text(page.summary),
        style=style,
        links="".join(f'<a href="#{name.lower()}">{name}</a>' for name in sections),
        sections="\n".join(
            f'<section id="{name.lower()}" aria-label="{name}">\n<h2>{name}</h2>\n{"".join(parts)}</section>'
            for name, parts in sections.items()
        ),
        dialogs="".join(_origin(keys[key], origin) for key, origin in (page.provenances or {}).items()),
        embeddings=json.dumps(described).replace("<", "\\u003c"),
        blocks="\n".join(
            f'<script type="application/octet-stream" id="block-{number}">{content}</script>'
            for number, content in enumerate(blocks.contents)
        ),
        script=script,
    )
    return text.encode(errors="replace")  # a path that is not UTF-8 holds surrogates, which cannot be encoded


def bundle() -> str:
    """Return all modules as one, without their imports and exports, which refer to each other."""
    joined = "\n".join(_file(f"{name}.mjs") for name in SCRIPTS)
    without_imports = re.sub(r"^import [^;]+;\n", "", joined, flags=re.MULTILINE)
    return re.sub(r"^export ", "", without_imports, flags=re.MULTILINE)


@functools.cache
def _file(name: str) -> str:
    return resources.files("fgssl.report.page").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _text(text: object) -> str:
    return html.escape(str(text))


def _row(cells: Iterable[object]) -> str:
    return "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in cells) + "</tr>"


def _head(names: Sequence[str]) -> str:
    return "<thead><tr>" + "".join(f'<th scope="col">{_text(name)}</th>' for name in names) + "</tr></thead>"


def _table(table: Table, keys: dict[str, str]) -> str:
    def entry(one: Entry, first: bool) -> str:
        shown = _text(one.text)
        if one.emphasis:
            tag = {"best": "strong", "second": "u"}[one.emphasis]
            shown = f"<{tag}>{shown}</{tag}>"
        if one.provenance:
            label = _text(f"{one.text}: show its origin")
            shown = f'<button type="button" data-origin="{keys[one.provenance]}" title="{label}">{shown}</button>'
        return f'<th scope="row">{shown}</th>' if first else f"<td>{shown}</td>"

    lines = "\n".join(
        "<tr>" + "".join(entry(one, place == 0) for place, one in enumerate(row)) + "</tr>" for row in table.rows
    )
    caption = f"<caption>{_text(table.caption)}</caption>"
    return f'<div class="scroll"><table>{caption}{_head(table.header)}<tbody>{lines}</tbody></table></div>\n'


def _notes(notes: Sequence[str]) -> str:
    return '<ul class="notes">' + "".join(f"<li>{_text(note)}</li>" for note in notes) + "</ul>\n"


def _figure(figure: Figure) -> str:
    source = f"data:{_MIME[figure.kind]};base64,{base64.b64encode(figure.content).decode()}"
    image = f'<img src="{source}" alt="{_text(figure.description)}">'
    caption = f"<figcaption><b>{_text(figure.name)}</b> {_text(figure.caption)}</figcaption>"
    return f"<figure>{image}{caption}</figure>\n"


def _runs(runs: Sequence[Run]) -> str:
    counts = Counter(run.state for run in runs)
    chips = "".join(f"<li>{_chip(state)} {counts[state]}</li>" for state in sorted(counts))
    lines = "".join(
        f'<tr><th scope="row">{_text(run.name)}</th><td>{_text(run.cell)}</td><td>{run.seed}</td>'
        f"<td>{_chip(run.state)}</td><td>{_text(run.detail)}</td></tr>"
        for run in runs
    )
    head = _head(["run", "cell", "seed", "state", "detail"])
    return f'<ul class="states">{chips}</ul><div class="scroll"><table>{head}<tbody>{lines}</tbody></table></div>\n'


def _chip(state: str) -> str:
    return f'<span class="state" data-state="{_text(state)}">{_text(state)}</span>'


def _origin(key: str, origin: Provenance) -> str:
    runs = "".join(
        _row([one.run.name, one.run.seed, one.run.state, ", ".join(one.jobs), _hours(one.hours), one.log])
        for one in origin.runs
    )
    run_head = _head(["run", "seed", "state", "jobs", "hours", "log"])
    parts = [f'<div class="scroll"><table>{run_head}<tbody>{runs}</tbody></table></div>']
    if origin.differences:
        lines = "".join(_row(difference) for difference in origin.differences)
        head = _head(["setting", "baseline", "here"])
        parts.append(f"<h4>Settings that differ from the baseline</h4><table>{head}<tbody>{lines}</tbody></table>")
    parts.append(f"<dl><dt>code</dt><dd>{_text(origin.code)}</dd><dt>data</dt><dd>{_text(origin.data)}</dd></dl>")
    close = '<button type="button" class="close" data-close aria-label="Close">×</button>'
    title = f'<h3 id="{key}-title">{_text(origin.title)}</h3>'
    return f'<dialog id="{key}" aria-labelledby="{key}-title">{close}{title}{"".join(parts)}</dialog>\n'


def _hours(hours: float | None) -> str:
    return "–" if hours is None else f"{hours:.2f}"


def _explorer(number: int, embedding: Embedding) -> str:
    left_out = f'<p class="warning">{_text(embedding.left_out)}</p>' if embedding.left_out else ""
    names = ", ".join(one.title for one in embedding.maps)
    return f'{left_out}<div class="explorer" data-embedding="{number}" aria-label="{_text(names)}"></div>\n'
