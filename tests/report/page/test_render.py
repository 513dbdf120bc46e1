"""The HTML file: same bytes, nothing from outside, no name becomes markup."""

import base64
import gzip
import hashlib
import html.parser
import json
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fgssl.report.page.content import Page, Run
from fgssl.report.page.fitting import fit
from fgssl.report.page.render import render
from tests.report.page.toy import HOSTILE, pixels, toy_embedding, toy_page


class Elements(html.parser.HTMLParser):
    """Elements of a page as (tag, attributes), and the text of its scripts by id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str | None, str] = {}
        self.inside: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.found[-1] if self.found else ("", {})
        if tag == "script":
            self.scripts[attributes.get("id")] = self.scripts.get(attributes.get("id"), "") + data

    def tags(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag == name]


def whole_page() -> str:
    return render(toy_page(fit(toy_embedding(), pixels, 25_000_000))).decode()


def test_the_same_content_gives_the_same_bytes() -> None:
    assert whole_page() == whole_page()


def test_nothing_comes_from_outside_and_scripts_are_named_by_hash() -> None:
    text = whole_page()
    elements = Elements(text)
    sources = [attributes["src"] for _, attributes in elements.found if "src" in attributes]
    links = [attributes["href"] for _, attributes in elements.found if "href" in attributes]
    assert all(source is not None and source.startswith("data:image/") for source in sources)
    assert all(link is not None and (link.startswith("#") or link == "data:,") for link in links)
    assert all("style" not in attributes for _, attributes in elements.found)
    (policy,) = [one["content"] or "" for one in elements.tags("meta") if "http-equiv" in one]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    script, style = (
        text.split('<script type="module">')[1].split("</script>")[0],
        re.search(r"<style>(.*?)</style>", text, re.S),
    )
    assert style is not None
    for content in (script, style[1]):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_no_name_becomes_markup() -> None:
    page = replace(toy_page(toy_embedding()), title=HOSTILE, summary=HOSTILE, notes=(HOSTILE,))
    text = render(page).decode()
    assert HOSTILE not in text
    assert {one.get("type") for one in Elements(text).tags("script")} == {
        "application/json",
        "application/octet-stream",
        "module",
    }


def test_text_that_is_not_utf_8_is_replaced() -> None:
    embedding = toy_embedding()
    embedding = replace(embedding, ids=("a\udcff", *embedding.ids[1:]))
    page = replace(toy_page(embedding), notes=("/h\udcff/runs",))
    text = render(page).decode()
    assert "<li>/h?/runs</li>" in text


def test_blocks_hold_the_arrays() -> None:
    embedding = toy_embedding()
    scripts = Elements(render(toy_page(embedding)).decode()).scripts
    (described,) = json.loads(scripts["embeddings"])

    def content(reference: dict[str, object]) -> bytes:
        return gzip.decompress(base64.b64decode(scripts[f"block-{reference['block']}"]))

    first, map_ = embedding.maps[0], described["maps"][0]
    assert np.array_equal(np.frombuffer(content(map_["points"]), "<f4").reshape(-1, 2), first.points)
    assert np.array_equal(np.frombuffer(content(map_["neighbors"]), "<u2").reshape(-1, 10) - 1, first.neighbors)
    distances = np.frombuffer(content(map_["distances"]), "<u2").reshape(-1, 10) / 65_535 * map_["farthest"]
    assert np.allclose(distances, first.distances, atol=map_["farthest"] / 65_535)
    assert json.loads(content(described["ids"])) == list(embedding.ids)
    assert json.loads(content(described["levels"][0]["classes"])) == list(embedding.levels[0].classes)


def test_entries_lead_to_their_origin() -> None:
    elements = Elements(whole_page())
    origins = {one["id"] for one in elements.tags("dialog")}
    asked = [one["data-origin"] for one in elements.tags("button") if "data-origin" in one]
    assert len(asked) == 2
    assert set(asked) == origins


def test_a_sweep_without_a_finished_run_has_a_page() -> None:
    text = render(Page("t", "0 of 1 runs done", runs=(Run("a", "b", 0, "missing"),))).decode()
    assert 'data-state="missing"' in text
    assert 'id="embedding"' not in text
    assert 'id="tables"' not in text
