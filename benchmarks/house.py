"""Size and shape of the code: `python -m benchmarks.house [ROOT]` counts files, lines and rooms of a checkout.

It also lists files and functions over their limits, and two patterns to avoid: `isinstance` on settings classes, and
public mappings to `Any`. Rooms are the modules and packages directly below `fgssl` and `hpc`.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("fgssl", "hpc")
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 40


def sources(root: Path) -> list[Path]:
    """Return every source file of the two packages."""
    return [file for package in PACKAGES for file in sorted((root / package).rglob("*.py"))]


def rooms(root: Path) -> list[str]:
    """Return the names of the modules and packages directly below each package."""
    found = [path for package in PACKAGES for path in sorted((root / package).iterdir())]
    return [
        f"{path.parent.name}.{path.stem}"
        for path in found
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").exists()
    ]


def long_files(root: Path) -> list[str]:
    """Return `file: lines` for each file over the limit."""
    counts = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in sources(root)}
    return [f"{file.relative_to(root)}: {lines}" for file, lines in counts.items() if lines > MOST_LINES_OF_A_FILE]


def long_functions(root: Path) -> list[str]:
    """Return `file:line name: lines` for each function over the limit; docstrings and decorators do not count."""
    return [
        f"{file.relative_to(root)}:{node.lineno} {node.name}: {lines}"
        for file in sources(root)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and (lines := _body_lines(node)) > MOST_LINES_OF_A_FUNCTION
    ]


def settings_ladders(root: Path) -> list[str]:
    """Return `file:line` of each `isinstance` that tests for a settings class."""
    return [
        f"{file.relative_to(root)}:{call.lineno}"
        for file in sources(root)
        for call in _calls(file, "isinstance")
        if "Settings" in ast.unparse(call.args[1])
    ]


def untyped_mappings(root: Path) -> list[str]:
    """Return `file:line name` of each public function or field that takes, holds or returns a mapping to `Any`."""
    return [found for file in sources(root) for found in _untyped(file, root)]


def _untyped(file: Path, root: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            annotations = [argument.annotation for argument in [*node.args.args, *node.args.kwonlyargs]]
            hints, name = [hint for hint in [*annotations, node.returns] if hint is not None], node.name
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            hints = [field.annotation for field in node.body if isinstance(field, ast.AnnAssign)]
            name = node.name
        else:
            continue
        if any("[str, Any]" in ast.unparse(hint) for hint in hints):
            yield f"{file.relative_to(root)}:{node.lineno} {name}"


def _calls(file: Path, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield node


def _body_lines(node: ast.FunctionDef) -> int:
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def main() -> None:
    """Print all numbers of the checkout in the first argument, by default the working directory."""
    root = Path(sys.argv[1] if sys.argv[1:] else ".")
    files = sources(root)
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
    print(f"files {len(files)}, lines {lines}, rooms {len(rooms(root))}")
    for title, found in (
        ("files over the limit", long_files(root)),
        ("functions over the limit", long_functions(root)),
        ("isinstance on settings classes", settings_ladders(root)),
        ("public functions and classes with mappings to Any", untyped_mappings(root)),
    ):
        print(f"{title}: {len(found)}")
        for entry in found:
            print(f"  {entry}")


if __name__ == "__main__":
    main()
