"""Trained encoders and the numbers of a sweep, for notebooks and scripts."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import timm
import torch
from torch import Tensor, nn

from fgssl.data.decoding import upright_rgb
from fgssl.encoders.build import small_image_stem
from fgssl.encoders.weights import load_weights
from fgssl.errors import UserError
from fgssl.progress import shown
from fgssl.report.rows import collect_rows
from fgssl.settings.views import ViewSettings
from fgssl.store.plan import listed_runs, read_plan
from fgssl.store.run_folder import RunFolder
from fgssl.views import crops
from fgssl.views.normalization import normalized, to_unit

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image


@dataclass(frozen=True)
class Transform:
    """The preparation of an image for an encoder, as the evaluation of its run has it.

    A callable from a PIL image of any size and mode to pixels (3, H, W), for datasets of torchvision.
    """

    views: ViewSettings

    @property
    def image_size(self) -> int:
        """The side H = W of the square that the encoder sees, pixels."""
        return self.views.image_size

    @property
    def mean(self) -> tuple[float, float, float]:
        """The mean of each channel that is subtracted from pixels in [0, 1]."""
        return self.views.mean

    @property
    def std(self) -> tuple[float, float, float]:
        """The standard deviation of each channel that pixels are divided by."""
        return self.views.std

    def __call__(self, image: "Image.Image") -> Tensor:
        """Return normalized pixels (3, H, W) in fp32."""
        pixels = torch.tensor(crops.evaluation_crop(upright_rgb(image), self.views))
        return normalized(to_unit(pixels[None]), self.views)[0]


class TrainedEncoder(nn.Module):
    """The type, for checkers, of what `load_encoder` returns: a model of timm's own class with one attribute more."""

    transform: Transform


def load_encoder(run: str | Path) -> TrainedEncoder:
    """Return the encoder that a run trained: a timm model on the CPU, in evaluation mode, images to features (N, D).

    `run` is a run folder, such as `outputs/smoke-demo/runs/mocov2-...`. The encoder has an attribute `transform`, a
    `Transform` from PIL images to its inputs. No part of it is frozen, and its BatchNorm is torch's own, so that any
    loop can train it further.

    Raises:
        UserError: `run` is no run folder, its training is not complete, or its method trains no encoder.
    """
    folder = RunFolder(Path(run).expanduser())
    if not folder.config_file.is_file():
        raise UserError(
            f"{folder.path}: is no run folder ({folder.config_file.name} is missing){listed_runs(folder.path)}"
        )
    if folder.trained() is None:
        raise UserError(
            f"{folder.path}: its training is not complete: finish it with the command of its sweep, or with "
            f"`fgssl train {shlex.quote(str(folder.config_file))}`"
        )
    config = folder.config()
    if not folder.encoder.is_file() or config.method.stand_in:
        raise UserError(f"{folder.path}: holds no encoder: method {config.method.name} trains none")
    arguments: dict[str, Any] = {**config.encoder.arguments}
    encoder = cast(TrainedEncoder, timm.create_model(config.encoder.name, False, num_classes=0, **arguments))
    if config.encoder.stem == "small_image":
        small_image_stem(encoder)
    load_weights(encoder, folder.encoder)
    encoder.transform = Transform(config.views)
    return encoder.eval()


def read_rows(sweep: str | Path) -> "pd.DataFrame":
    """Return one row for each cell and seed of a sweep, with the columns of rows.csv and `folder`, the run folder.

    Among them are `cell`, `seed`, `state`, the settings that cells vary, and the measures. `sweep` is the
    output folder of a sweep, which may still be at work: what a run has not yielded yet is NaN. Nothing is written.

    Raises:
        UserError: `sweep` is no output folder of a sweep.
    """
    import pandas as pd

    out = Path(sweep).expanduser()
    plan = read_plan(out)
    frame = pd.DataFrame(collect_rows(plan, out, shown))
    frame["folder"] = [str(RunFolder.in_output(out, run.run).path) for cell in plan.cells for run in cell.runs]
    return frame.astype(dict.fromkeys([*plan.columns, "wall_s"], "float64"))


def read_table(sweep: str | Path) -> "pd.DataFrame":
    """Return the table of a sweep, one row for each cell and metric, with the columns of table.csv.

    Among them are `cell`, `metric`, and the `mean` and `std` over the `n` seeds that are done. `sweep` is the output
    folder of a sweep, which may still be at work. Nothing is written.

    Raises:
        UserError: `sweep` is no output folder of a sweep.
    """
    from fgssl.report.tables import tabulate

    out = Path(sweep).expanduser()
    plan = read_plan(out)
    return tabulate(collect_rows(plan, out, shown), plan)
