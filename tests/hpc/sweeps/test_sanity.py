"""Sanity rows of a sweep file."""

from pathlib import Path

from hpc.sweeps.grid import expand
from hpc.sweeps.plan import plan
from tests.hpc.sweeps.sweep_files import BASE, error, errors_of, start_from, write

ALL = ["pixels", "random_weights", "start_encoder", "chance"]
START = BASE | {"start": start_from("pretrain")}
STAGES = {"pretrain": {"method": {"name": "simclr"}, "start": {"encoder": None}}}


def test_rows_follow_the_arms_and_take_the_shared_settings(tmp_path: Path) -> None:
    arms = {"one": {"settings": {"training": {"epochs": 1}}}}
    grid = expand(write(tmp_path, settings=START, stages=STAGES, arms=arms, sanity=ALL))
    assert [(cell.name, cell.sanity) for cell in grid.cells] == [("one", False), *((name, True) for name in ALL)]
    configs = {cell.name: cell.config for cell in grid.cells}
    assert [configs[name].method.name for name in ALL] == ["pixels", "start_encoder", "start_encoder", "chance"]
    starting = [name for name in ALL if configs[name].start.encoder is not None]
    assert starting == ["start_encoder"]
    made = plan(grid)
    assert made.of_cell["start_encoder", 0].needs == made.of_cell["one", 0].needs
    assert made.of_cell["random_weights", 0].needs == ()
    assert len({run.run for run in made.runs}) == 3 * 6
    record = made.record()
    assert [cell.cell for cell in record.cells if cell.sanity] == ALL
    assert [cell.cell for cell in record.of_arms] == ["one"]


def test_a_preset_and_the_command_line_replace_the_list(tmp_path: Path) -> None:
    presets = {"a": {"sanity": ["pixels"]}, "b": None}
    file = write(tmp_path, sanity=["chance"], preset="a", presets=presets)
    assert [cell.name for cell in expand(file).cells] == ["one", "pixels"]
    assert [cell.name for cell in expand(file, "b").cells] == ["one", "chance"]
    assert [cell.name for cell in expand(file, None, ["sanity=[]"]).cells] == ["one"]


def test_the_accuracy_of_a_trained_classifier_is_left_out(tmp_path: Path) -> None:
    settings = {"method": {"name": "cross_entropy"}, "evaluation": {"classifier": True}}
    *_, pixels = expand(write(tmp_path, settings=settings, sanity=["pixels"])).cells
    assert pixels.config.evaluation is not None
    assert not pixels.config.evaluation.classifier
    assert pixels.config.evaluation.retrieval


def test_faults_have_their_places(tmp_path: Path) -> None:
    message = "'pixel' is not allowed: input should be 'pixels', 'random_weights', 'start_encoder' or 'chance'"
    assert error(write(tmp_path, sanity=["pixel"])) == ("sweep.yaml", "sanity.0", message)
    assert error(write(tmp_path, sanity="pixels"))[1:] == (
        "sanity",
        "'pixels' is not allowed: give a list, e.g. [pixels]",
    )
    assert error(write(tmp_path, sanity=["chance", "chance"]))[1:] == (
        "sanity",
        "'chance' is given twice: give each row once",
    )
    _, key, message = error(write(tmp_path, sanity=["random_weights", "start_encoder"]))
    assert (key, message.partition(":")[0]) == (
        "sanity.1",
        "'start_encoder' would be the same as random_weights, since the shared settings have no start weights",
    )
    arms: dict[str, object] = {"chance": {}}
    _, key, message = error(write(tmp_path, arms=arms, sanity=["pixels", "chance"]))
    assert (key, message.partition(":")[0]) == ("sanity.1", "'chance' is the name of an arm")
    _, key, message = error(write(tmp_path, sanity=["chance"], baseline="chance"))
    assert (key, message) == ("baseline", "unknown arm 'chance': allowed: one")


def test_an_arm_with_the_same_settings_is_found(tmp_path: Path) -> None:
    arms = {"untrained": {"settings": {"method": {"name": "start_encoder"}}}}
    file = write(tmp_path, settings=START, stages=STAGES, arms=arms, sanity=["start_encoder"])
    assert errors_of(file) == [
        (
            "sweep.yaml",
            "sanity.0",
            "cell 'start_encoder' is the same config as cell 'untrained': remove one of them",
        )
    ]


def test_a_method_of_an_arm_takes_other_settings_of_its_own(tmp_path: Path) -> None:
    arms = {"small": {"settings": {"method": {"name": "pixels", "side": 8}}}}
    cells = expand(write(tmp_path, arms=arms, sanity=["pixels"])).cells
    assert [cell.sanity for cell in cells] == [False, True]
    wrong = {"small": {"settings": {"method": {"name": "pixels"}, "evaluation": {"classifier": True}}}}
    _, key, message = error(write(tmp_path, arms=wrong))
    assert (key, message.partition(":")[0]) == ("arms.small", "evaluation.classifier")
