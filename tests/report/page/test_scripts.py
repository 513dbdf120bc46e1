"""The page's scripts: unit tests of their pure functions by node, syntax, and calls that they must not contain."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fgssl.report.page.render import SCRIPTS, bundle

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "fgssl" / "report" / "page"
FORBIDDEN = (
    "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "fetch(", "XMLHttpRequest",
    "WebSocket(", "setAttribute('style'", "webgl", "</script", "http:", "https:", "console.", "debugger", "var ",
)  # fmt: skip


@pytest.fixture
def node() -> str:
    found = shutil.which("node")
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("node is not installed: apt-get install nodejs")
    return str(found)


def run(*command: str, text: str = "") -> None:
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_pure_functions(node: str) -> None:
    run(node, "--test", str(HERE / "scripts.test.mjs"))


def test_modules_and_their_bundle_parse(node: str, tmp_path: Path) -> None:
    joined = tmp_path / "bundle.mjs"
    joined.write_text(bundle(), encoding="utf-8")  # a name that two modules declare is an error here
    for file in [*PAGE.glob("*.mjs"), joined]:
        run(node, "--check", str(file))


def test_every_module_is_bundled_once_and_after_those_it_imports() -> None:
    assert sorted(SCRIPTS) == sorted(file.stem for file in PAGE.glob("*.mjs"))
    for place, name in enumerate(SCRIPTS):
        text = (PAGE / f"{name}.mjs").read_text(encoding="utf-8")
        for imported in re.findall(r'^import .* from "./(\w+).mjs";$', text, re.MULTILINE):
            assert imported in SCRIPTS[:place], f"{name} imports {imported}"
    assert not re.search(r"^(import|export)\b", bundle(), re.MULTILINE)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_module_is_in_order(name: str) -> None:
    text = (PAGE / f"{name}.mjs").read_text(encoding="utf-8")
    assert [word for word in FORBIDDEN if word in text] == []
    lines = text.splitlines()
    assert len(lines) <= 400
    assert [line for line in lines if line != line.rstrip() or "\t" in line or len(line) > 120] == []
    for names in re.findall(r"^import \{ (.*) \} from", text, re.MULTILINE):
        body = re.sub(r"^import .*$", "", text, flags=re.MULTILINE)
        assert [one for one in names.split(", ") if not re.search(rf"\b{one}\b", body)] == [], "imported, not used"
