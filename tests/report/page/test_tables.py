"""Tables of the page: the text of table.md, its emphasis, and the origin of each entry."""

from collections.abc import Callable
from typing import Any

from fgssl.report.layout import EMPTY, lay_out
from fgssl.report.markdown import markdown
from fgssl.report.page.content import Entry, Page
from fgssl.report.page.render import render
from fgssl.report.page.tables import page_tables
from fgssl.report.provenance import provenances
from fgssl.report.rows import collect_rows
from fgssl.report.tables import tabulate
from fgssl.store.plan import read_plan

VALUES: dict[str, list[float | None]] = {
    "base": [50.0, 50.1, 50.2],
    "sigma=0.1": [53.0, 53.2, None],
    "sigma=0.5": [60.0, 60.2, 60.1],
}
MARKS = {"": "{}", "best": "**{}**", "second": "_{}_"}


def _page(finished: Callable[[dict[str, list[float | None]]], Any]) -> tuple[Page, str]:
    """Return the page of a sweep, and its table.md."""
    out = finished(VALUES)
    out.content |= {"primary": "linear_100", "reference": {"sigma=0.1": {"linear_100": 60.0}}}
    out.write_plan()
    plan = read_plan(out.path)
    rows = collect_rows(plan, out.path)
    layout = lay_out(tabulate(rows, plan), rows, plan)
    page = Page(
        title=layout.title,
        summary="",
        tables=page_tables(layout),
        notes=tuple(layout.notes),
        provenances=provenances(plan, rows, out.path, {}),
    )
    return page, markdown(layout)


def test_text_and_emphasis_are_those_of_table_md(finished: Callable[[dict[str, list[float | None]]], Any]) -> None:
    page, text = _page(finished)
    shown = [
        [MARKS[entry.emphasis].format(entry.text) for entry in row]
        for table in page.tables
        for row in [[Entry(name) for name in table.header], *table.rows]
    ]
    lines = [line.strip("| ") for line in text.splitlines() if line.startswith("| ") and "--" not in line]
    assert shown == [[cell.strip() for cell in line.split(" | ")] for line in lines]
    assert {entry.emphasis for table in page.tables for row in table.rows for entry in row} == set(MARKS)
    assert [f"{table.caption}:" for table in page.tables] == [line for line in text.splitlines() if line.endswith(":")]
    assert [f"- {note}" for note in page.notes] == [line for line in text.splitlines() if line.startswith("- ")]


def test_each_value_leads_to_the_origin_of_its_cell(finished: Callable[[dict[str, list[float | None]]], Any]) -> None:
    page, _ = _page(finished)
    assert page.provenances is not None
    for table in page.tables:
        for first, *others in table.rows:
            assert first.provenance == ""
            assert {entry.provenance for entry in others if entry.text != EMPTY} <= {first.text}
            assert all((entry.text == EMPTY) == (entry.provenance == "") for entry in others)
    html = render(page).decode()
    assert html.count("<dialog ") == 3
    buttons = sum(entry.provenance != "" for table in page.tables for row in table.rows for entry in row)
    assert html.count('<button type="button" data-origin=') == buttons > 0
