"""Frozen code: content-addressed, complete, and unaffected by later edits."""

import pytest

from fgssl.errors import UserError
from fgssl.settings.methods import METHODS
from hpc.sweeps.snapshot import content_hash, freeze, packages


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "fgssl"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("ONE = 1\n")
    (folder / "inner" / "module.py").write_text("TWO = 2\n")
    (folder / "notes.txt").write_text("not code")
    return folder


def test_copies_all_python_files_once(package, tmp_path):
    frozen = freeze([package], tmp_path / "code")
    assert frozen == tmp_path / "code" / content_hash([package])
    files = sorted(str(file.relative_to(frozen)) for file in frozen.rglob("*") if file.is_file())
    assert files == ["fgssl/__init__.py", "fgssl/inner/module.py"]
    before = frozen.stat().st_mtime_ns
    assert freeze([package], tmp_path / "code") == frozen
    assert frozen.stat().st_mtime_ns == before
    assert [entry.name for entry in (tmp_path / "code").iterdir()] == [frozen.name]


def test_an_edit_makes_a_new_version_and_leaves_the_old_one(package, tmp_path):
    old = freeze([package], tmp_path / "code")
    (package / "__init__.py").write_text("ONE = 3\n")
    new = freeze([package], tmp_path / "code")
    assert old != new
    assert (old / "fgssl" / "__init__.py").read_text() == "ONE = 1\n"


def test_version_depends_on_names_and_content_only(package, tmp_path):
    version = content_hash([package])
    (package / "notes.txt").write_text("other")
    (package / "__init__.py").touch()
    assert content_hash([package]) == version
    (package / "inner" / "module.py").rename(package / "inner" / "renamed.py")
    assert content_hash([package]) != version


def test_nowhere_to_copy_to(package, tmp_path):
    (tmp_path / "code").write_text("a file")
    with pytest.raises(UserError, match="the code cannot be copied here"):
        freeze([package], tmp_path / "code")


def test_a_single_module_lies_beside_the_packages(package, tmp_path):
    (tmp_path / "module.py").write_text("ONE = 1\n")
    old = freeze([package, tmp_path / "module.py"], tmp_path / "code")
    assert sorted(file.name for file in old.iterdir()) == ["fgssl", "module.py"]
    (tmp_path / "module.py").write_text("ONE = 2\n")
    assert freeze([package, tmp_path / "module.py"], tmp_path / "code") != old
    assert (old / "module.py").read_text() == "ONE = 1\n"


def test_of_a_namespace_in_two_folders_the_first_file_is_taken(package, tmp_path):
    second = tmp_path / "second" / "fgssl"
    second.mkdir(parents=True)
    (second / "__init__.py").write_text("ONE = 9\n")
    (second / "further.py").write_text("THREE = 3\n")
    frozen = freeze([package, second], tmp_path / "code")
    assert (frozen / "fgssl" / "__init__.py").read_text() == "ONE = 1\n"
    assert (frozen / "fgssl" / "further.py").read_text() == "THREE = 3\n"


def test_registered_parts_are_copied_unless_they_are_installed(tmp_path, monkeypatch):
    installed = tmp_path / "site-packages"
    for folder, name in ((tmp_path, "part_beside"), (installed, "part_installed")):
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text("")
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setitem(METHODS, name, f"{name}:Settings")
    assert [source.name for source in packages()] == ["fgssl", "hpc", "part_beside.py"]


def test_all_files_of_other_packages_are_copied_but_caches(package, tmp_path):
    part = package.rename(tmp_path / "part")
    for name in ("inner/table.json", "__pycache__/x.txt", ".git/HEAD", "old.pyc"):
        (part / name).parent.mkdir(exist_ok=True)
        (part / name).write_text("{}")
    (part / "broken").symlink_to("nowhere")
    frozen = freeze([part], tmp_path / "code")
    files = sorted(str(file.relative_to(frozen)) for file in frozen.rglob("*") if file.is_file())
    assert files == ["part/__init__.py", "part/inner/module.py", "part/inner/table.json", "part/notes.txt"]
    (part / "inner" / "table.json").write_text("[]")
    assert freeze([part], tmp_path / "code") != frozen


def test_a_package_with_large_data_is_refused(package, tmp_path):
    part = package.rename(tmp_path / "part")
    with (part / "inner" / "images.bin").open("wb") as file:
        file.truncate(50_000_001)
    with pytest.raises(UserError, match=f"^{part}: has more than 50 MB of files, .*: move data and outputs out"):
        freeze([part], tmp_path / "code")
    assert not (tmp_path / "code").exists()
