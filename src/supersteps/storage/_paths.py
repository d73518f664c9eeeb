"""Paths that users give, as storages keep them."""

from __future__ import annotations

import os
from pathlib import Path

from supersteps.errors import StorageError


def settled_path(given: str | os.PathLike[str], storage: str) -> Path:
    """Return an absolute path that means the same place from now on.

    `~` is expanded and symbolic links are followed here, once: later changes of the working
    directory or of a link do not lead to other files in the middle of a run.

    Args:
        given: What the user wrote.
        storage: Name of the class that gets it, for the message.

    Raises:
        StorageError: It is not the path of a file or folder.
    """
    text = os.fspath(given)
    if not text:
        raise StorageError(f"{storage} needs a path, and was given an empty one")
    if text == ":memory:" or text.startswith("file::memory:"):
        raise StorageError(
            f"{storage} keeps runs in files, and {text!r} is SQLite's name for memory. To keep "
            "runs in memory use InMemoryCheckpointStorage()."
        )
    if text.startswith(("file:", "sqlite:")):
        raise StorageError(
            f"{storage} takes a path, and {text!r} looks like an address. Give it to "
            f"open_storage(), or write the path alone (./{text} for a file of this name)."
        )
    try:
        return Path(os.path.realpath(os.path.expanduser(text)))
    except (OSError, ValueError) as error:  # the working directory is gone; a NUL in it
        raise StorageError(f"{storage} cannot use the path {text!r}: {error}") from error
