"""How the house reads, where a program can tell: the opening of docstrings and the verbs of programs."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(file for folder in ("fgssl", "hpc", "benchmarks") for file in (ROOT / folder).rglob("*.py"))

NO_OPENINGS = frozenset(
    {
        *("Of", "That", "Those", "These", "What", "Whose", "Which", "Where", "When", "While", "How", "Why"),
        *("Who", "As", "And", "Or", "But", "Not", "So", "Nor", "For", "From", "By", "In"),
        *("On", "At", "To", "With", "Without", "Within", "Because", "If", "Is", "Are", "Was", "Were"),
        *("Has", "Have", "Does", "Did", "All", "None", "Nothing"),
    }
)
"""Words that open a fragment: a docstring begins with a verb (functions) or with its noun (all others)."""
PEOPLE_ONLY = re.compile(
    r"\b(tell|tells|told|say|says|said|mend|mends|mended|ask|asks|asked|know|knows|want|wants|forget|forgets)\b"
)
"""Programs return, raise, print, log, report, reject, retry and wait."""
OTHER_OPENINGS = re.compile(r"(Return|Yield)s\b|[a-z`]|\w+(ing|ed)\b")
"""No imperative: 'Returns', an argument's name, a participle."""


def docstrings() -> Iterator[tuple[str, str, str]]:
    """Yield (place, kind, text) of every docstring of functions, classes and modules, and of fields and constants."""
    for file in FILES:
        place = file.relative_to(ROOT)
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
                if text := ast.get_docstring(node):
                    kind = "callable" if _is_callable(node) else "noun"
                    yield f"{place}:{getattr(node, 'lineno', 1)}", kind, text
                for first, second in zip(node.body, node.body[1:], strict=False):
                    if isinstance(first, ast.Assign | ast.AnnAssign) and (text := _string(second)):
                        yield f"{place}:{second.lineno}", "noun", text


def _is_callable(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    is_property = any("property" in ast.unparse(decorator) for decorator in node.decorator_list)
    return not is_property and node.name != "__init__" and not node.name.startswith("test_")


def _string(statement: ast.stmt) -> str:
    constant = statement.value if isinstance(statement, ast.Expr) else None
    return constant.value if isinstance(constant, ast.Constant) and isinstance(constant.value, str) else ""


@pytest.mark.parametrize("kind", ["callable", "noun"])
def test_no_docstring_opens_with_a_fragment(kind: str) -> None:
    found = []
    for place, of, text in docstrings():
        first = re.split(r"[\s,.:;]", text.strip(), maxsplit=1)[0]
        other = kind == "callable" and OTHER_OPENINGS.match(text.strip()) and first != "Embed"
        if of == kind and (first in NO_OPENINGS or other):
            found.append(f"{place}: {text.strip().splitlines()[0]}")
    assert not found, "\n".join(found)


def test_programs_do_what_programs_do() -> None:
    found = [
        f"{place}: {match[0]}: {text.strip()}"
        for place, _, text in docstrings()
        for match in PEOPLE_ONLY.finditer(text)
    ]
    assert not found, "\n".join(found)
