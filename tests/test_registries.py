"""Lines of registries: messages about faulty ones, and the files outside of the package that they name."""

import hashlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fgssl
import hpc
from fgssl.__main__ import COMMANDS, main
from fgssl.errors import UserError
from fgssl.noises.perturbation import Perturbation
from fgssl.registries import REGISTRIES, Registry, files_outside, load, load_implementation
from fgssl.settings.hierarchy import HCLSettings
from fgssl.settings.methods import METHODS, MethodSettings
from fgssl.settings.noise import VARIANTS, NoiseSettings
from fgssl.settings.training import OPTIMIZERS
from fgssl.store.provenance import code_version

ROOT = Path(__file__).parents[1]


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path of modules, with a package, a namespace package, a single module and three faulty ones."""
    for name, text in {
        "parts_package/__init__.py": "raise RuntimeError('imported merely to be hashed')",
        "parts_package/inner/method.py": "ONE = 1",
        "parts_package/notes.txt": "not code",
        "parts_namespace/inner.py": "TWO = 2",
        "parts_module.py": "THREE = 3",
        "parts_raising.py": "\nraise ValueError('no such preset')",
        "parts_lacking.py": "import no_such_library",
        "parts_broken.py": "\n\ndef (",
    }.items():
        file = tmp_path / "user" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        monkeypatch.delitem(sys.modules, Path(name).parts[0].removesuffix(".py"), raising=False)
    monkeypatch.syspath_prepend(tmp_path / "user")
    return tmp_path / "user"


def test_every_registry_is_listed() -> None:
    declared = {
        f"{'.'.join(file.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')}:{name}"
        for package in (fgssl, hpc)
        for file in Path(package.__path__[0]).rglob("*.py")
        for name in re.findall(r"^(\w+) = Registry\(", file.read_text(), flags=re.M)
    }
    assert declared | {"fgssl.settings.noise:VARIANTS"} == set(REGISTRIES)


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from fgssl.store.provenance import code_version; from hpc.sweeps.snapshot import packages; "
        "assert packages() and code_version(); print({'torch', 'pandas', 'timm', 'numpy'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "set()"


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize("listed", REGISTRIES)
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("no_such_module:Part", "No module named 'no_such_module': correct the line, or add"),
        ("parts_module.inner:Part", r"No module named 'parts_module.inner'; .*: correct the line"),
        ("parts_module:Part", "module 'parts_module' has no attribute 'Part': correct the line"),
        ("parts module:Part", "invalid format: 'parts module:Part': correct the line"),
        ("parts_raising:Part", r"\S*parts_raising\.py:2: ValueError: no such preset: correct that file"),
        ("parts_lacking:Part", r"\S*parts_lacking\.py:1: ModuleNotFoundError: No module named 'no_such_library': "),
        ("parts_lacking", r"\S*parts_lacking\.py:1: ModuleNotFoundError: No module named 'no_such_library': "),
        ("parts_broken:Part", r"\S*parts_broken\.py:3: SyntaxError: .*: correct that file"),
    ],
)
def test_a_faulty_line_is_named_with_its_reason(
    listed: str, path: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, (module, name) = pkgutil.resolve_name(listed), listed.split(":")
    file = re.escape(str(sys.modules[module].__file__))
    where = rf"^{file}: {name}\['faulty'\]: '{path}' cannot be imported: "
    if isinstance(registry, Registry):
        monkeypatch.setitem(registry, "faulty", path)
        with pytest.raises(UserError, match=where + reason):
            registry.load("faulty")
    else:
        monkeypatch.setitem(VARIANTS, "faulty", {"stream": path})
        with pytest.raises(UserError, match=where + reason):
            Perturbation(NoiseSettings(variant="faulty"), seed=0)


@pytest.mark.usefixtures("user")
def test_a_module_in_a_package_keeps_its_reason(user: Path) -> None:
    (user / "parts_namespace" / "figure.py").write_text("import no_such_library")
    with pytest.raises(UserError, match=r"place: .*figure\.py:1: ModuleNotFoundError: No module named 'no_such_lib"):
        load("parts_namespace.figure", "place")


@pytest.mark.usefixtures("user")
def test_commands_and_implementations(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(COMMANDS, "count-runs", "parts_module:command")
    assert main(["count-runs"]) == 2
    assert "__main__.py: COMMANDS['count-runs']: 'parts_module:command' cannot" in capsys.readouterr().err

    class Settings(MethodSettings):
        implementation = "parts_module:Method"

    with pytest.raises(UserError, match=r"test_registries\.py: Settings\.implementation: 'parts_module:Method' cannot"):
        load_implementation(Settings(name="mine"))


def test_files_of_registered_modules(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert files_outside() == []
    monkeypatch.setitem(METHODS, "packaged", "parts_package.inner.method:Settings")
    monkeypatch.setitem(VARIANTS, "single", {"one": "parts_module:one", "two": "fgssl.noises.perturbation:alike"})
    monkeypatch.setitem(OPTIMIZERS, "spaced", "parts_namespace.inner:Settings")
    assert files_outside() == [user / "parts_module.py", user / "parts_namespace", user / "parts_package"]
    monkeypatch.delitem(METHODS, "packaged")
    monkeypatch.setattr(HCLSettings, "implementation", "parts_package.inner.method:HCL")
    assert user / "parts_package" in files_outside()
    monkeypatch.setitem(METHODS, "mistyped", "parts_pakage.inner.method:Settings")
    with pytest.raises(UserError, match=r"methods\.py: METHODS\['mistyped'\]: .* no file holds module 'parts_pakage'"):
        files_outside()


def test_modules_that_a_part_needs_are_among_them(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "my_settings.py": (
            "class Mine:\n    implementation = 'my_method:Mine'\n"
            "class NeverChosen:\n    implementation = 'no_such_module:Method'"
        ),
        "my_method.py": "import torch, my_losses\nfrom parts_package.inner import method",
        "my_losses.py": "def loss():\n    from parts_namespace import inner",
        "my_unused.py": "",
    }.items():
        (user / name).write_text(text)
    monkeypatch.setitem(METHODS, "mine", "my_settings:Mine")
    names = ["my_losses.py", "my_method.py", "my_settings.py", "parts_namespace", "parts_package"]
    assert files_outside() == [user / name for name in names]
    (user / "my_settings.py").write_text("class Mine:\n    implementation: str = 'my_metod:Mine'")
    with pytest.raises(
        UserError, match=r"my_settings\.py:1: Mine\.implementation: 'my_metod:Mine' cannot be imported: no"
    ):
        files_outside()


def test_libraries_beside_an_installed_part_are_none_of_them(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = user / "site-packages"
    installed.mkdir()
    (installed / "my_installed.py").write_text("import my_library")
    (installed / "my_library.py").write_text("")
    monkeypatch.syspath_prepend(installed)
    monkeypatch.setitem(METHODS, "mine", "my_installed:Mine")
    assert files_outside() == [installed / "my_installed.py"]


def test_the_code_version_covers_them(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = code_version.__wrapped__
    package, digest = ROOT / "fgssl", hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(file.relative_to(package).as_posix().encode() + file.read_bytes())
    assert version() == digest.hexdigest()[:12]  # as in the records of earlier versions

    monkeypatch.setitem(METHODS, "packaged", "parts_package.inner.method:Settings")
    monkeypatch.setitem(VARIANTS, "single", {"one": "parts_module:one"})
    seen = {digest.hexdigest()[:12], version()}
    for name in ("parts_package/inner/method.py", "parts_module.py"):
        (user / name).write_text("EDITED = True")
        seen.add(version())
    assert len(seen) == 4
    (user / "parts_package" / "notes.txt").write_text("other")
    assert version() in seen
