"""`fgssl pack`."""

import ast
import contextlib
import dataclasses
import inspect
import itertools
import re
import signal
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click

from fgssl.commands.arguments import PATH, print_next
from fgssl.data.source import Source
from fgssl.data.sources import SOURCES, source_named
from fgssl.errors import COMMAND_LINE, UserError
from fgssl.progress import shown
from fgssl.settings.declare import settings
from fgssl.settings.packing import PackingSettings
from fgssl.store.files import write_atomically
from fgssl.store.manifest import Manifest, verify
from hpc.local.machine import cores

_BY_DEPTH = "as the folders or the columns give them; none for unlabeled images"


class _Sources(click.Group):
    """Group with one command per source, whose module is imported when the source is named or listed."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(SOURCES)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in SOURCES:
            return _SourceCommand(source_named(name))
        if not (context.resilient_parsing or name.startswith("-")):
            from fgssl.settings.validation import unknown

            raise UserError(unknown(name, list(SOURCES), what="source"))
        return None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Sources"):
            formatter.write_dl(
                [(source.usage().removeprefix("fgssl pack "), source.summary) for source in map(source_named, SOURCES)]
            )


class _SourceCommand(click.Command):
    """Command that packs the images of one source."""

    def __init__(self, source: Source) -> None:
        metavar = " ".join([*source.paths, "DST", "[KEY=VALUE]..."])
        arguments = click.Argument(["arguments"], metavar=metavar, nargs=-1)
        super().__init__(
            source.name,
            params=[arguments],
            callback=lambda arguments: _pack(source, arguments),
            help=f"Pack {source.summary}.\n\nLabel levels: {', '.join(source.levels) or _BY_DEPTH}.",
        )
        self.source = source

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Keys, with their defaults"):
            formatter.write_dl(_keys(self.source.settings))
        with formatter.section("Keys of every source"):
            formatter.write_dl(_keys(PackingSettings))
        with formatter.section("How to get the images"):
            paragraphs = self.source.how_to_get.split("\n\n")
            formatter.write_text("\n\n".join(f"\b\n{text}" if text.startswith(" ") else text for text in paragraphs))


@click.group(cls=_Sources, invoke_without_command=True, subcommand_metavar="SOURCE [IMAGES] DST [KEY=VALUE]...")
@click.option("--verify", "packed", type=PATH, metavar="DST", help="Check the SHA-256 of every shard in DST.")
@click.option("--inspect", "inspected", type=PATH, metavar="DST", help="Show counts and sizes, write a contact sheet.")
@click.option("--sheet", type=PATH, metavar="PNG", help="File of the contact sheet.  [default: DST.png beside DST]")
@click.pass_context
def command(context: click.Context, packed: Path | None, inspected: Path | None, sheet: Path | None) -> None:
    """Pack images into a folder of HDF5 shards.

    `fgssl pack SOURCE --help` describes one source, its keys and how to get its images.
    """
    folder = packed or inspected
    if sheet is not None and inspected is None:
        raise UserError("--sheet is the file of the contact sheet: give --inspect DST with it")
    if folder is None:
        if context.invoked_subcommand is None:
            raise UserError(f"SOURCE is missing: one of {', '.join(SOURCES)}; `fgssl pack --help` describes them")
        return
    if context.invoked_subcommand is not None or (packed and inspected):
        given = context.invoked_subcommand or "--inspect"
        raise UserError(f"--{'verify' if packed else 'inspect'} takes one folder and nothing else, not also {given}")
    manifest = verify(folder, shown, cores()) if packed else Manifest.read(folder)
    summary = _summary(manifest, folder)
    print(f"{folder}: every shard is as it was packed\n{summary}" if packed else summary)
    if inspected:
        _inspect(folder, sheet or _beside(folder))
    _print_next(manifest, folder)


def _beside(folder: Path) -> Path:
    """Return the file of the contact sheet; it is relative if `folder` is, unless that ends in no name."""
    named = folder if folder.name not in ("", "..") else folder.resolve()
    return named.with_name(f"{named.name}.png")


def _inspect(folder: Path, sheet: Path) -> None:
    from fgssl.data.inspection import contact_sheet, overview

    print(f"\n{overview(folder)}")
    write_atomically(sheet, contact_sheet(folder))
    print(f"\ncontact sheet: {sheet}")


def _pack(source: Source, arguments: Sequence[str]) -> None:
    from fgssl.data.packing import pack  # h5py, numpy and all settings: not needed for --help
    from fgssl.settings.layers import parse_overrides

    started = time.monotonic()
    num_paths = len(source.paths) + 1
    paths, overrides = arguments[:num_paths], arguments[num_paths:]
    like_keys = [path for path in paths if re.match(r"\w+=", path)]
    if len(paths) < num_paths or like_keys:
        advice = f"; {like_keys[0]} was taken for a key: if it is a path, write ./{like_keys[0]}" if like_keys else ""
        raise UserError(f"source {source.name} needs: {source.usage()} [key=value ...]{advice}")
    given = parse_overrides(list(overrides))
    options, packing = _settings(given, source.settings)
    *images, destination = map(Path, paths)
    dataset = source.read(*images, options)
    if dataset.drawn and (unused := given.keys() & {*packing.arguments, "masks"}):
        raise UserError(f"{min(unused)}: source {source.name} draws its images and stores them as they are: remove it")
    with _leaving_on_term():
        manifest = pack(dataset, destination, packing, track=shown, remark=_print_remark)
    print(f"packed in {time.monotonic() - started:.1f} s: {destination}\n{_summary(manifest, destination)}")
    for remark in dataset.remarks:
        _print_remark(remark)
    _print_next(manifest, destination)


def _settings(given: Mapping[str, object], kind: Any) -> tuple[Any, PackingSettings]:
    """Return the settings of a source, which are of the class `kind`, and those of packing, validated together."""
    from fgssl.settings.validation import validate

    both: Any = validate(given, settings(type(kind.__name__, (kind, PackingSettings), {})), COMMAND_LINE)
    options, packing = (
        each(**{field.name: getattr(both, field.name) for field in dataclasses.fields(each)})
        for each in (kind, PackingSettings)
    )
    return options, dataclasses.replace(packing, workers=packing.workers or cores())


@contextlib.contextmanager
def _leaving_on_term() -> Iterator[None]:
    """Let TERM end the program as Ctrl-C does, so that packing cleans up."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_remark(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print_next(manifest: Manifest, folder: Path) -> None:
    settings = (f"data.dataset={manifest.dataset}", f"data.folder={folder}")
    print_next("fgssl", "sweep", "SWEEP.yaml", *settings, purpose="train on these images")


def _keys(settings: Any) -> list[tuple[str, str]]:
    """Return (`key=default`, description) of each field of `settings`, from the string below it in the source code.

    The description opens with the allowed values, if these are a choice.
    """
    (declaration,) = ast.parse(textwrap.dedent(inspect.getsource(settings))).body
    assert isinstance(declaration, ast.ClassDef)
    documented = {
        ast.unparse(field.target): " ".join(ast.literal_eval(text.value).split())
        for field, text in itertools.pairwise(declaration.body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }
    hints = get_type_hints(settings)
    return [
        (f"{field.name}={_as_typed(field.default)}", _choice(hints[field.name]) + documented.get(field.name, ""))
        for field in dataclasses.fields(settings)
    ]


def _choice(hint: Any) -> str:
    """Return the allowed values such as `[refuse|drop] `, or nothing if the type is no choice."""
    options = [hint] if get_origin(hint) is Literal else get_args(hint)
    values = [str(value) for option in options if get_origin(option) is Literal for value in get_args(option)]
    numbers = ["NUMBER" for option in options if option in (int, float)]
    return f"[{'|'.join([*numbers, *values])}] " if values else ""


def _as_typed(default: object) -> str:
    """Return a default as a user would type it; nothing for None."""
    if default is None:
        return ""
    if isinstance(default, tuple):
        return f"[{','.join(map(_as_typed, default))}]"
    return str(default).lower() if isinstance(default, bool) else str(default)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _summary(manifest: Manifest, folder: Path) -> str:
    import numpy as np

    from fgssl.data.shards import ShardedSplit

    levels = [f"{len(level.classes)} x {level.name}" for level in manifest.levels]
    masks = ", with masks" if manifest.masks else ""
    lines = [f"dataset {manifest.dataset}, {', '.join(levels) if levels else 'unlabeled'}{masks}"]
    for split, shards in manifest.splits.items():
        size = sum(shard.bytes for shard in shards) / 2**20
        images, files = _counted(manifest.count(split), "image"), _counted(len(shards), "shard")
        groups = len(np.unique(ShardedSplit(folder, split).groups))
        in_groups = f" in {_counted(groups, 'group')}" if groups < manifest.count(split) else ""
        lines.append(f"{split:>8}: {images}{in_groups}, {files}, {size:.1f} MiB")
    return "\n".join([*lines, f" version: {manifest.version}"])
