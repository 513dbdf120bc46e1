"""Usual names of splits, by which sources recognize folders and column values, and the settings that choose others."""

from collections.abc import Collection
from typing import Annotated

from pydantic import BeforeValidator, Field

from fgssl.errors import DataError

USUAL = {
    "train": ("train", "training"),
    "test": ("test", "testing", "eval", "evaluation"),
    "validation": ("val", "valid", "validation", "dev"),
}
"""Usual names by the kind of split, compared without regard to case."""


def _as_names(value: object) -> object:
    values = value if isinstance(value, list | tuple) else (value,)
    return tuple(str(one) if isinstance(one, int) else one for one in values)


SplitNames = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1), BeforeValidator(_as_names)]
"""Annotation of a setting that takes one name, such as `val`, or several, such as `[train, val]`."""


def kind_of(name: str) -> str | None:
    """Return the kind of split that has `name` as a usual name, or None."""
    return next((kind for kind, names in USUAL.items() if name.strip().casefold() in names), None)


def recognize(
    there: Collection[str], train: SplitNames | None, test: SplitNames | None, where: str, lone: str
) -> tuple[dict[str, SplitNames], list[str]]:
    """Return which of the names make up `train` and `test`, and remarks about names that are not exactly these.

    `train` and `test` are names that the user chose. Without them the usual names decide: a validation split is the
    test split if there is no other one. `where` opens messages, and `lone` advises if there is one split only.

    Raises:
        DataError: A chosen name is missing, or the usual names leave a choice; the message has the possible answers.
    """
    for key, names in (("train", train), ("test", test)):
        if lacking := [name for name in names or () if name not in there]:
            raise DataError(f"{key}={lacking[0]}: {where} has no such split: give some of {', '.join(sorted(there))}")
    if both := set(train or ()) & set(test or ()):
        raise DataError(f"train and test: {min(both)} cannot be in both")
    usual: dict[str | None, list[str]] = {}
    for name in sorted(set(there) - set(train or ()) - set(test or ())):
        usual.setdefault(kind_of(name), []).append(name)
    held_out = usual.get("test", []) + usual.get("validation", [])
    for key, chosen, found in (("train", train, usual.get("train", [])), ("test", test, held_out)):
        if chosen is None and len(found) > 1:
            answers = [*(f"{key}={name}" for name in found), f"{key}=[{','.join(found)}] for all of them"]
            if key == "test" and (validation := usual.get("validation")) and usual.get("train"):
                answers.append(
                    f"train=[{','.join(usual['train'] + validation)}] to train on {' and '.join(validation)}"
                )
            raise DataError(
                f"{where}: has {' and '.join(found)}: which one is the {key} split? Give {', or '.join(answers)}"
            )
    splits = {"train": train or tuple(usual.get("train", ())), "test": test or tuple(held_out)}
    for split, names in splits.items():
        if not names:
            other = "test" if split == "train" else "train"
            raise DataError(
                f"{where}: has no {split} split, but {' and '.join(splits[other])}: add it, name it with {split}=NAME, "
                f"or {lone}"
            )
    remarks = [f"the {split} split is {' and '.join(names)}" for split, names in splits.items() if names != (split,)]
    return splits, remarks
