"""Numbers in the environment of a process, which launchers and schedulers set."""

import os

from fgssl.errors import UserError


def number_of(name: str, otherwise: int | None = None) -> int:
    """Return a whole number, at least 0, from an environment variable.

    Raises `UserError` if it is another number or text, or missing with no `otherwise`.
    """
    text = os.environ.get(name, otherwise)
    try:
        number = int(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = -1
    if number < 0:
        raise UserError(
            f"{name}={text} in the environment must be a whole number, at least 0: unset it, or correct where it is set"
        )
    return number
