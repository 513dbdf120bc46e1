"""How long and how a method is trained, and what it may use of the machine."""

from typing import Annotated, Literal

from pydantic import Field

from fgssl.settings import (
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    default_name,
    settings,
)


@settings
class SGDSettings:
    name: Literal["sgd"] = "sgd"
    learning_rate: PositiveFloat = 0.03
    """At the start of the schedule; for each 256 images of a batch where `learning_rate_per_256` is set."""
    momentum: Fraction = 0.9
    weight_decay: NonNegativeFloat = 1e-4


@settings
class AdamSettings:
    name: Literal["adam"] = "adam"
    learning_rate: PositiveFloat = 1e-4
    weight_decay: NonNegativeFloat = 0.0


@settings
class AdamWSettings:
    """For transformers: the weight decay is not scaled by the gradient (Loshchilov and Hutter 2019)."""

    name: Literal["adamw"] = "adamw"
    learning_rate: PositiveFloat = 1e-4
    weight_decay: NonNegativeFloat = 0.05


OptimizerSettings = Annotated[
    SGDSettings | AdamSettings | AdamWSettings, Field(discriminator="name"), default_name("sgd")
]


@settings
class TrainingSettings:
    epochs: PositiveInt = 100
    global_batch_size: PositiveInt = 128
    """Images a step over all processes and micro-batches; negatives span it, the last partial batch is dropped."""
    images_per_class: PositiveInt | None = None
    """m: each batch holds m images of global_batch_size / m classes of the finest level, drawn at random. Empty: all
    images in random order."""
    optimizer: OptimizerSettings = SGDSettings()
    learning_rate_per_256: bool = False
    """Whether the optimizer's rate is multiplied by global_batch_size / 256 (Goyal et al. 2017)."""
    schedule: Literal["cosine", "constant"] = "cosine"
    warm_up_epochs: NonNegativeFloat = 0.0
    """Linear rise of the learning rate from 0."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """Of the networks; losses stay in fp32. `tf32` is of convolutions on GPUs only: for transformers take `bf16`."""

    @property
    def first_learning_rate(self) -> float:
        """That the schedule starts from."""
        rate = self.optimizer.learning_rate
        return rate * self.global_batch_size / 256 if self.learning_rate_per_256 else rate

    def __post_init__(self) -> None:
        if self.warm_up_epochs >= self.epochs:
            raise ValueError(f"warm_up_epochs {self.warm_up_epochs} must be under epochs {self.epochs}")


@settings
class ResourceSettings:
    """What a run may use; none of it names the run folder."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: PositiveInt = 1
    """Of torch on the CPU. Another number changes the last bits of a result; it is recorded in the row."""
    loader_threads: PositiveInt = 1
    """Threads that decode and crop."""
    micro_batch_size: PositiveInt | None = None
    """Images in memory at once; empty: the global batch. Must divide it and be a multiple of the BatchNorm group."""
    evaluation_batch_size: PositiveInt = 256
    """Images in memory at once when features are computed; no result depends on it beyond rounding."""
    checkpoint_every_s: NonNegativeFloat = 120.0
    """Seconds of training between checkpoints; 0: every step."""
    keep_checkpoints: PositiveInt = 2
    log_every_steps: PositiveInt = 10
