"""Output folder of a sweep, written by hand."""

import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from fgssl.settings import config as configs
from fgssl.settings import fingerprints
from fgssl.store.plan import SCHEMA
from fgssl.store.records import TRAINED, Environment, Evaluation, Measures, Trained, evaluation_file
from fgssl.store.run_folder import RunFolder

SEEDS = (0, 1, 2)


class Out:
    """Folder of a sweep with cells `base`, `sigma=0.1` and `sigma=0.5`, which start from the stage `pretrain`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.measured: Measures = {}
        self.measured_by: dict[str, str] = {}
        stages = {seed: self._run(seed, {"evaluation": None}) for seed in SEEDS}

        def runs(method: dict[str, Any]) -> list[dict[str, Any]]:
            start = {seed: {"encoder": {"run": stage["run"]}} for seed, stage in stages.items()}
            return [self._run(seed, {"start": start[seed], "method": method}) for seed in SEEDS]

        def synthesized(sigma: float) -> dict[str, Any]:
            return {"name": "synthesized", "noise": {"sigma_grad_cam": sigma}}

        key = "method.noise.sigma_grad_cam"
        self.content: dict[str, Any] = {
            "schema": SCHEMA,
            "sweep": "ablation_sigma",
            "preset": "demo",
            "title": "Noise intensity",
            "dataset": "toy",
            "baseline": "base",
            "grid_keys": [key],
            "metrics": ["linear_100", "linear_50", "linear_20", "rank1", "rank5", "mAP"],
            "reference": {},
            "cells": [
                {"cell": "base", "arm": "base", "grid": {}, "runs": runs({"name": "mocov2"})},
                {"cell": "sigma=0.1", "arm": "grad_cam", "grid": {key: 0.1}, "runs": runs(synthesized(0.1))},
                {"cell": "sigma=0.5", "arm": "grad_cam", "grid": {key: 0.5}, "runs": runs(synthesized(0.5))},
            ],
            "stages": [{"stage": "pretrain", **stage} for stage in stages.values()],
        }
        self.write_plan()

    @staticmethod
    def _run(seed: int, partial: dict[str, Any]) -> dict[str, Any]:
        config = configs.parse({"seed": seed, "views": {"image_size": 32}, **partial}, "test")
        return {"seed": seed, "run": fingerprints.run_name(config), "config": fingerprints.to_mapping(config)}

    def write_plan(self) -> None:
        """Write the plan, with columns from the settings of its cells."""
        for cell in self.content["cells"]:
            evaluation = configs.parse(cell["runs"][0]["config"], "test").evaluation
            cell["columns"] = [] if evaluation is None else list(map(dataclasses.asdict, evaluation.columns))
        (self.path / "plan.json").write_text(json.dumps(self.content))

    def planned(self, cell: str, seed: int) -> dict[str, Any]:
        cells = {entry["cell"]: entry["runs"] for entry in self.content["cells"]}
        cells["pretrain"] = self.content["stages"]
        return next(run for run in cells[cell] if run["seed"] == seed)

    def folder(self, cell: str, seed: int) -> Path:
        return self.path / "runs" / self.planned(cell, seed)["run"]

    def measure(self, cells: Iterable[str], settings: dict[str, Any], metrics: list[str]) -> None:
        """Add evaluation settings to cells, and metrics to the table."""
        for cell in cells:
            for seed in SEEDS:
                self.planned(cell, seed)["config"]["evaluation"] |= settings
        self.content["metrics"] = metrics
        self.write_plan()

    def finish(self, cell: str, seed: int, linear_100: float | None = None, **record: Any) -> None:
        """Write the files of a finished run, where every measure except `linear_100` is 0."""
        config = configs.parse(self.planned(cell, seed)["config"], "test")
        versions = {"python": "3.11", "torch": "2.14"}
        made_by = Environment(code_version="c1", processes=1, engine="ddp", threads=1, device="cpu", versions=versions)
        codes = record.pop("code_versions", [record.get("code_version", "c1")])
        fields = {field.name for field in dataclasses.fields(Environment)}
        made_by = dataclasses.replace(made_by, **{name: record.pop(name) for name in fields & record.keys()})
        environments = tuple(dataclasses.replace(made_by, code_version=code) for code in codes)
        trained = Trained(steps=3, wall_s=10.5, metrics={}, environments=environments, data_version="d1", start={})
        trained = dataclasses.replace(trained, **record)
        with RunFolder(self.folder(cell, seed)).lease(config) as lease:
            lease.write_record(TRAINED, trained)
            if config.evaluation is not None:
                measures: Measures = {column.name: 0.0 for column in config.evaluation.columns if column.shown}
                if linear_100 is None:
                    del measures["linear_100"]
                else:
                    measures["linear_100"] = linear_100
                by = {"code_version": codes[-1], "data_version": trained.data_version, "device": made_by.device}
                measured = Evaluation(measures=measures | self.measured, wall_s=2.25, **(by | self.measured_by))
                lease.write_record(evaluation_file(config), measured)

    def fail(self, cell: str, seed: int, traceback: str) -> None:
        config = configs.parse(self.planned(cell, seed)["config"], "test")
        with RunFolder(self.folder(cell, seed)).lease(config) as lease:
            lease.write("failure.txt", traceback)


@pytest.fixture
def out(tmp_path: Path) -> Out:
    return Out(tmp_path)


@pytest.fixture
def finished(out: Out) -> Callable[[dict[str, list[float | None]]], Out]:
    """Return a function that finishes runs in `out`, given `linear_100` of each cell's seeds; None is a missing run."""

    def finish(values: dict[str, list[float | None]]) -> Out:
        for cell, by_seed in values.items():
            for seed, value in enumerate(by_seed):
                if value is not None:
                    out.finish(cell, seed, value)
        return out

    return finish
