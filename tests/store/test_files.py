"""Files that several processes share."""

import errno
import hashlib
import os
import threading
import time
from pathlib import Path

import pytest

from fgssl.errors import UserError
from fgssl.store import files


def test_a_file_that_comes_later_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "data" / "toy" / "manifest.json"

    def write() -> None:
        file.parent.mkdir(parents=True)
        file.write_text("{}")

    writer = threading.Timer(0.3, write)
    writer.start()
    files.wait_until_visible(file)
    assert file.is_file()
    writer.join()


def test_the_wait_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_VISIBLE_WITHIN_S", 0.1)
    began = time.monotonic()
    files.wait_until_visible(tmp_path / "data" / "toy" / "manifest.json")
    assert 0.1 <= time.monotonic() - began < 10


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as first, (tmp_path / "lock").open("w") as second:
        assert files.lock(first)
        assert not files.lock(second, patience_s=0.1)
        first.close()
        assert files.lock(second)


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"weights")
    assert files.file_sha256(tmp_path / "file") == hashlib.sha256(b"weights").hexdigest()


def test_a_write_that_fails_leaves_nothing_and_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(UserError, match="taken: cannot be written"):
        files.write_atomically(tmp_path / "taken", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_an_error_while_a_record_is_read_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **keywords: object) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "read_text", broken)
    with pytest.raises(OSError, match=f"Input/output error: '{tmp_path / 'record.json'}'"):
        files.read_record(tmp_path / "record.json", dict)
