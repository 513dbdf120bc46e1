"""Tests that docs/explanation/traps.md names as evidence must exist."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
TRAPS = TESTS.parent / "docs" / "explanation" / "traps.md"


def test_every_test_that_the_traps_name_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", TRAPS.read_text())
    assert len(named) > 50
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not (TESTS / file).exists() or f"def {name}(" not in (TESTS / file).read_text()
    ]
    assert not missing
