"""Record of packing beside the images: settings and remarks."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from fgssl.data.packing import pack
from fgssl.errors import DataError
from fgssl.settings.packing import PackingSettings
from fgssl.store.manifest import Manifest
from tests.data.photos import dataset, jpeg, packed


def test_settings_are_part_of_the_version(images: Path, tmp_path: Path) -> None:
    original = PackingSettings(shorter_side="original")
    given = (PackingSettings(), original, PackingSettings(workers=2, max_megapixels=1))
    manifests = [pack(dataset(images), tmp_path / str(number), settings) for number, settings in enumerate(given)]
    assert manifests[0].arguments == {"shorter_side": 256, "ground": "white", "accept_damaged": False}
    assert manifests[0].version == manifests[2].version != manifests[1].version


def turned() -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return exif.tobytes()


def test_remarks_count_and_name(images: Path, tmp_path: Path) -> None:
    Image.new("RGBA", (9, 9), (1, 2, 3, 4)).save(images / "3.jpg", "PNG")
    (images / "4.jpg").write_bytes(jpeg(4, 600, 400))
    (images / "5.jpg").write_bytes(jpeg(5, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"))
    (images / "6.jpg").write_bytes(jpeg(6)[:-60])
    Image.fromarray(np.arange(90, dtype=">u2").reshape(9, 10)).save(images / "7.jpg", "TIFF")
    Image.new("CMYK", (9, 9)).save(images / "8.jpg")
    for number in (10, 12):
        Image.new("P", (9, 9)).save(images / f"{number}.jpg", "PNG")
    (images / "11.jpg").write_bytes(jpeg(11, exif=turned()))
    with pytest.raises(DataError, match=r"1 image that cannot be packed:\n  6\.jpg: .*accept_damaged=true"):
        packed(images, tmp_path / "shards")
    discarded, *remarks = packed(images, tmp_path / "shards", accept_damaged=True)
    assert discarded == ("discards 3 shards of an interrupted packing, since accept_damaged was false and is true")
    assert [remark.splitlines()[0].split(" shrunk")[0].split(",")[0] for remark in remarks] == [
        "1 image",
        "1 image turned upright",
        "1 image in CMYK",
        "2 images with a palette",
        "1 image with 16 bits",
        "1 image composed on the ground that the key ground gives",
        "1 image damaged",
        "1 image with a damaged Exif block",
        "1 image with 16 bits that use less than half of their range and look dark: scale the values to 0-65535 first:",
    ]
    assert [remark.splitlines()[1:] for remark in remarks[:5]] == [[]] * 5
    assert [remark.splitlines()[1:] for remark in remarks[5:8:2]] == [["  3.jpg"], ["  5.jpg"]]
    assert "6.jpg (Premature end of JPEG" in remarks[6]
    assert "7.jpg (values up to 89)" in remarks[8]


def test_equal_images_of_two_splits_are_counted(images: Path, tmp_path: Path) -> None:
    for train, test in ((0, 45), (1, 46), (1, 47)):
        (images / f"{test}.jpg").write_bytes(jpeg(train))
    (images / "2.jpg").write_bytes(jpeg(3))  # within train
    remark, _ = packed(images, tmp_path / "shards")
    assert remark.splitlines()[0] == "3 images of test equal byte for byte in train:"
    assert sorted(line.strip() for line in remark.splitlines()[1:]) == [
        "45.jpg = 0.jpg",
        "46.jpg = 1.jpg",
        "47.jpg = 1.jpg",
    ]


def test_equal_images_with_different_labels_are_counted(images: Path, tmp_path: Path) -> None:
    for one, other in ((0, 2), (4, 7), (9, 4), (50, 51)):
        (images / f"{other}.jpg").write_bytes(jpeg(one))
    (images / "4.jpg").write_bytes(jpeg(4))
    (remark,) = packed(images, tmp_path / "shards")
    headline, *lines = [line.strip() for line in remark.splitlines()]
    assert headline == "2 images that occur with different labels:"
    assert sorted(" = ".join(sorted(line.split(" = "))) for line in lines) == [
        "4.jpg (a) = 7.jpg (b)",
        "50.jpg (a) = 51.jpg (b)",
    ]


def test_remarks_are_kept_but_are_no_part_of_the_version(images: Path, tmp_path: Path) -> None:
    (images / "2.jpg").write_bytes(jpeg(3))
    manifest = pack(dataset(images), tmp_path / "shards")
    assert manifest.remarks[0].startswith("1 image that occurs with different labels")
    assert Manifest.read(tmp_path / "shards") == manifest
    file = tmp_path / "shards" / "manifest.json"
    content = json.loads(file.read_text())
    del content["remarks"]  # as in manifests of earlier versions
    file.write_text(json.dumps(content))
    assert Manifest.read(tmp_path / "shards") == replace(manifest, remarks=())
