"""Networks on a few images: Grad-CAM, gates and reconstructions against slow loops and closed forms."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fgssl.encoders.build import build_encoder
from fgssl.errors import DataError
from fgssl.report import networks
from fgssl.report.figures.records import Embedding, NotDrawnError, Records
from fgssl.report.networks import Chosen, attention, gates, reconstructions
from fgssl.settings import config as configs
from tests.report.figures.conftest import Embedded

PLAIN_VIEWS = {
    "crop_area": [1.0, 1.0],
    "jitter_probability": 0.0,
    "gray_probability": 0.0,
    "blur_probability": 0.0,
    "horizontal_flip": False,
}


class Mean(nn.Module):
    """Encoder whose feature is the mean color, and whose feature map is the image."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Identity()
        self.feature_info = [{"module": "map", "num_chs": 3}]

    def forward(self, images: Tensor) -> Tensor:
        return self.map(images).mean(dim=(2, 3))


def of_noise(embedded: Embedded, **noise: Any) -> tuple[Embedding, Chosen]:
    """Return a finished run with random networks and that noise, and its first test images."""
    embedded.out.planned("sigma=0.5", 0)["config"]["method"]["noise"] |= noise
    embedded.out.write_plan()
    embedded.finish("sigma=0.5", 0)
    embedded.add_weights("sigma=0.5", 0)
    (one,) = Records(embedded.out.path)["embeddings"]
    return one, Chosen(embedded.images["test"], np.array([5, 0, 11]))


def test_images_are_those_of_the_rows(embedded: Embedded) -> None:
    images = embedded.images["test"]
    chosen = Chosen(images, np.array([5, 0, 11]))
    assert len(chosen) == 3
    assert (chosen.pixels(1) == images.pixels(0)).all()
    assert (chosen.labels == images.labels[[5, 0, 11]]).all()
    assert chosen.source_ids == [images.source_ids[row] for row in (5, 0, 11)]


def test_a_damaged_image_is_named(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fgssl.data.shards.ShardedSplit.read", lambda *_: b"no image")
    name = embedded.images["test"].source_ids[3]
    with pytest.raises(DataError, match=f"image {name} cannot be decoded"):
        Chosen(embedded.images["test"], np.array([3])).resized(8)


def test_views_keep_the_order_of_the_images(embedded: Embedded) -> None:
    config = configs.parse({"views": {"image_size": 32, **PLAIN_VIEWS}}, "test")
    chosen = Chosen(embedded.images["test"], np.arange(7))
    views = networks._features_of_views(config, nn.Flatten(), chosen)
    assert len(views) == networks.VIEWS
    for view in views:
        assert torch.allclose(view, networks._originals(config, chosen).flatten(1), atol=0.05)


def test_attention_is_grad_cam(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    views = [torch.randn(4, 3, generator=generator) for _ in range(2)]
    monkeypatch.setattr(networks, "_encoder", lambda one: Mean())
    monkeypatch.setattr(networks, "_features_of_views", lambda *_: views)
    config = configs.parse({"views": {"image_size": 8}}, "test")
    chosen = Chosen(embedded.images["test"], np.arange(4))
    found = attention(SimpleNamespace(config=config), chosen)  # type: ignore[arg-type]
    pixels = networks._originals(config, chosen).numpy()
    for number in range(4):
        weights = sum(view[number].numpy() / np.linalg.norm(view[number].numpy()) for view in views)
        scores = [
            [max(0.0, sum(weights[c] * pixels[number, c, y, x] for c in range(3))) for x in range(8)] for y in range(8)
        ]
        expected = np.array(scores) - np.min(scores)
        assert found[number] == pytest.approx(expected / max(expected.max(), 1e-12), abs=1e-5)


def test_an_image_to_which_nothing_adds_has_no_attention(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configs.parse({"views": {"image_size": 8, "mean": [-1.0] * 3}}, "test")  # all inputs are positive
    monkeypatch.setattr(networks, "_encoder", lambda one: Mean())
    monkeypatch.setattr(networks, "_features_of_views", lambda *_: [-torch.ones(2, 3)])
    found = attention(SimpleNamespace(config=config), Chosen(embedded.images["test"], np.arange(2)))  # type: ignore[arg-type]
    assert (found == 0).all()


@pytest.mark.parametrize(
    ("name", "arguments", "shapes"),
    [
        ("resnet18", {"output_stride": 8}, [(32, 32), (16, 16), (8, 8), (8, 8), (8, 8)]),
        ("vit_tiny_patch16_224", {"img_size": 64, "depth": 3, "embed_dim": 12}, [(4, 4)] * 3),
        (
            "swin_tiny_patch4_window7_224",
            {"img_size": 64, "window_size": 4, "patch_size": 4, "embed_dim": 12, "depths": [1, 1, 1, 1]},
            [(16, 16), (8, 8), (4, 4), (2, 2)],
        ),
    ],
)
def test_feature_maps_of_all_kinds_of_encoders(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch, name: str, arguments: dict[str, Any], shapes: list[Any]
) -> None:
    given = {
        "encoder": {"name": name, "arguments": {**arguments, **({"drop_path_rate": 0.0} if "swin" in name else {})}}
    }
    config = configs.parse({**given, "views": {"image_size": 64}}, "test")
    torch.manual_seed(0)
    encoder = build_encoder(config.encoder, 64).eval()
    monkeypatch.setattr(networks, "_encoder", lambda one: encoder)
    seen: list[Any] = []
    last = networks._last_fine

    def noting(maps: Any) -> Any:
        seen.extend(maps)
        return last(maps)

    monkeypatch.setattr(networks, "_last_fine", noting)
    found = attention(SimpleNamespace(config=config), Chosen(embedded.images["test"], np.arange(2)))  # type: ignore[arg-type]
    assert [tuple(one.shape[2:]) for one, _ in seen] == shapes
    assert found.shape == (2, 64, 64)
    assert found.max() > 0.5


def test_the_last_map_that_is_fine_enough_and_used_is_taken() -> None:
    maps = [
        (torch.full((1, 1, side, side), float(side)), torch.tensor(used))
        for side, used in [(8, 1), (4, 1), (4, 0), (2, 1)]
    ]
    assert networks._last_fine(maps)[0][0, 0, 0, 0] == 4
    assert networks._last_fine(maps)[1] == 1
    assert networks._last_fine(maps[3:])[0].shape[2] == 2
    with pytest.raises(NotDrawnError, match="depends on none of the encoder's feature maps"):
        networks._last_fine(maps[2:3])


def test_gates_follow_the_formulas(embedded: Embedded) -> None:
    one, chosen = of_noise(embedded, threshold={"quantile": 0.5})
    found = gates(one, chosen)
    bank = embedded.features("train", 0.3).astype(np.float64)
    columns = bank / np.linalg.norm(bank, axis=0) * np.sqrt(len(bank) / 1024)
    spread = columns.std(axis=0)
    assert found.spread == pytest.approx(spread, rel=1e-4)
    scaled = (spread - spread.min()) / (spread.max() - spread.min())
    assert found.low_variance == pytest.approx(np.where(spread < np.median(spread), 1 - scaled, 0), abs=1e-4)
    features, gradient = networks._features_and_gradient(one.config, networks._encoder(one), chosen)
    for gate, f, a in zip(found.grad_cam, features.numpy(), -gradient.numpy(), strict=True):
        scores = np.maximum(a * f, 0)
        assert gate == pytest.approx(1 - (scores - scores.min()) / (scores.max() - scores.min()), abs=1e-5)


def test_the_gradient_is_that_of_a_cosine(embedded: Embedded) -> None:
    one, chosen = of_noise(embedded)
    encoder = networks._encoder(one)
    features, gradient = networks._features_and_gradient(one.config, encoder, chosen)
    views = networks._features_of_views(one.config, encoder, chosen)
    assert (features * gradient).sum(dim=1).abs().max() < 1e-6
    step = 1e-3 * gradient / gradient.norm(dim=1, keepdim=True) * features.norm(dim=1, keepdim=True)
    assert (networks._cosine(features - step, views) > networks._cosine(features, views)).all()


def test_reconstructions_differ_by_the_noise_alone(embedded: Embedded) -> None:
    one, chosen = of_noise(embedded, sigma_grad_cam=0.0, sigma_low_variance=0.0)
    silent = reconstructions(one, chosen)
    assert (silent.plain == silent.perturbed).all()
    assert silent.plain.shape == (3, 32, 32, 3)
    method = replace(one.config.method, noise=replace(one.config.method.added_noise, sigma_grad_cam=50.0))  # type: ignore[type-var, call-arg]
    noisy = reconstructions(replace(one, config=replace(one.config, method=method)), chosen)
    assert noisy.plain == pytest.approx(silent.plain)
    assert np.abs(noisy.perturbed - noisy.plain).max() > 0.01
    assert noisy.perturbed.min() >= 0
    assert noisy.perturbed.max() <= 1
