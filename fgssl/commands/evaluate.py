"""`fgssl evaluate RUN_FOLDER|CHECKPOINT [key=value ...]`: measure a trained encoder, or one checkpoint.

A run folder's measures are kept in it under their own evaluation settings; a checkpoint's are only printed.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from fgssl.errors import COMMAND_LINE, Problem, SettingsError, UserError, exit_code
from fgssl.settings import config as configs
from fgssl.settings import fingerprints
from fgssl.settings.evaluation import EvaluationSettings
from fgssl.store.run_folder import RunFolder


def main(given_arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="fgssl evaluate", description=__doc__)
    parser.add_argument("path", type=Path, help="a run folder, or checkpoints/step-... inside one")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. evaluation.label_level=1")
    arguments = parser.parse_intermixed_args(given_arguments)
    if more := [text for text in arguments.overrides if Path(text).is_dir()]:
        raise UserError(
            f"several folders are given, and one is taken at a time: {', '.join([str(arguments.path), *more])}"
        )
    path = arguments.path.absolute()
    checkpoint = path if path.parent.name == "checkpoints" else None
    folder = RunFolder(path.parent.parent if checkpoint else path)
    if not folder.config_file.is_file():
        raise UserError(f"{arguments.path}: no run folder (config.yaml is missing) and no checkpoint inside one")
    config = _config(folder, arguments.overrides)

    from fgssl.run.execution import evaluate_again  # after validation: importing torch takes seconds
    from fgssl.run.measuring import evaluate_checkpoint

    measures = evaluate_checkpoint(config, folder, checkpoint) if checkpoint else evaluate_again(config, folder)
    for name, value in measures.items():
        print(f"{name:>18} {value:.2f}" if isinstance(value, float) else f"{name:>18} {value}")
    return 0


def _config(folder: RunFolder, overrides: list[str]) -> configs.Config:
    """The folder's own config with other ways to measure; its training cannot be changed afterwards."""
    trained = folder.config()
    config = configs.load(folder.config_file, overrides)
    if config.evaluation is None:  # a stage that other runs start from: measured only here
        config = dataclasses.replace(config, evaluation=EvaluationSettings())
    if fingerprints.training_fingerprint(config) != fingerprints.training_fingerprint(trained):
        allowed = "evaluation.*, resources.* and data.folder can be overridden for a trained run"
        raise SettingsError([Problem(COMMAND_LINE, " ".join(overrides), f"changes how the run was trained; {allowed}")])
    return config


if __name__ == "__main__":
    sys.exit(exit_code(main))
