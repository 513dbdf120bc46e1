"""The sdist builds a wheel, and the wheel installs a program that finds its profiles and sweep files."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = {".css", ".html", ".mjs"}
RENDER = """
from fgssl.report.page.content import Page
from fgssl.report.page.render import render
print(render(Page("title", "summary")).decode())
"""


@pytest.mark.slow
def test_an_installed_wheel_plans_a_sweep(tmp_path: Path) -> None:
    ignore = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "outputs", "shards", "build", "dist")
    shutil.copytree(ROOT, tmp_path / "fgssl", ignore=ignore)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    # Without --wheel, the wheel is built from the sdist, which so must hold everything.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", tmp_path / "fgssl")
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert len(list((tmp_path / "dist").glob("*.tar.gz"))) == 1

    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    python = venv / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-index", "--no-deps", wheel)
    (packages,) = venv.glob("lib/python*/site-packages")
    # The libraries of this environment, after the packages of the new one.
    (packages / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    assert run(python, "-c", "import fgssl; print(fgssl.__file__)").strip() == str(packages / "fgssl" / "__init__.py")
    for package in ("fgssl", "hpc"):
        assert (packages / package / "py.typed").is_file()
    assert (packages / "hpc" / "accelerate" / "one_node.yaml").is_file()
    of_page = {file.name for file in (ROOT / "fgssl" / "report" / "page").iterdir() if file.suffix in PAGE}
    assert {Path(name).suffix for name in of_page} == PAGE
    assert of_page <= {file.name for file in (packages / "fgssl" / "report" / "page").iterdir()}
    assert run(python, "-c", RENDER).startswith("<!doctype html>")

    fgssl, sweeps = venv / "bin" / "fgssl", venv / "share" / "fgssl" / "sweeps"
    assert "sweep" in run(fgssl, "--help")
    assert "5 runs, 0 done" in run(fgssl, "sweep", sweeps / "smoke.yaml", "--dry-run")
    submission = ("--cluster", "karolina", "cluster.account=OPEN-12-34", "--dry-run")
    assert "#SBATCH --account=OPEN-12-34" in run(fgssl, "sweep", sweeps / "smoke.yaml", *submission)
