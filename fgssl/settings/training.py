"""How long and how a method is trained, and what it may use of the machine."""

from typing import Annotated, ClassVar, Literal

from fgssl.schedules import Schedule
from fgssl.settings.declare import (
    ChosenByName,
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    added_later,
    settings,
)

OPTIMIZERS: dict[str, str] = {
    "sgd": "fgssl.settings.training:SGDSettings",
    "adam": "fgssl.settings.training:AdamSettings",
    "adamw": "fgssl.settings.training:AdamWSettings",
}
"""Dotted path of the settings class of each optimizer."""


@settings
class OptimizerSettings:
    """Settings of an optimizer; `implementation` takes all but the name as arguments, the learning rate as `lr`."""

    implementation: ClassVar[str]
    """Dotted path, `module:class`, of the `torch.optim.Optimizer`. Its state must be that of SGD or of Adam, which the
    engines make before the first step (`fgssl.training.engines.engine.start_state`)."""

    name: str
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat = 0.0


@settings
class SGDSettings(OptimizerSettings):
    implementation = "torch.optim:SGD"

    name: Literal["sgd"] = "sgd"
    learning_rate: PositiveFloat = 0.03
    """At the start of the schedule; for each 256 images of a batch where `learning_rate_per_256` is set."""
    momentum: Fraction = 0.9
    weight_decay: NonNegativeFloat = 1e-4


@settings
class AdamSettings(OptimizerSettings):
    implementation = "torch.optim:Adam"

    name: Literal["adam"] = "adam"
    learning_rate: PositiveFloat = 1e-4
    weight_decay: NonNegativeFloat = 0.0


@settings
class AdamWSettings(OptimizerSettings):
    """For transformers: the weight decay is not scaled by the gradient (Loshchilov and Hutter 2019)."""

    implementation = "torch.optim:AdamW"

    name: Literal["adamw"] = "adamw"
    learning_rate: PositiveFloat = 1e-4
    weight_decay: NonNegativeFloat = 0.05


@settings
class TrainingSettings:
    epochs: PositiveInt = 100
    global_batch_size: PositiveInt = 128
    """Images a step over all processes and micro-batches; negatives span it, the last partial batch is dropped."""
    images_per_class: PositiveInt | None = None
    """m: each batch holds m images of global_batch_size / m classes of the finest level, drawn at random. Empty: all
    images in random order."""
    optimizer: Annotated[OptimizerSettings, ChosenByName(OPTIMIZERS, default="sgd")] = SGDSettings()
    learning_rate_per_256: bool = False
    """Whether the optimizer's rate is multiplied by global_batch_size / 256 (Goyal et al. 2017)."""
    schedule: Literal["cosine", "constant"] = "cosine"
    warm_up_epochs: NonNegativeFloat = 0.0
    """Linear rise of the learning rate from 0."""
    weight_decay_end: NonNegativeFloat | None = added_later(default=None)
    """Weight decay at the end, reached along half a cosine from that of the optimizer; empty: it stays."""
    gradient_clip_norm: PositiveFloat | None = None
    """Largest norm of the whole gradient, clipped before the step; empty: no clipping."""
    precision: Literal["fp32", "tf32", "bf16", "fp16", "fp64"] = "fp32"
    """Precision of the networks; losses stay in fp32. `tf32` is of convolutions on GPUs only: for transformers take
    `bf16`. `fp16` scales the gradient and skips a step that overflows. `fp64` is for checks: of whether a difference is
    rounding."""
    invariant: Literal["close", "exact"] = "close"
    """`close`: another number of processes changes a result by rounding only. `exact`: not at all, to the last bit, for
    1, 2, 4, 8, ... processes of one processor type with one set of versions and one number of threads each."""
    exact_shard_size: PositiveInt | None = None
    """Images whose gradient is computed at once under `exact`, the unit that its fixed sum adds up; a multiple of
    encoder.batch_norm_group_size, and global_batch_size a power of two of them. Empty: the BatchNorm group."""

    @property
    def learning_rate(self) -> Schedule:
        rate = self.optimizer.learning_rate
        first = rate * self.global_batch_size / 256 if self.learning_rate_per_256 else rate
        return Schedule(first, shape=self.schedule, warm_up=self.warm_up_epochs / self.epochs)

    @property
    def weight_decay(self) -> Schedule:
        first = self.optimizer.weight_decay
        return Schedule(first, first if self.weight_decay_end is None else self.weight_decay_end)

    def __post_init__(self) -> None:
        if self.warm_up_epochs >= self.epochs:
            raise ValueError(f"warm_up_epochs {self.warm_up_epochs} must be under epochs {self.epochs}")


@settings
class ResourceSettings:
    """Machinery that a run may use; none of it names the run folder."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: PositiveInt = 1
    """CPU threads of torch. Another number changes the last bits of a result; it is recorded in the row."""
    loader_threads: PositiveInt = 1
    """Threads that decode and crop."""
    engine: Literal["ddp", "zero0", "zero1", "zero2", "zero3"] = "ddp"
    """Engine that spreads the training over processes: torch's DistributedDataParallel, or DeepSpeed ZeRO of a stage (1
    divides the optimizer's state among the processes, 2 the gradient too, 3 the weights too)."""
    expected_processes: PositiveInt | None = None
    """The run stops before it begins where another number of processes takes part: some launchers leave no trace of
    the processes that they were asked for. Empty: as many as the launcher says."""
    collective_timeout_s: PositiveFloat = 600.0
    """How long a process waits for the others before it gives the run up; a checkpoint is left behind."""
    micro_batch_size: PositiveInt | None = None
    """Images in memory at once in each process, their gradients accumulated; empty: its whole share of the global
    batch. Must divide that share and be a multiple of the BatchNorm group."""
    activation_checkpointing: bool = False
    """Whether the encoder forgets the feature maps inside its blocks and computes them again for the gradient: less
    memory for about a third more time, the same result."""
    evaluation_batch_size: PositiveInt = 256
    """Images in memory at once when features are computed; no result depends on it beyond rounding."""
    checkpoint_every_s: NonNegativeFloat = 120.0
    """Seconds of training between checkpoints; 0: every step."""
    keep_checkpoints: PositiveInt = 2
    log_every_steps: PositiveInt = 10
