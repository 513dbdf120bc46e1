"""Addition of a command: one file, and one line of `COMMANDS`."""

from pathlib import Path

import pytest

from fgssl.__main__ import COMMANDS, invoke, main

COUNT_RUNS = '''
from pathlib import Path

import click

from fgssl.errors import UserError


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--name", default="runs")
def command(out, name):
    """Count the runs of a sweep."""
    if not out.is_dir():
        raise UserError(f"{out}: no such folder")
    print(len(list(out.iterdir())), name)
'''


@pytest.fixture
def count_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "count_runs_command.py").write_text(COUNT_RUNS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(COMMANDS, "count-runs", "count_runs_command:command")


@pytest.mark.usefixtures("count_runs")
def test_an_added_command_runs_and_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs" / "a").mkdir(parents=True)
    assert invoke(["count-runs", str(tmp_path / "runs"), "--name", "done"]) == 0
    assert capsys.readouterr().out == "1 done\n"
    assert main(["count-runs", str(tmp_path / "elsewhere")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'elsewhere'}: no such folder\n"
    assert invoke(["--help"]) == 0
    assert "count-runs  Count the runs of a sweep.\n" in capsys.readouterr().out
