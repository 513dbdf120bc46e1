"""Execution of one config in one run folder: train or resume, export, evaluate; repeated, it does what is missing."""

import contextlib
import gc
import shutil
import sys
import traceback
from pathlib import Path

import torch

from fgssl import device as devices
from fgssl.collectives import World, peer_lost
from fgssl.errors import DataError, UserError
from fgssl.interruption import stop_leaving
from fgssl.methods.build import RANDOM_START, build_method
from fgssl.processes import ALONE, Processes
from fgssl.run.data import open_splits, open_train, require_same_data, stage_shards
from fgssl.run.measuring import measure_run
from fgssl.run.training import classes_of, train_and_export, train_share
from fgssl.settings import fingerprints
from fgssl.settings.config import Config
from fgssl.store.lease import Generation, Lease
from fgssl.store.provenance import code_version
from fgssl.store.records import Evaluation
from fgssl.store.run_folder import RunFolder


def execute(
    config: Config,
    out: Path,
    folder: RunFolder | None = None,
    processes: Processes = ALONE,
    last_step: int | None = None,
    generation: Generation | None = None,
) -> RunFolder:
    """Complete the run folder of `config`, and return it.

    Every process of the run calls this function. The first one alone writes, and it evaluates after the others have
    left. failure.txt receives the message of a `UserError`, or the traceback of any other failure.

    Args:
        config: Settings of the run.
        out: Output folder.
        folder: Run folder; the default is one in `out`/runs, named after the settings.
        processes: Processes of the run, and the rank of this one.
        last_step: Step after which training saves and stops, as if interrupted by a signal.
        generation: Generation of the lease; a newer one takes the run folder over from an older one.

    Raises:
        UserError: A fault that a user can correct.
        Interrupted: A signal stopped the run, after a checkpoint was saved.
    """
    code_version()  # recorded now, before anyone edits a file
    folder = folder or RunFolder.in_output(out, fingerprints.run_name(config))
    if processes.world_size == 1 and folder.done(config):
        require_same_data(config, folder, out)
        return folder
    world = devices.world(config.resources, config.training, processes)
    try:
        if world.rank == 0:
            _lead(config, out, folder, world, last_step, generation)
        else:
            _follow(config, out, folder, world, last_step)
    except RuntimeError as error:
        if (lost := peer_lost(error, world)) is None:
            raise
        raise lost from error
    finally:
        gc.collect()  # a process may execute several runs, and these networks must not stay in memory
        torch.set_flush_denormal(False)  # `world` set it, but this may be a program of the user's own
    return folder


def _lead(
    config: Config,
    out: Path,
    folder: RunFolder,
    world: World,
    last_step: int | None,
    generation: Generation | None,
) -> None:
    with folder.lease(config, generation) as lease:
        if folder.done(config):
            require_same_data(config, folder, out)
            world.broadcast(None)
            return
        try:
            _complete(config, out, folder, world, lease, last_step)
        except Exception as error:
            stop_leaving()
            told = _correctable(error, folder)
            text = _failure_text(told)
            if (lost := peer_lost(error, world)) is not None:
                text = f"{folder.failures_of_others(patience_s=2.0)}{lost}\n\n{text}"  # the cause comes first
                print(text, file=sys.stderr)
            with contextlib.suppress(UserError):  # on a full disk the failure itself must still be raised
                lease.write("failure.txt", text)
            if told is not error:
                raise told from error
            raise
        lease.clear_failure()
        lease.clear_progress()


def _follow(config: Config, out: Path, folder: RunFolder, world: World, last_step: int | None) -> None:
    """Train as a process that is not the first; it writes nothing but the text of its own failure."""
    try:
        if folder.trained() is None:
            stage_shards(config, out)  # now, since other processes wait for resources.collective_timeout_s only
        data_version = world.broadcast("")
        if not data_version:
            return
        train = open_train(config, out)
        if train.version != data_version:
            raise DataError(
                f"{train.folder}: process {world.rank} reads version {train.version[:12]}, but the first process "
                f"{data_version[:12]}: give all nodes the same shards"
            )
        method = build_method(config, RANDOM_START, classes_of(train))
        train_share(config, world, method, train, None, last_step)
    except Exception as error:
        stop_leaving()
        told = _correctable(error, folder)
        if peer_lost(error, world) is None:
            folder.note_failure(world.rank, _failure_text(told))
        if told is not error:
            raise told from error
        raise


def _correctable(error: Exception, folder: RunFolder) -> Exception:
    """Return the `UserError` about exhausted memory of a GPU, or any other error as it is."""
    if not isinstance(error, torch.OutOfMemoryError):
        return error
    advice = "lower resources.micro_batch_size (results stay the same up to rounding)"
    return UserError(f"{folder.path}: the GPU's memory is exhausted; {advice}: {error}")


def _failure_text(error: Exception) -> str:
    """Return the message of a fault that a user can correct, or the traceback of another error."""
    return f"{error}\n" if isinstance(error, UserError) else "".join(traceback.format_exception(error))


def _complete(config: Config, out: Path, folder: RunFolder, world: World, lease: Lease, last_step: int | None) -> None:
    train, test = open_splits(config, out)
    if folder.trained() is None:
        train_and_export(config, folder.starts, world, train, lease, last_step)
    else:
        world.broadcast(None)
    shutil.rmtree(folder.checkpoints, ignore_errors=True)
    if test is not None and folder.evaluation(config) is None:
        require_same_data(config, folder, out)
        measure_run(config, lease, train, test, world.device)


def evaluate_again(config: Config, folder: RunFolder) -> Evaluation:
    """Return the measures of a trained run under the evaluation settings of `config`.

    They are computed once and kept in the run folder. Raises a `UserError` if the training is not complete.
    """
    if folder.trained() is None:
        raise UserError(
            f"{folder.path}: its training is not complete: finish it with `fgssl train`, or give one of its checkpoints"
        )
    evaluation = execute(config, folder.path.parent.parent, folder).evaluation(config)
    assert evaluation is not None
    return evaluation
