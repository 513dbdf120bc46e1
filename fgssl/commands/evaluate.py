"""`fgssl evaluate`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import click

from fgssl.commands.arguments import OVERRIDES, PATH, print_measures, print_next_in_python
from fgssl.data.location import levels_named
from fgssl.errors import COMMAND_LINE, Problem, SettingsError, UserError, alternatives
from fgssl.settings import config as configs
from fgssl.settings import fingerprints
from fgssl.settings.evaluation import EvaluationSettings
from fgssl.store.plan import listed_runs
from fgssl.store.run_folder import RunFolder


@click.command()
@click.argument("given", metavar="RUN_FOLDER|CHECKPOINT", type=PATH)
@OVERRIDES
def command(given: Path, overrides: tuple[str, ...]) -> None:
    """Measure a trained encoder or a checkpoint with other settings.

    CHECKPOINT is checkpoints/step-... inside a run folder. KEY=VALUE changes a setting of the evaluation, e.g.
    evaluation.label_level=1.

    The measures that tables show are printed; evaluation.shown_columns adds others. All measures of a run folder are
    stored in it, by their evaluation settings.
    """
    if more := [text for text in overrides if Path(text).is_dir()]:
        raise UserError(f"several folders are given, and one is taken at a time: {', '.join([str(given), *more])}")
    path = given.absolute()
    checkpoint = path if path.parent.name == "checkpoints" else None
    folder = RunFolder(path.parent.parent if checkpoint else path)
    if not folder.config_file.is_file():
        if not path.exists():
            raise UserError(f"{given}: no such folder: {alternatives(given)}")
        inside = listed_runs(folder.path) or " and no checkpoint inside one"
        raise UserError(f"{given}: is no run folder (config.yaml is missing){inside}")
    config = _config(folder, overrides)

    from fgssl.run.execution import evaluate_again  # after validation: importing torch takes seconds
    from fgssl.run.measuring import evaluate_checkpoint

    found = evaluate_checkpoint(config, folder, checkpoint) if checkpoint else evaluate_again(config, folder).measures
    assert config.evaluation is not None
    print_measures(config.evaluation, found)
    if not checkpoint:
        print_next_in_python("encoder = fgssl.load_encoder", folder.path)


def _config(folder: RunFolder, overrides: Sequence[str]) -> configs.Config:
    """Return the config of the run folder with other evaluation settings; raise if its training would change too."""
    trained = folder.config()
    with levels_named(lambda: configs.overridden(fingerprints.to_mapping(trained), overrides)):
        config = configs.load(folder.config_file, overrides)
    if config.evaluation is None:  # a stage that other runs start from: measured only here
        config = dataclasses.replace(config, evaluation=EvaluationSettings())
    if fingerprints.training_fingerprint(config) != fingerprints.training_fingerprint(trained):
        allowed = "evaluation.*, resources.* and data.folder, stage and cache can be overridden for a trained run"
        raise SettingsError([Problem(COMMAND_LINE, " ".join(overrides), f"changes how the run was trained; {allowed}")])
    return config
