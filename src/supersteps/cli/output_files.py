"""Output files of commands, checked before any work is done."""

from __future__ import annotations

from pathlib import Path

from supersteps.service.errors import ServiceError


def check_target(path: Path, *, force: bool) -> None:
    """Refuse a file that cannot be written, or that exists and may not be replaced.

    Args:
        path: The file.
        force: Whether an existing file may be replaced.

    Raises:
        ServiceError: It cannot be written there.
    """
    if path.is_dir():
        raise ServiceError(f"{path} is a folder: pass the name of a file")
    if path.exists() and not force:
        raise ServiceError(
            f"{path} exists already: pass another name, or --force to replace it. Nothing was "
            "written."
        )
    if not path.parent.is_dir():
        raise ServiceError(
            f"there is no folder {path.parent}: create it first. Nothing was written."
        )
