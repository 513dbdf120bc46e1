"""Numbers in the environment of a process, as launchers and schedulers leave them there."""

import os

from fgssl.errors import UserError


def number_of(name: str, otherwise: int | None = None) -> int:
    """Return a whole number from the environment."""
    text = os.environ.get(name, otherwise)
    try:
        number = int(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = -1
    if number < 0:
        raise UserError(
            f"the environment has {name}={text}, which is no whole number from 0: unset it, or see who set it"
        )
    return number
