"""Records on disk: reading returns what was written, and errors name damaged files."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fgssl.errors import UserError
from fgssl.settings.config import Config
from fgssl.store.files import read_record, record_json
from fgssl.store.records import (
    CheckpointMark,
    Environment,
    Evaluation,
    Identity,
    Progress,
    Trained,
)
from fgssl.store.run_folder import RunFolder

MADE_BY = Environment(code_version="c1", processes=2, engine="ddp", threads=1, device="cpu", versions={"python": "3"})
TRAINED = Trained(
    steps=3,
    wall_s=1.5,
    metrics={"loss": 0.1},
    environments=(MADE_BY, dataclasses.replace(MADE_BY, processes=1)),
    data_version="d1",
    start={"encoder": "beef", "decoder": None},
    state_sha256="f00d",
)
RECORDS = [
    TRAINED,
    dataclasses.replace(TRAINED, state_sha256=None),
    Evaluation(measures={"mAP": 1 / 3, "outliers": 3}, wall_s=0.5, code_version="c1", data_version="d1", device="cpu"),
    Progress(step=1, total_steps=2, loss=float("inf"), images_per_s=3.5, updated=0.0),
    CheckpointMark(
        step=5,
        identity=Identity("f00d", "d1", {"encoder": None}),
        environments=(MADE_BY,),
        state_sha256="beef",
        sha256={"state.pt": "cafe"},
    ),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_what_is_written_is_read_back(record: object, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(record_json(record))
    assert read_record(tmp_path / "record.json", type(record)) == record
    assert read_record(tmp_path / "nothing.json", type(record)) is None


def test_counts_stay_integers(tmp_path: Path) -> None:
    """In rows.csv 3 must not become 3.0."""
    (tmp_path / "record.json").write_text(record_json(RECORDS[2]))
    found = read_record(tmp_path / "record.json", Evaluation)
    assert found is not None
    assert repr(found.measures["outliers"]) == "3"


def changed(**changes: object) -> str:
    return json.dumps({**json.loads(record_json(TRAINED)), **changes})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (record_json(TRAINED)[:40], "Unterminated string"),
        ("", "Expecting value"),
        ("[5]", "input should be a dictionary"),
        ('{"steps": 3}', "data_version: field required"),
        (changed(steps="three"), "steps: input should be a valid integer"),
        (changed(environments=[{}]), "environments.0.code_version: field required"),
    ],
)
def test_a_damaged_record_is_named_in_one_line(
    text: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trained.json").write_text(text)
    assert RunFolder(tmp_path).trained() is None
    assert RunFolder(tmp_path).trained() is None
    [line] = capsys.readouterr().err.splitlines()  # once for a process
    assert line.startswith(f"WARNING: {tmp_path / 'trained.json'}: ")
    assert reason in line
    assert line.endswith("the run counts as not done, and its next execution writes the file anew")


@pytest.mark.parametrize("damaged", ["trained.json", "evaluation"])
def test_a_run_with_a_damaged_result_is_not_done(
    damaged: str, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    config, folder = tiny_config("evaluation={}"), RunFolder(tmp_path)
    for name, record in zip(folder.results([config]), (TRAINED, RECORDS[2]), strict=True):
        (tmp_path / name).write_text(record_json(record))
    assert folder.state(config) == "DONE"
    [file] = tmp_path.glob(f"{damaged}*")
    file.write_text("")
    assert (folder.state(config), folder.is_whole(file.name)) == ("MISSING", False)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_that_was_cut_anywhere_is_named(record: object, tmp_path: Path) -> None:
    file, whole = tmp_path / "record.json", record_json(record).encode()
    for size in range(len(whole) - 2):
        file.write_bytes(whole[:size])
        with pytest.raises(UserError) as caught:
            read_record(file, type(record))
        assert str(caught.value).startswith(f"{file}: cannot be read as a record of kind {type(record).__name__} (")
        assert str(caught.value).endswith("delete it so that it is written anew")


@pytest.mark.parametrize("content", [b"", b"null", b"{}]", b"\xff", b'{"run": "no\xc3', b"[1, 2"])
@pytest.mark.parametrize("kind", [dict[str, str], float, list[int]])
def test_a_plain_value_that_is_damaged_is_named(kind: Any, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "value").write_bytes(content)
    words = f"{tmp_path / 'value'}: cannot be read as a record of kind {kind.__name__}"
    with pytest.raises(UserError, match=re.escape(words)):
        read_record(tmp_path / "value", kind)


def test_a_folder_in_place_of_a_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "trained.json").mkdir()
    with pytest.raises(UserError, match=r"trained\.json.*Is a directory"):
        RunFolder(tmp_path).trained()


def test_damaged_progress_is_none(tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_text("{")
    assert RunFolder(tmp_path).progress() is None


def test_keys_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "trained.json").write_text(changed(invented_later=1))
    assert RunFolder(tmp_path).trained() == TRAINED
