"""The program `fgssl`: its commands, help, wrong arguments and shell completion."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from fgssl.__main__ import COMMANDS, invoke, main, program

ROOT = Path(__file__).parents[2]
SMOKE = str(ROOT / "sweeps" / "smoke.yaml")
LONG = 300 * "x"
PROGRAM = "import sys; from fgssl.__main__ import main; sys.exit(main())"
WITH_SOURCES = {**os.environ, "PYTHONPATH": str(ROOT)}
NO_HEAVY_IMPORTS = """
import sys
from fgssl.__main__ import main
code = main(sys.argv[1:])
heavy = {"torch", "torchvision", "timm", "accelerate", "pandas", "h5py", "submitit", "rich"} & set(sys.modules)
assert not heavy, heavy
sys.exit(code)
"""


def complete(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """Return a function that completes the last word as bash does; nothing may be written to stderr."""
    monkeypatch.setenv("_FGSSL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(["fgssl", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    assert main() == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out.split()


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--help"]) == 0
    printed = capsys.readouterr().out
    section = printed.partition("Commands:\n")[2].splitlines()[: len(COMMANDS)]
    assert [line.split()[0] for line in section] == list(COMMANDS)
    assert "..." not in "".join(section), "a command's first sentence does not fit into its line"


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([]) == 2
    assert "Commands:" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([name, "-h"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: fgssl {name} ")
    command = program.get_command(click.Context(program), name)
    assert command is not None
    assert all(option.help for option in command.params if isinstance(option, click.Option))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["swep"], "unknown command 'swep': did you mean 'sweep'?"),
        (["sweep", "a.yaml", "--dry-rum"], "Did you mean '--dry-run'?"),
        (["sweep", "a.yaml", "--jobs", "two"], "'two' is not a valid integer"),
        (["status"], "Missing argument 'OUT'"),
        (["sync", "out", "--wait", "--until-answered"], "--wait and --until-answered exclude each other"),
    ],
)
def test_wrong_arguments(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "\nerror: " in error
    assert error.startswith("Usage: fgssl ")


@pytest.mark.parametrize(("command", "file"), [("train", "CONFIG.yaml"), ("sweep", "SWEEP.yaml")])
def test_an_override_in_place_of_the_file(command: str, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "method.name=mocov2"]) == 2
    assert capsys.readouterr().err == f"error: {file} is missing: give it before method.name=mocov2\n"


@pytest.mark.parametrize("error", [EOFError, BrokenPipeError, ZeroDivisionError])
def test_an_error_of_a_command_keeps_its_traceback(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error("by the test")

    monkeypatch.setattr("fgssl.commands.aggregate.aggregate", broken)
    with pytest.raises(error, match="by the test"):
        main(["aggregate", "out"])


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["status", LONG], "a name has at most 255 bytes: give a shorter one"),
        (["sync", LONG], "a name has at most 255 bytes: give a shorter one"),
        (["aggregate", LONG], "a name has at most 255 bytes: give a shorter one"),
        (["sweep", SMOKE, "--dry-run", f"data.folder={LONG}"], "a name has at most 255 bytes: give a shorter one"),
        (["sweep", SMOKE, "--dry-run", "--out", LONG], "a name has at most 255 bytes: give a shorter one"),
        (["sweep", SMOKE, "--out", f"{SMOKE}/out"], "a part of this path is a file: give another path"),
    ],
)
def test_a_path_that_cannot_be_is_named(arguments: list[str], advice: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(advice)
    assert LONG in line or SMOKE in line


def test_a_full_disk_is_an_error_of_the_user(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")  # of a write, which has no name

    monkeypatch.setattr("fgssl.commands.aggregate.aggregate", full)
    assert main(["aggregate", "out"]) == 2
    assert capsys.readouterr().err == "error: No space left on device: make room, or give another folder\n"


def test_a_working_directory_that_was_deleted(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    script = f"cd {tmp_path}/gone && rmdir ../gone && exec {sys.executable} -P -c '{PROGRAM}' status /tmp"
    ended = subprocess.run(["sh", "-c", script], env=WITH_SOURCES, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == "error: the working directory was deleted: change to another one\n"


@pytest.mark.parametrize("name", ["hpc.py", "hpc/__init__.py", "hpc/nothing"])
def test_a_file_that_is_imported_in_place_of_ours(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    paths = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "fgssl", "status", "out"],
        env={**os.environ, **paths},
        capture_output=True,
        text=True,
        check=False,
    )
    if name == "hpc/nothing":  # a folder without __init__.py is passed over
        assert "out: no such folder" in ended.stderr
    else:
        words = "is imported in place of fgssl's own package hpc"
        assert ended.stderr.startswith(f"error: {tmp_path / name}: {words}"), ended.stderr
    assert ended.returncode == 2


def test_options_stand_anywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    smoke, out = str(ROOT / "sweeps" / "smoke.yaml"), str(tmp_path / "out")
    assert invoke(["sweep", smoke, "seeds=[3]", "--out", out, "--dry-run", "data.toy.seed=1", "--jobs", "1"]) == 0
    first = capsys.readouterr().out
    assert invoke(["sweep", "--dry-run", "--jobs=1", "--out", out, smoke, "seeds=[3]", "data.toy.seed=1"]) == 0
    assert capsys.readouterr().out == first
    assert "seeds 3," in first


def test_commands_and_presets_and_clusters_are_completed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    smoke = str(ROOT / "sweeps" / "smoke.yaml")
    assert complete(monkeypatch, capsys, "st") == ["plain,status"]
    assert complete(monkeypatch, capsys, "sweep", smoke, "--preset", "d") == ["plain,demo"]
    assert complete(monkeypatch, capsys, "sweep", "seeds=[1]", "--cluster", "karo") == ["plain,karolina"]
    assert complete(monkeypatch, capsys, "doctor", "--cluster", "gen") == ["plain,generic"]
    assert complete(monkeypatch, capsys, "doctor", "--cluster", "./my") == ["file,./my"]


@pytest.mark.parametrize("sweep", ["no.yaml", "broken.yaml", ".", "--wait"])
def test_completion_is_silent_without_a_sweep(
    sweep: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.yaml").write_text("presets: [")
    assert complete(monkeypatch, capsys, "sweep", sweep, "--preset", "d") == []
    assert complete(monkeypatch, capsys, "swep", "x") == []


@pytest.mark.parametrize("name", ["sweep", "aggregate", "pack", "train", "evaluate"])
def test_the_module_of_a_command_is_the_command(name: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", f"fgssl.{name}", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ended.stdout.startswith(f"Usage: fgssl {name} ")


def test_a_dry_run_imports_nothing_heavy(tmp_path: Path) -> None:
    command = ["sweep", "sweeps/smoke.yaml", "--dry-run", "--out", str(tmp_path / "out")]
    subprocess.run([sys.executable, "-c", NO_HEAVY_IMPORTS, *command], cwd=ROOT, check=True)


def test_a_reader_that_leaves_early_ends_a_command_in_silence() -> None:
    command = f"set -o pipefail; {sys.executable} -m fgssl --help | true"
    for _ in range(5):  # the reader has left before the first line, or not
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert (done.returncode in (0, 141), done.stderr) == (True, "")
