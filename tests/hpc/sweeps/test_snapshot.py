"""Frozen code: content-addressed, complete, and unaffected by later edits."""

import pytest

from fgssl.errors import UserError
from hpc.sweeps.snapshot import content_hash, freeze


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "package"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("ONE = 1\n")
    (folder / "inner" / "module.py").write_text("TWO = 2\n")
    (folder / "notes.txt").write_text("not code")
    return folder


def test_copies_all_python_files_once(package, tmp_path):
    frozen = freeze([package], tmp_path / "code")
    assert frozen == tmp_path / "code" / content_hash([package])
    files = sorted(str(file.relative_to(frozen)) for file in frozen.rglob("*") if file.is_file())
    assert files == ["package/__init__.py", "package/inner/module.py"]
    before = frozen.stat().st_mtime_ns
    assert freeze([package], tmp_path / "code") == frozen
    assert frozen.stat().st_mtime_ns == before
    assert [entry.name for entry in (tmp_path / "code").iterdir()] == [frozen.name]


def test_an_edit_makes_a_new_version_and_leaves_the_old_one(package, tmp_path):
    old = freeze([package], tmp_path / "code")
    (package / "__init__.py").write_text("ONE = 3\n")
    new = freeze([package], tmp_path / "code")
    assert old != new
    assert (old / "package" / "__init__.py").read_text() == "ONE = 1\n"


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
