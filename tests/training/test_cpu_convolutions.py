"""Half precision on CPUs: shapes that torch computes incorrectly are rejected, and others are unaffected."""

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.std_conv import ScaledStdConv2dSame, StdConv2dSame
from torch import nn
from torch.nn.functional import conv2d

from fgssl.errors import SettingsError
from fgssl.run.execution import execute
from fgssl.training import cpu_convolutions
from fgssl.training.cpu_convolutions import refuse_wrong_convolutions

CPU = torch.device("cpu")


def run(layer: nn.Conv2d, size: tuple[int, int], precision: str = "bf16", device: torch.device = CPU) -> None:
    """Run one forward pass of a checked network."""
    network = nn.Sequential(layer)
    refuse_wrong_convolutions(network, device, precision)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        network(torch.randn(4, layer.in_channels, *size))


def test_the_whole_message():
    with pytest.raises(SettingsError) as raised:
        run(nn.Conv2d(8, 16, 3, stride=2, padding=1), (1, 1))
    assert str(raised.value) == (
        "config: training.precision: bf16 on a CPU: 0 (8, 16, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1)) on a "
        "map of 1 x 1, smaller than its stride, for which torch returns an uninitialized weight gradient: take "
        "precision fp32, a larger views.image_size, or an encoder of less stride (encoder.arguments: "
        "{output_stride: 16} on a ResNet)"
    )


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"),
    [(3, 3, 1, (2, 2)), (5, 2, 2, (1, 1)), (7, 4, 3, (3, 3)), (3, 2, 1, (6, 1)), ((1, 3), 3, (0, 1), (3, 2))],
)
def test_padded_maps_smaller_than_the_stride_are_refused(kernel, stride, padding, size):
    with pytest.raises(SettingsError, match="smaller than its stride"):
        run(nn.Conv2d(8, 8, kernel, stride, padding), size)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"),
    [(3, 2, 1, (2, 2)), (3, 1, 1, (1, 1)), (1, 2, 0, (1, 1)), (7, 4, 3, (4, 4)), (3, 1, "same", (1, 1))],
)
def test_other_maps_are_not(kernel, stride, padding, size):
    run(nn.Conv2d(8, 8, kernel, stride, padding), size)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"), [(3, 2, 1, (2, 2)), (3, 1, 1, (1, 1)), (7, 4, 3, (4, 4))]
)
def test_the_gradient_of_those_is_right(kernel, stride, padding, size):
    """Else the rule above is not the whole rule on this CPU."""
    layer = nn.Conv2d(8, 8, kernel, stride, padding, bias=False)
    images = torch.randint(-2, 3, (4, 8, *size)).float()
    with torch.no_grad():
        layer.weight.copy_(torch.randint(-2, 3, layer.weight.shape))
    gradients = []
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            output = layer(images)
        (gradient,) = torch.autograd.grad(output.float().sum(), layer.weight)
        gradients.append(gradient)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0.02, atol=0.5)


@pytest.mark.parametrize(("precision", "device"), [("fp32", CPU), ("bf16", torch.device("cuda"))])
def test_full_precision_and_gpus_are_not_checked(precision, device):
    network = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1))
    refuse_wrong_convolutions(network, device, precision)
    network(torch.randn(4, 8, 1, 1))


@pytest.mark.parametrize("kind", [Conv2dSame, StdConv2dSame, ScaledStdConv2dSame])
def test_maps_that_a_layer_pads_itself_are_checked_as_padded(kind, monkeypatch):
    run(kind(8, 8, 5, 2), (2, 2))  # unpadded, the kernel would not fit
    run(kind(8, 8, 3, 1), (2, 2))
    monkeypatch.setattr(cpu_convolutions, "conv2d", wrong_in_half)
    with pytest.raises(SettingsError, match=r"on a map of 5 x 5 wrongly"):
        run(kind(8, 8, 5, 2), (2, 2))


def test_weights_without_gradient_may_meet_small_maps():
    """As of frozen encoders and of target networks, which run first and share the shapes of those that learn."""
    target, online = (nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1)) for _ in range(2))
    target.requires_grad_(False)
    refuse_wrong_convolutions(nn.ModuleList([target, online]), CPU, "bf16")
    target(torch.randn(4, 8, 1, 1))
    with pytest.raises(SettingsError, match="smaller than its stride"):
        online(torch.randn(4, 8, 1, 1))


def wrong_in_half(*arguments):
    output = conv2d(*arguments)
    return output.flip(0) if output.dtype == torch.bfloat16 else output


def test_a_convolution_that_differs_from_fp32_is_refused(monkeypatch):
    """On this CPU perhaps none does."""
    monkeypatch.setattr(cpu_convolutions, "conv2d", wrong_in_half)
    with pytest.raises(SettingsError, match=r"torch computes 0 \(8, 8, .*\) on a map of 5 x 6 wrongly"):
        run(nn.Conv2d(8, 8, 3), (5, 6))


def test_it_is_refused_where_it_first_runs_outside_autocast(monkeypatch):
    """As where a bank is filled before the first step."""
    monkeypatch.setattr(cpu_convolutions, "conv2d", wrong_in_half)
    network = nn.Sequential(nn.Conv2d(8, 8, 3))
    refuse_wrong_convolutions(network, CPU, "bf16")
    with pytest.raises(SettingsError, match="wrongly"):
        network(torch.randn(4, 8, 5, 6))


def test_each_shape_is_compared_once(monkeypatch):
    compared = []

    def no_error(layer: nn.Conv2d, images: torch.Tensor, dtype: torch.dtype) -> float:
        compared.append(images.shape[-1])
        return 0.0

    monkeypatch.setattr(cpu_convolutions, "_output_error", no_error)
    network = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1))
    refuse_wrong_convolutions(network, CPU, "bf16")
    for size in (4, 4, 6, 4):
        network(torch.randn(2, 4, size, size))
    assert compared == [4, 6]


def test_the_random_state_is_not_touched():
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    layer = nn.Conv2d(4, 4, 3)
    torch.manual_seed(3)
    network = nn.Sequential(layer)
    refuse_wrong_convolutions(network, CPU, "bf16")
    network(torch.ones(1, 4, 4, 4))
    assert torch.equal(torch.randn(4), expected)


def test_a_run_is_refused_in_its_first_step(tiny_config, tmp_path):
    """16 px through a ResNet of stride 32: its last stage has a map of 1 x 1 to halve."""
    config = tiny_config("training.precision=bf16", "encoder.arguments.output_stride=32")
    with pytest.raises(SettingsError, match=r"encoder\.layer4\.0\.conv1 .* on a map of 1 x 1, smaller"):
        execute(config, tmp_path)
    assert not list(tmp_path.glob("runs/*/trained.json"))
