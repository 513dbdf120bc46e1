"""Commands that a user is told to give next."""

import os
import sys
from pathlib import Path

import pytest

from fgssl.commands.arguments import print_next


@pytest.mark.parametrize(("activated", "within"), [(True, True), (False, True), (False, False)])
def test_a_suggested_command_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], activated: bool, within: bool
) -> None:
    programs, other = tmp_path / ".venv" / "bin", tmp_path / "elsewhere"
    for folder in (programs, other):
        folder.mkdir(parents=True)
        (folder / "fgssl").touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, [programs, other] if activated else [other])))
    monkeypatch.chdir(tmp_path if within else other)
    print_next("fgssl", "status", Path("a b"), purpose="look")
    program = "fgssl" if activated else ".venv/bin/fgssl" if within else programs / "fgssl"
    assert capsys.readouterr().err == f"next: {program} status 'a b'  # look\n"
