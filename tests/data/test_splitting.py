from collections import Counter
from pathlib import Path

import pytest

from fgssl.data.sources import splitting
from fgssl.data.sources.labeled_files import LabeledFile
from fgssl.data.sources.splitting import equal_files, split


def files(
    folder: Path, names: dict[str, str], contents: dict[str, bytes] | None = None, groups: dict[str, str] | None = None
) -> list[LabeledFile]:
    """Return one file for each of the names, whose values are their classes."""
    found = []
    for name, class_name in names.items():
        path = folder / name
        path.write_bytes((contents or {}).get(name, name.encode()))
        found.append(LabeledFile(path, name, (class_name,), (groups or {}).get(name, "")))
    return found


def in_test(found: list[LabeledFile], fraction: float = 0.3, seed: int = 0) -> set[str]:
    faults: list[str] = []
    parts, _ = split(found, fraction, seed, faults)
    assert not faults
    assert {file.source_id for file in found} == {file.source_id for part in parts.values() for file in part}
    return {file.source_id for file in parts["test"]}


def test_share_of_each_class(tmp_path: Path) -> None:
    found = files(
        tmp_path, {f"{name}{number}": name for name, total in (("a", 100), ("b", 3)) for number in range(total)}
    )
    test = in_test(found)
    assert Counter(name[0] for name in test) == {"a": 30, "b": 1}
    assert in_test(found[::-1]) == test
    assert in_test(found, seed=1) != test


@pytest.mark.parametrize("added", range(20))
def test_one_more_image_moves_at_most_one(tmp_path: Path, added: int) -> None:
    found = files(tmp_path, {f"{number}": "a" for number in range(40)})
    before = in_test(found)
    after = in_test([*found, *files(tmp_path, {f"new{added}": "a"})])
    moved = (before ^ after) - {f"new{added}"}
    assert len(moved) <= 1


def test_groups_are_not_divided(tmp_path: Path) -> None:
    names = {f"{group}-{frame}": "ab"[group % 2] for group in range(20) for frame in range(5)}
    found = files(tmp_path, names, groups={name: name.split("-")[0] for name in names})
    test = in_test(found)
    assert {name.split("-")[0] for name in test}.isdisjoint({name.split("-")[0] for name in names.keys() - test})
    assert Counter(names[name] for name in test) == {"a": 15, "b": 15}


def test_a_class_of_two_large_groups(tmp_path: Path) -> None:
    names = dict.fromkeys("abcdef", "x")
    found = files(tmp_path, names, groups=dict.fromkeys("abcd", "1") | dict.fromkeys("ef", "2"))
    assert in_test(found, fraction=0.05) == {"e", "f"}


def test_equal_bytes_stay_together(tmp_path: Path) -> None:
    tail = b"-" * 5000
    contents = {"a": b"1" + tail, "b": b"2" + tail, "c": b"1" + tail, "d": b"x", "e": b"y", "f": b"1" + tail}
    found = files(tmp_path, dict.fromkeys("abcde", "x") | {"f": "y", "g": "y", "h": "y"}, contents)
    assert equal_files([file.path for file in found]) == [[0, 2, 5]]
    for seed in range(10):
        parts, remarks = split(found, 0.3, seed, [])
        test = {file.source_id for file in parts["test"]}
        assert test & {"a", "c", "f"} in ({"a", "c", "f"}, set())
        assert test & {"g", "h", "f"} not in (set(), {"g", "h", "f"})
    (remark,) = remarks
    assert remark.endswith("its files are kept in one split:\n  a, c, f")


def test_classes_that_cannot_be_split(tmp_path: Path) -> None:
    found = files(tmp_path, {"a": "one", "b": "group", "c": "group", "d": "x", "e": "x"}, groups={"b": "1", "c": "1"})
    faults: list[str] = []
    split(found, 0.5, 0, faults)
    assert sorted(fault.removeprefix(f"{tmp_path}/") for fault in faults) == [
        "a: class one has one image; train and test need one each: add one, or remove it",
        "b: class group has 2 images, which belong to one group or have equal bytes; train and test need one each: "
        "add others, or remove them",
    ]


def test_two_classes_that_share_large_groups(tmp_path: Path) -> None:
    names = {f"{name}{number}": name for name in "xy" for number in range(10)}
    found = files(tmp_path, names, groups={name: str(int(name[1:]) % 2) for name in names})
    test = in_test(found, fraction=0.2)
    assert Counter(name[0] for name in test) == {"x": 5, "y": 5}


def test_work_grows_with_the_images_and_not_with_their_square(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {f"{number}-{copy}": str(number) for number in range(200) for copy in range(2)}
    found = files(tmp_path, names, groups={name: name.split("-")[0] for name in names})
    looks: list[object] = []
    classes_of = splitting._classes

    def counted(unit: list[int], files: list[LabeledFile]) -> Counter[str]:
        looks.append(unit)
        return classes_of(unit, files)

    monkeypatch.setattr(splitting, "_classes", counted)
    faults: list[str] = []
    split(found, 0.2, 0, faults)
    assert len(faults) == 200  # no class can be divided
    assert len(looks) < 10 * 200


def test_empty_files_equal_no_other(tmp_path: Path) -> None:
    found = files(tmp_path, dict.fromkeys("abc", "x"), dict.fromkeys("ab", b""))
    assert equal_files([file.path for file in found]) == []
