"""Variables in the environment of a process, which launchers and schedulers set."""

import os

from fgssl.errors import UserError

_OF_LAUNCHERS = {
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "ROLE_NAME"),
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
}
"""Variables that torchrun and Intel MPI set; a prefix would also match those of a site, e.g. LOCAL_SCRATCH."""
_PREFIXES = ("TORCHELASTIC_", "ACCELERATE_", "OMPI_", "PMI_", "PMIX_", "MV2_", "PALS_")
_SITE = ("OMPI_MCA_", "PMIX_MCA_")
"""Prefixes of a site's configuration of its MPI, which does not depend on the launch."""


def is_of_launcher(name: str) -> bool:
    """Return whether a variable describes the place of a process among those that a launcher started together.

    Processes that such a process starts must not inherit it: torch and Accelerate would wait for the others.
    """
    return name in _OF_LAUNCHERS or (name.startswith(_PREFIXES) and not name.startswith(_SITE))


def outside_launcher() -> dict[str, str]:
    """Return the environment of this process without the variables of its launcher."""
    return {name: value for name, value in os.environ.items() if not is_of_launcher(name)}


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
