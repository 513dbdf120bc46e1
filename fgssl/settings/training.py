"""Sections `training` and `resources`: the schedule of a training, and its use of the machine."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from fgssl.registries import Registry
from fgssl.schedules import Schedule
from fgssl.settings.declare import (
    NUMBER,
    ChosenByName,
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    added_later,
    settings,
)

OPTIMIZERS = Registry(
    f"{__file__}: OPTIMIZERS",
    {
        "sgd": "fgssl.settings.training:SGDSettings",
        "adam": "fgssl.settings.training:AdamSettings",
        "adamw": "fgssl.settings.training:AdamWSettings",
    },
)
"""Dotted path of the settings class of each optimizer."""


@settings
class OptimizerSettings:
    """Settings of an optimizer, whose `implementation` takes all but the name as arguments (the rate as `lr`)."""

    implementation: ClassVar[str]
    """Dotted path, `module:class`, of the `torch.optim.Optimizer`. Its state must be that of SGD or Adam, since the
    engines create it before the first step (`fgssl.training.engines.engine.start_state`)."""

    name: str
    """Name of the optimizer, a key of `OPTIMIZERS`."""
    learning_rate: PositiveFloat
    """Learning rate at the start of `training.schedule`."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay at the start of training, constant unless `training.weight_decay_end` is given."""


@settings
class SGDSettings(OptimizerSettings):
    """Stochastic gradient descent with momentum. The defaults are MoCo v2's (arXiv:2003.04297)."""

    implementation = "torch.optim:SGD"

    name: Literal["sgd"] = "sgd"
    learning_rate: PositiveFloat = 0.03
    """Learning rate at the start of `training.schedule`, or its value per 256 images of a batch if
    `training.learning_rate_per_256` is set. MoCo v2 and Synthesized Pairs take 0.03, SimSiam 0.05 per 256 images."""
    momentum: Fraction = 0.9
    """Momentum of the gradient, as in MoCo v2, SimSiam and Synthesized Pairs."""
    weight_decay: NonNegativeFloat = 1e-4
    """L2 penalty, added to the gradient. All three papers take 1e-4."""


@settings
class AdamSettings(OptimizerSettings):
    """Adam (Kingma and Ba 2015), with which Synthesized Pairs pre-trains its decoder."""

    implementation = "torch.optim:Adam"

    name: Literal["adam"] = "adam"
    learning_rate: PositiveFloat = 1e-4
    """Learning rate at the start of `training.schedule`. 1e-4 is the rate for pre-training the decoder."""
    weight_decay: NonNegativeFloat = 0.0
    """L2 penalty, added to the gradient. Torch's default is 0 as well; take AdamW for a decoupled weight decay."""


@settings
class AdamWSettings(OptimizerSettings):
    """Adam with a weight decay that the gradient does not scale (Loshchilov and Hutter 2019), for transformers."""

    implementation = "torch.optim:AdamW"

    name: Literal["adamw"] = "adamw"
    learning_rate: PositiveFloat = 1e-4
    """Learning rate at the start of `training.schedule`. No paper here prescribes one; 1e-4 is our choice."""
    weight_decay: NonNegativeFloat = 0.05
    """Decoupled weight decay. 0.05 is usual for ViT and Swin (DeiT, Touvron et al. 2021)."""


@settings
class TrainingSettings:
    """Length, batches, optimization and precision of a training. The defaults are those of Synthesized Pairs."""

    epochs: PositiveInt = 100
    """Passes over the training images. Synthesized Pairs trains for 100."""
    global_batch_size: PositiveInt = 128
    """Images of a step, over all processes and micro-batches together. Negatives span the whole batch. The last partial
    batch of an epoch is dropped. 128 is the size in Synthesized Pairs."""
    images_per_class: PositiveInt | None = None
    """Number m of images of each class in a batch, which must divide `global_batch_size`. Each batch holds
    `global_batch_size` / m classes of the finest level, drawn at random. Supervised contrastive methods need m >= 2: at
    m = 1 the only positive of an image is its own second view. If empty, each epoch takes every image once, in random
    order."""
    optimizer: Annotated[OptimizerSettings, ChosenByName(OPTIMIZERS, default="sgd")] = SGDSettings()
    """Optimizer, chosen by its `name`: sgd (the default, as in MoCo v2), adam or adamw."""
    learning_rate_per_256: bool = False
    """Whether the learning rate is multiplied by `global_batch_size` / 256 (Goyal et al. 2017, arXiv:1706.02677).
    SimSiam's rates are given in this form. MoCo v2's rate holds as it stands, hence the default."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Course of the learning rate. `cosine` falls to 0 along half a cosine over the whole training, as in MoCo v2;
    `constant` stays."""
    warm_up_epochs: NonNegativeFloat = 0.0
    """Epochs in which the learning rate is multiplied by a factor that rises linearly from 0 to 1; fewer than `epochs`.
    Neither MoCo v2 nor SimSiam has a warm-up. Transformers usually need one."""
    weight_decay_end: NonNegativeFloat | None = added_later(default=None)
    """Weight decay at the end of training, reached from the optimizer's `weight_decay` along half a cosine, as in DINO
    (Caron et al. 2021). If empty, the weight decay is constant."""
    gradient_clip_norm: PositiveFloat | None = None
    """Largest L2 norm of the gradient of all parameters together; a longer gradient is scaled down before the step. If
    empty, as in MoCo v2, nothing is clipped."""
    precision: Literal["fp32", "tf32", "bf16", "fp16", "fp64"] = "fp32"
    """Precision of the networks; losses are computed in fp32 or finer. `tf32` affects convolutions on GPUs only: take
    `bf16` for transformers. `fp16` scales the loss and skips steps whose gradient overflows. `fp64` serves to test
    whether a difference is rounding. `fp16` and `fp64` need `resources.engine` ddp."""
    invariant: Literal["close", "exact"] = "close"
    """Effect of the number of processes on a result. Under `close` it changes a result by rounding only. Under `exact`
    results are equal to the last bit for 1, 2, 4, 8, ... processes, given the same processor type, library versions and
    number of threads. `exact` computes in smaller shards and is slower (docs/explanation/processes.md)."""
    exact_shard_size: PositiveInt | None = None
    """Images whose gradient is computed at once under `invariant: exact`. It must be a multiple of
    `encoder.batch_norm_group_size`, and `global_batch_size` a power of two times it. If empty, it is the BatchNorm
    group. Larger shards are faster and take more memory."""

    @property
    def learning_rate(self) -> Schedule:
        """Learning rate over the progress of training."""
        rate = self.optimizer.learning_rate
        first = rate * self.global_batch_size / 256 if self.learning_rate_per_256 else rate
        return Schedule(first, shape=self.schedule, warm_up=self.warm_up_epochs / self.epochs)

    @property
    def weight_decay(self) -> Schedule:
        """Weight decay over the progress of training."""
        first = self.optimizer.weight_decay
        return Schedule(first, first if self.weight_decay_end is None else self.weight_decay_end)

    def __post_init__(self) -> None:
        if self.warm_up_epochs >= self.epochs:
            raise ValueError(f"warm_up_epochs {self.warm_up_epochs} must be less than epochs {self.epochs}")


@settings
class ResourceSettings:
    """Machinery of a run. No key here enters a fingerprint, so changing one renames no run folder."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the networks. `auto` takes a GPU if torch finds one, and otherwise the CPU. `cuda` fails without a
    GPU."""
    threads: PositiveInt = 1
    """Torch CPU threads per process. Changing it changes the last bits of a result, so every row records it. At 1, a
    sweep on a CPU places one run on each core."""
    loader_threads: PositiveInt = 1
    """Threads per process that read, decode and crop images, a few batches ahead. No result depends on it. The presets
    at the papers' scale take 8."""
    engine: Literal["ddp", "zero0", "zero1", "zero2", "zero3"] = "ddp"
    """Distribution of a training over processes. `ddp` is torch's DistributedDataParallel; the others are stages of
    DeepSpeed ZeRO (Rajbhandari et al. 2020). Stage 1 divides the optimizer state among the processes, stage 2 also the
    gradient, stage 3 also the weights. The networks of the papers fit on one GPU, so `ddp` is the default."""
    expected_processes: PositiveInt | None = None
    """Number of processes that must take part. With any other number the run stops before it begins. Give it where a
    launcher could start fewer than requested unnoticed. If empty, the launcher's number holds."""
    collective_timeout_s: PositiveFloat = 600.0
    """Seconds that a process waits for the others before it gives up; the run can resume from its last checkpoint.
    600 s is also torch's default for NCCL."""
    micro_batch_size: PositiveInt | None = None
    """Images in memory at once in each process; gradients are accumulated. It must divide the process' share of the
    batch and be a multiple of `encoder.batch_norm_group_size`. Results do not depend on it beyond rounding. If empty,
    a process holds its whole share."""
    activation_checkpointing: bool = False
    """Whether feature maps inside the encoder's blocks are computed again for the gradient instead of being kept (Chen
    et al. 2016, arXiv:1604.06174). The result is the same. It saves memory and takes about a third more time."""
    evaluation_batch_size: PositiveInt = 256
    """Images in memory at once when features are computed. Results do not depend on it beyond rounding."""
    checkpoint_every_s: NonNegativeFloat = 120.0
    """Seconds of training between two checkpoints: the work that a killed run can lose. 0 saves after every step."""
    keep_checkpoints: PositiveInt = 2
    """Number of newest checkpoints that are kept. With 2, an older one remains if the newest is damaged."""
    log_every_steps: PositiveInt = 10
    """Steps between two lines of metrics.jsonl. The last step is always logged."""
    monitor_every_epochs: PositiveInt | None = None
    """Epochs between two looks at the features, which add `monitor_knn`, `monitor_feature_std` and
    `monitor_effective_rank` to a line of metrics.jsonl (docs/reference/output-folder.md). kNN classifies one half of
    `monitor_images` by the other. These are training images, so the numbers show a trend and are no results. If empty,
    nothing is monitored. The engine zero3 cannot monitor."""
    monitor_images: Annotated[int, Field(ge=4), NUMBER] = 2048
    """Largest number of training images that are monitored, chosen by the seed. 2,048 take a fraction of an epoch, and
    the rank of the features cannot exceed their number."""
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Viewers for which the curves of metrics.jsonl are written into the run folder as well, by the trackers of
    Accelerate. Their packages are not installed with fgssl. W&B runs offline: nothing is sent before you call `wandb
    sync`. The curves follow metrics.jsonl after an interruption too."""
