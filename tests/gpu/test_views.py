"""Colors on a GPU equal those on the CPU."""

import numpy as np
import torch

from fgssl.settings.views import ViewSettings
from fgssl.views.maker import ViewMaker


def test_a_view_equals_that_of_the_cpu() -> None:
    settings = ViewSettings(image_size=32, solarize_probability=0.2)
    maker = ViewMaker(settings, num_views=2, seed=3, shard_size=64)
    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8))
    rows = np.arange(64)
    for view in (0, 1):
        expected = maker.view(crops, view, 0, rows)
        found = maker.view(crops.cuda(), view, 0, rows)
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-4)
