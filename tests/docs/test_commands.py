"""Every command of README and docs fits the program: its options, sweep files, settings and profiles exist.

bash reads the commands, with every program replaced by one that notes its arguments, so variables and quotes count.
"""

import itertools
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fgssl.__main__ import COMMANDS, program
from fgssl.commands import pack
from fgssl.data.sources import source_named
from fgssl.settings import config as configs
from fgssl.settings.layers import parse_overrides
from hpc.cluster.site.profile_files import PREFIX, load_profile
from hpc.sweeps.grid import expand
from hpc.sweeps.plan import plan
from tests.docs.pages import PAGES, ROOT, blocks, text

SHELL = ("console", "bash")
WITH_COMMANDS = [page for page in PAGES if blocks(page, *SHELL)]
FILLED_IN = {"=PROJECT": "=project_465000000", "SITE.yaml": "generic.yaml"}
"""Placeholders in the pages, and the values that are checked in their place."""
NOTE = """
note() { printf '%s\\037' "$@" >> noted; printf '\\n' >> noted; }
command_not_found_handle() { note "$@"; }
cd() { :; }
"""
SCRIPTS = {"pack": "pack", "sweep_one_node": "sweep", "aggregate": "aggregate"}
"""Command that a script of `slurm/` hands its arguments to; the others train."""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the programs note their arguments, with the files that the pages have the reader save."""
    folder = tmp_path_factory.mktemp("home") / "fgssl"
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "pip", "fgssl", "accelerate", "sphinx-build"):
        (programs / name).write_text(f'#!/bin/bash\n{NOTE}note "$0" "$@"\n')
        (programs / name).chmod(0o755)
    (programs / "activate").touch()
    for part in ("sweeps", "slurm", "hpc/accelerate", "hpc/container"):
        shutil.copytree(ROOT / part, folder / part)
    for page in PAGES:
        for block in blocks(page, "yaml"):
            if block.file is not None:
                file = folder / block.file
                assert not file.exists() or file.read_text() == block.text, f"two pages have another {block.file}"
                file.write_text(block.text)
    return folder


def _noted(script: str, clone: Path) -> list[list[str]]:
    """Return the arguments of each program that a script calls, the program first."""
    for placeholder, value in FILLED_IN.items():
        script = script.replace(placeholder, value)
    (clone / "noted").write_text("")
    environment = {"PATH": "/no/programs", "HOME": str(clone.parent), "USER": "user", "SCRATCH": "/scratch/user"}
    done = subprocess.run(
        ["/bin/bash", "-euc", NOTE + script], cwd=clone, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{script}\n{done.stderr}"
    return [line.split("\037")[:-1] for line in (clone / "noted").read_text().splitlines()]


def _of_fgssl(call: Sequence[str]) -> list[str] | None:
    """Return the arguments that `fgssl` is given, or None if this call is of another program."""
    if Path(call[0]).name == "fgssl":
        return list(call[1:])
    for number, argument in enumerate(call):
        if argument == "-m" and call[number + 1].split(".")[0] == "fgssl":
            return [*call[number + 1].split(".")[1:], *call[number + 2 :]]
        if argument.endswith(".sbatch"):
            assert (ROOT / argument).is_file(), argument
            return [SCRIPTS.get(Path(argument).stem, "train"), *call[number + 1 :]]
    return None


def _check(arguments: Sequence[str], clone: Path) -> None:
    """Raise an error for arguments that the program would refuse."""
    if arguments[0] in ("--help", "--version"):
        return
    name, *rest = arguments
    context = program.make_context("fgssl", ["--help"], resilient_parsing=True)
    command = program.get_command(context, name)
    assert command is not None, f"no command {name}"
    if "--help" in rest:
        return
    given = command.make_context(name, rest, parent=context).params
    overrides = list(given.get("overrides", ()))
    if name == "sweep":
        profile = [override for override in overrides if override.startswith(PREFIX)]
        if given["cluster"] is not None:
            load_profile(given["cluster"], profile)
        plan(
            expand(
                clone / given["sweep"], given["preset"], [override for override in overrides if override not in profile]
            )
        )
    elif name == "doctor":
        load_profile(given["cluster"], overrides)
    elif name == "train" and "method.name=alignment" not in overrides:  # which the reader has just added
        configs.load(clone / given["file"], overrides)
    elif name == "pack" and not (given["packed"] or given["inspected"]):
        source = source_named(rest[0])
        num_paths = len(source.paths) + 1
        assert len(rest) > num_paths, f"fgssl pack {rest[0]} needs {source.usage()}"
        pack._settings(parse_overrides(rest[num_paths + 1 :]), source.settings)


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_every_command_fits_the_program(page: str, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone)
    # One script a page, for a block may use the variables of the one before it.
    calls = _noted("\n".join(block.script for block in blocks(page, *SHELL)), clone)
    assert calls
    for call in calls:
        for option, value in itertools.pairwise(call):
            assert option != "--config_file" or (ROOT / value).is_file(), value
        arguments = _of_fgssl(call)
        if arguments is not None:
            _check(arguments, clone)


def test_most_pages_have_commands_and_wrong_ones_are_found(clone: Path) -> None:
    """Else nothing above would be checked, and nobody would notice."""
    assert len(WITH_COMMANDS) >= 10
    call = _noted('mine="a=1 b"\n.venv/bin/fgssl sweep "x y" $mine', clone)
    assert [_of_fgssl(each) for each in call] == [["sweep", "x y", "a=1", "b"]]
    for wrong in (
        ["swep", "sweeps/smoke.yaml"],
        ["sweep", "sweeps/smoke.yaml", "--dryrun"],
        ["sweep", "sweeps/smoke.yaml", "training.epoch=1"],
        ["sweep", "sweeps/smoke.yaml", "--preset", "papr"],
        ["sweep", "sweeps/smoke.yaml", "--cluster", "slurm/karolina.yaml", "cluster.acount=OPEN-12-34"],
        ["train", "photos.yaml", "training.epoch=1"],
        ["pack", "folder", "photos", "shards/photos", "seeed=1"],
    ):
        with pytest.raises(Exception, match=r"No such|unknown|no command|did you mean"):
            _check(wrong, clone)


def _inline(page: str) -> Iterator[list[str]]:
    for code in re.findall(r"`fgssl ([^`]+)`", re.sub(r"^ *```.*?^ *```$", "", text(page), flags=re.M | re.S)):
        yield code.split()


@pytest.mark.parametrize("page", PAGES)
def test_commands_within_sentences_exist(page: str) -> None:
    context = program.make_context("fgssl", ["--help"], resilient_parsing=True)
    for name, *rest in _inline(page):
        if name in ("COMMAND", "--help"):
            continue
        assert name in COMMANDS, f"fgssl {name}"
        command = program.get_command(context, name)
        assert command is not None
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {argument for argument in rest if argument.startswith("--")} <= known, f"fgssl {name} {rest}"
