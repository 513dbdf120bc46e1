"""Limits on the size of files and functions; `python -m benchmarks.house` prints all numbers."""

from pathlib import Path

from benchmarks import house

ROOT = Path(__file__).parents[1]
MOST_LINES_OF_A_METHOD = 120


def test_no_file_and_no_function_is_too_long() -> None:
    assert house.long_files(ROOT) == []
    assert house.long_functions(ROOT) == []


def test_a_method_is_read_in_one_sitting() -> None:
    lines = {file.name: len(file.read_text().splitlines()) for file in (ROOT / "fgssl" / "methods").glob("*.py")}
    # A bank apart would be shorter, but name the buffers of every checkpoint anew.
    assert [name for name, count in lines.items() if count > MOST_LINES_OF_A_METHOD] == ["synthesized.py"]
    assert lines["synthesized.py"] <= 150


def test_no_settings_class_is_asked_which_one_it_is() -> None:
    assert house.settings_ladders(ROOT) == []
