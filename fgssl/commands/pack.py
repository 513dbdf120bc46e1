"""`fgssl pack`."""

import dataclasses
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from fgssl.commands.arguments import PATH
from fgssl.data.shards import SourceDataset, pack
from fgssl.data.sources import folder, gtsrb, toy
from fgssl.errors import COMMAND_LINE, UserError
from fgssl.settings.config import parse_overrides
from fgssl.settings.data import ToySettings
from fgssl.settings.validation import unknown, validate
from fgssl.store.manifest import Manifest, verify

OPTIONS: dict[str, type] = {"toy": ToySettings, "folder": folder.FolderSettings, "gtsrb": gtsrb.GTSRBSettings}


class _Command(click.Command):
    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Options of the sources, with their defaults"):
            formatter.write_dl([(name, _defaults(name)) for name in OPTIONS])


@click.command(cls=_Command)
@click.argument("arguments", metavar="SOURCE [SRC] DST [KEY=VALUE]...", nargs=-1)
@click.option("--verify", "packed", type=PATH, metavar="DST", help="Check the SHA-256 of every shard in DST.")
def command(arguments: tuple[str, ...], packed: Path | None) -> None:
    """Pack images into a folder of HDF5 shards.

    \b
    toy DST           the embedded set; needs no images
    folder SRC DST    class folders, one or two levels deep (genus/species),
                      or a flat unlabeled folder
    gtsrb SRC DST     the German traffic signs, as the official archives unpack
    """
    if packed is not None:
        if arguments:
            raise UserError(f"--verify takes one folder and nothing else, not also {' '.join(arguments)}")
        print(f"{packed}: every shard is as it was packed\n{_summary(verify(packed))}")
        return
    started = time.monotonic()
    dataset, destination = _read(arguments)
    manifest = pack(dataset, destination)
    print(f"packed in {time.monotonic() - started:.1f} s: {destination}\n{_summary(manifest)}")
    for remark in dataset.remarks:
        print(remark)


def _read(arguments: Sequence[str]) -> tuple[SourceDataset, Path]:
    if not arguments:
        raise UserError(f"SOURCE is missing: one of {', '.join(OPTIONS)}; --help says more")
    name, *rest = arguments
    if name not in OPTIONS:
        raise UserError(unknown(name, list(OPTIONS), what="source"))
    usage = "toy DST" if name == "toy" else f"{name} SRC DST"
    num_paths = len(usage.split()) - 1
    paths, overrides = rest[:num_paths], rest[num_paths:]
    if len(paths) < num_paths or any(re.match(r"\w+=", path) for path in paths):
        raise UserError(f"source {name} needs: fgssl pack {usage} [key=value ...]")
    options: Any = validate(parse_overrides(overrides), OPTIONS[name], COMMAND_LINE)
    destination = Path(paths[-1])
    if name == "toy":
        return toy.source(options), destination
    source = folder.source if name == "folder" else gtsrb.source
    return source(Path(paths[0]), options), destination


def _defaults(source: str) -> str:
    return " ".join(
        f"{field.name}={'' if field.default is None else field.default}"
        for field in dataclasses.fields(OPTIONS[source])
    )


def _summary(manifest: Manifest) -> str:
    levels = [f"{len(level.classes)} x {level.name}" for level in manifest.levels]
    lines = [f"dataset {manifest.dataset}, {', '.join(levels) if levels else 'unlabeled'}"]
    for split, shards in manifest.splits.items():
        size = sum(shard.bytes for shard in shards) / 2**20
        lines.append(f"{split:>8}: {manifest.count(split)} images, {len(shards)} shards, {size:.1f} MiB")
    return "\n".join([*lines, f" version: {manifest.version}"])
