import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fgssl.data.packing import pack
from fgssl.data.shards import ShardedSplit
from fgssl.data.source import SourceDataset
from fgssl.data.sources.cifar import CIFAR10, CIFAR100, CIFARSettings
from fgssl.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 3 * 32 * 32), dtype=np.uint8)
FINE, COARSE = ["apple", "bee", "cat"], ["plants", "animals"]
LABELS = np.array([[number % 3, int(number % 3 > 0)] for number in range(12)], dtype=np.uint8)  # fine, coarse
SMALL = CIFARSettings(accept_counts=True)


def binary_10(root: Path) -> Path:
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    (folder / "batches.meta.txt").write_text("\n".join(FINE) + "\n\n")
    for number, rows in enumerate(np.split(np.arange(12), 6)):
        name = f"data_batch_{number + 1}.bin" if number < 5 else "test_batch.bin"
        (folder / name).write_bytes(np.hstack([LABELS[rows, :1], PIXELS[rows]]).tobytes())
    return folder


def dump(path: Path, content: Any) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def python_10(root: Path) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    dump(folder / "batches.meta", {"label_names": FINE, "num_vis": 3072})
    for number, rows in enumerate(np.split(np.arange(12), 6)):
        name = f"data_batch_{number + 1}" if number < 5 else "test_batch"
        dump(folder / name, {"data": PIXELS[rows], "labels": LABELS[rows, 0].tolist(), "filenames": ["x", "y"]})
    return folder


def binary_100(root: Path) -> Path:
    folder = root / "cifar-100-binary"
    folder.mkdir(parents=True)
    (folder / "fine_label_names.txt").write_text("\n".join(FINE))
    (folder / "coarse_label_names.txt").write_text("\n".join(COARSE))
    for name, rows in (("train", np.arange(8)), ("test", np.arange(8, 12))):
        (folder / f"{name}.bin").write_bytes(np.hstack([LABELS[rows, ::-1], PIXELS[rows]]).tobytes())
    return folder


def python_100(root: Path) -> Path:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    dump(folder / "meta", {"fine_label_names": FINE, "coarse_label_names": COARSE})
    for name, rows in (("train", np.arange(8)), ("test", np.arange(8, 12))):
        fine, coarse = LABELS[rows].T.tolist()
        dump(folder / name, {"data": PIXELS[rows], "fine_labels": fine, "coarse_labels": coarse})
    return folder


def images(dataset: SourceDataset) -> dict[str, tuple[tuple[int, ...], NDArray[np.uint8]]]:
    samples = [recipe() for recipes in dataset.splits.values() for recipe in recipes]
    return {sample.source_id: (sample.labels, np.asarray(Image.open(io.BytesIO(sample.image)))) for sample in samples}


def message(root: Path, options: CIFARSettings = SMALL) -> str:
    with pytest.raises(DataError) as caught:
        CIFAR10.read(root, options)
    return str(caught.value)


@pytest.mark.parametrize("make", [binary_10, python_10])
@pytest.mark.parametrize("inside", [True, False])
def test_cifar_10(tmp_path: Path, make: Any, inside: bool) -> None:
    folder = make(tmp_path / "images")
    dataset = CIFAR10.read(folder if inside else folder.parent, SMALL)
    assert [(level.name, level.classes) for level in dataset.levels] == [("class", tuple(FINE))]
    found = images(dataset)
    names = [*(f"train/{number:05d}" for number in range(10)), "test/00000", "test/00001"]
    assert list(found) == names
    for row, (labels, pixels) in enumerate(found.values()):
        assert labels == (LABELS[row, 0],)
        np.testing.assert_array_equal(pixels, PIXELS[row].reshape(3, 32, 32).transpose(1, 2, 0))


@pytest.mark.parametrize("make", [binary_100, python_100])
def test_cifar_100(tmp_path: Path, make: Any) -> None:
    dataset = CIFAR100.read(make(tmp_path), SMALL)
    assert [(level.name, level.classes) for level in dataset.levels] == [
        ("fine", tuple(FINE)),
        ("coarse", tuple(COARSE)),
    ]
    for row, (labels, pixels) in enumerate(images(dataset).values()):
        assert labels == tuple(LABELS[row])
        np.testing.assert_array_equal(pixels, PIXELS[row].reshape(3, 32, 32).transpose(1, 2, 0))


def test_both_forms_give_one_version(tmp_path: Path) -> None:
    versions = [
        pack(CIFAR10.read(make(tmp_path / make.__name__), SMALL), tmp_path / f"{make.__name__}-shards").version
        for make in (binary_10, python_10)
    ]
    assert versions[0] == versions[1]
    assert len(ShardedSplit(tmp_path / "binary_10-shards", "train")) == 10


class Malicious:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.witness),)


def test_a_pickle_that_calls_functions_is_refused(tmp_path: Path) -> None:
    folder = python_10(tmp_path)
    dump(folder / "data_batch_2", {"data": Malicious(tmp_path / "called"), "labels": []})
    text = message(folder)
    assert f"{folder}/data_batch_2: cannot be read: its pickle calls posix.mkdir, which no CIFAR archive" in text
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("call", ["builtins eval", "os system", "numpy fromfile", "numpy.core.multiarray fromstring"])
def test_other_names_are_refused(tmp_path: Path, call: str) -> None:
    folder = python_10(tmp_path)
    module, name = call.split()
    (folder / "test_batch").write_bytes(f"c{module}\n{name}\n(S'1'\ntR.".encode())
    assert f"its pickle calls {module}.{name}" in message(folder)


def test_all_faults_at_once(tmp_path: Path) -> None:
    folder = binary_10(tmp_path / "1")
    (folder / "data_batch_1.bin").write_bytes(b"1234")
    (folder / "data_batch_2.bin").unlink()
    (folder / "batches.meta.txt").unlink()
    text = message(folder)
    for expected in (
        "data_batch_1.bin: cannot be read: it must hold records of 3073 bytes, but has 4 bytes",
        "data_batch_2.bin: cannot be read: No such file or directory",
        "batches.meta.txt: cannot be read: No such file or directory",
        "the official CIFAR-10 contains 50,000 train and 10,000 test images (10 x class)",
    ):
        assert expected in text
    folder = python_10(tmp_path / "2")
    whole = (folder / "data_batch_1").read_bytes()
    (folder / "data_batch_1").write_bytes(whole[: len(whole) // 2])
    dump(folder / "data_batch_2", {"data": PIXELS[:2], "labels": [1]})
    dump(folder / "data_batch_3", {"data": PIXELS[:2]})
    text = message(folder)
    for expected in (
        "data_batch_1: cannot be read: ",
        "data_batch_2: must hold one row of 3072 bytes for each of its 1 labels",
        "data_batch_3: cannot be read: it lacks labels",
    ):
        assert expected in text


def test_labels_without_a_name(tmp_path: Path) -> None:
    folder = binary_10(tmp_path)
    (folder / "batches.meta.txt").write_text("apple\nbee\n")
    assert "image 0 has labels (2,), which have no names" in message(folder)


def test_unexpected_counts_and_another_folder(tmp_path: Path) -> None:
    text = message(binary_10(tmp_path), CIFARSettings())
    assert "cifar10: found 10 train and 2 test images (3 x class), but the official CIFAR-10 contains 50,000" in text
    (tmp_path / "empty").mkdir()
    assert "no CIFAR-10 here: test_batch.bin or test_batch must be in" in message(tmp_path / "empty")


def test_archives_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-binary.tar.gz").touch()
    assert "cifar-10-binary.tar.gz: is a file: unpack it" in message(tmp_path / "cifar-10-binary.tar.gz")
    assert f"{tmp_path} holds cifar-10-binary.tar.gz: unpack cifar-10-binary.tar.gz" in message(tmp_path)
    folder = binary_10(tmp_path)
    (folder / "data_batch_3.bin").unlink()
    text = message(folder)
    assert "data_batch_3.bin: cannot be read: No such file or directory\nthe official CIFAR-10 contains" in text
    assert text.endswith(": unpack it again, or correct the files that are named above")
    (folder / "test_batch.bin").unlink()
    assert "holds batches.meta.txt, data_batch_1.bin, data_batch_2.bin, data_batch_4.bin" in message(folder)
