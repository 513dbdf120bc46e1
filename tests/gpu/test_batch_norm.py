"""BatchNorm in groups on a GPU: by kernels that take all groups at once."""

import copy

import pytest
import torch
from torch import nn

from fgssl.encoders.batch_norm import GroupedBatchNorm2d, RunningStatistics


def test_the_kernels_compute_what_batch_norm_does_group_by_group() -> None:
    pytest.importorskip("triton")
    from tests.encoders.check_batch_norm_kernels import check_all

    check_all("cuda")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_layer_does_what_it_does_on_the_cpu(dtype: torch.dtype) -> None:
    cpu = GroupedBatchNorm2d(nn.BatchNorm2d(24), 4)
    gpu = copy.deepcopy(cpu).cuda()
    images = (torch.randn(16, 24, 9, 9) * 2 + 3).to(dtype).contiguous(memory_format=torch.channels_last)
    with RunningStatistics(cpu) as on_cpu, RunningStatistics(gpu) as on_gpu:
        for _ in range(2):
            expected, found = cpu(images), gpu(images.cuda())
        on_cpu.move(on_cpu.taken())
        on_gpu.move(on_gpu.taken())
    assert found.dtype == dtype
    torch.testing.assert_close(found.cpu().float(), expected.float(), rtol=0.02, atol=0.02)
    for name, buffer in cpu.named_buffers():
        torch.testing.assert_close(gpu.get_buffer(name).cpu(), buffer, rtol=1e-3, atol=1e-3)


def test_a_layer_waits_for_nothing() -> None:
    layer = GroupedBatchNorm2d(nn.BatchNorm2d(24), 4).cuda()
    images = torch.randn(16, 24, 9, 9, device="cuda", requires_grad=True)
    layer(images).sum().backward()  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        layer(images).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
