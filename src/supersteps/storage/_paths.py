"""Users' paths, made absolute for storages."""

from __future__ import annotations

import os
from pathlib import Path

from supersteps.errors import StorageError


def settled_path(given: str | os.PathLike[str], storage: str) -> Path:
    """Return an absolute path that keeps its meaning.

    `~` is expanded and symbolic links are followed once, here: a later change of the working
    directory or of a link does not lead to other files in the middle of a run.

    Args:
        given: The user's path.
        storage: Name of the class that uses it, for the message.

    Raises:
        StorageError: It is not the path of a file or folder.
    """
    text = os.fspath(given)
    if not text:
        raise StorageError(f"{storage} needs a path, which must not be empty")
    if text == ":memory:" or text.startswith("file::memory:"):
        raise StorageError(
            f"{storage} stores runs in files, but {text!r} is SQLite's name for memory. To keep "
            "runs in memory, use InMemoryCheckpointStorage()."
        )
    if text.startswith(("file:", "sqlite:")):
        raise StorageError(
            f"{storage} takes a path, but {text!r} looks like an address. Pass it to "
            f"open_storage(), or pass the path alone (./{text} for a file of this name)."
        )
    try:
        return Path(os.path.realpath(os.path.expanduser(text)))
    except (OSError, ValueError) as error:  # the working directory was deleted; a NUL in the path
        raise StorageError(f"{storage} cannot use the path {text!r}: {error}") from error
