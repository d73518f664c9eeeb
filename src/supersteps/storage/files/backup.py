"""The backup of a folder of runs, while other processes write."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from supersteps.errors import CorruptCheckpointError, StorageError
from supersteps.ids import new_id
from supersteps.storage import _files
from supersteps.storage.files.checkpoint_files import CheckpointFiles
from supersteps.storage.files.folder import CheckpointFolder
from supersteps.storage.files.run_folder import RunFolder

_ATTEMPTS = 10
"""How often a run is copied again if checkpoints of it are deleted meanwhile."""

_Stamps = dict[Path, tuple[int, int, int]]
"""Files, with what shows whether they have changed."""


class Backup:
    """Copies a folder of runs.

    A run's record, journal and inbox are read with its lock held. Its checkpoints are copied
    without it, so that no process has to wait; files are only ever replaced as a whole, and a
    replacement is noticed.

    Args:
        source: The folder.
        path: Its path.
        target: The folder of the copy, which must not exist or be empty.
    """

    def __init__(self, source: CheckpointFolder, path: Path, target: Path) -> None:
        self._source = source
        self._path = path
        self._target = target
        self._draft = target.with_name(f".{target.name}.{new_id()[:8]}.tmp")

    def make(self) -> int:
        """Copy everything durably; return the size of the copy's files in bytes.

        The copy gets its name once it is complete.

        Raises:
            StorageError: It cannot be written, or the target exists.
        """
        if self._target.is_file() or (self._target.is_dir() and os.listdir(self._target)):
            raise StorageError(
                f"{self._target} exists already: choose a new folder for the backup. "
                "Nothing was written."
            )
        try:
            with _files.explained("write", self._target):
                os.mkdir(self._draft, _files.FOLDER_MODE)
                self._copy_all()
                size = self._sync_folders()
                os.replace(self._draft, self._target)
                _files.sync_folder(self._target.parent)
        finally:
            shutil.rmtree(self._draft, ignore_errors=True)
        return size

    def _copy_all(self) -> None:
        files = self._source.files
        there = set(files.paths())  # before the runs: later checkpoints belong to no copied run
        for folder in self._source.run_folders():
            there -= self._copy_run(folder, files)
        # Saved directly, or of a run whose record cannot be read.
        for path in sorted(there):
            data = _files.read(path)
            if data is not None:
                self._write(path, data)

    def _copy_run(self, folder: RunFolder, files: CheckpointFiles) -> set[Path]:
        """Copy a run; return its checkpoint files, including uncommitted ones."""
        for _ in range(_ATTEMPTS):
            with folder.lock.held():
                kept = {path: _files.read(path) for path in folder.kept_paths}
                if kept[folder.record_path] is None:
                    return set()
                try:
                    run = folder.peek()
                except CorruptCheckpointError:
                    run = None
                numbered = {} if run is None else files.numbered(run.run_id, None)
                newest = -1 if run is None else run.sequence
                before = _stamps(path for number, path in numbered.items() if number <= newest)
            places = [self._write(path, data) for path, data in kept.items() if data is not None]
            places += [self._write(path, _files.read(path) or b"") for path in before]
            if _stamps(before) == before:
                own = (path for path in numbered.values() if not files.is_standalone(path))
                return {*before, *own}
            for place in places:
                place.unlink()
        raise StorageError(
            f"{folder.path}: checkpoints of this run were deleted several times while it was being "
            "copied. Back it up when no process prunes it. Nothing was written."
        )

    def _write(self, path: Path, data: bytes) -> Path:
        place = self._draft / path.relative_to(self._path)
        _files.make_folder(place.parent)
        _files.write_new(place, data)
        return place

    def _sync_folders(self) -> int:
        """Make the names in the copy durable; return the size of its files in bytes."""
        size = 0
        for folder, _, names in os.walk(self._draft):
            _files.sync_folder(Path(folder))
            size += sum((Path(folder) / name).stat().st_size for name in names)
        return size


def _stamps(paths: Iterable[Path]) -> _Stamps:
    found: _Stamps = {}
    for path in paths:
        with suppress(FileNotFoundError):
            status = path.stat()
            found[path] = status.st_ino, status.st_mtime_ns, status.st_size
    return found
