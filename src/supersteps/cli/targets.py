"""Files that commands write: refused before anything is read where they cannot be written."""

from __future__ import annotations

from pathlib import Path

from supersteps.service.errors import ServiceError


def check_target(path: Path, *, force: bool) -> None:
    """Refuse to write a file where it cannot be, or where one is that nobody said to replace.

    Args:
        path: The file.
        force: Whether one that is there is replaced.

    Raises:
        ServiceError: It cannot be written there.
    """
    if path.is_dir():
        raise ServiceError(f"{path} is a folder: give the name of a file")
    if path.exists() and not force:
        raise ServiceError(
            f"{path} exists already: give another name, or --force to replace it. "
            "Nothing was written."
        )
    if not path.parent.is_dir():
        raise ServiceError(f"there is no folder {path.parent}: make it first. Nothing was written.")
