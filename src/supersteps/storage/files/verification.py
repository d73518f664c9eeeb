"""The verification of the JSON storage's folder: finds all damage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from supersteps.checkpoint.record import CheckpointHeader
from supersteps.errors import CheckpointError, CorruptCheckpointError
from supersteps.ids import split_checkpoint_id
from supersteps.storage import _files, rules
from supersteps.storage.files.folder import CheckpointFolder
from supersteps.storage.files.run_folder import RunFolder
from supersteps.storage.records import Damage, RunRecord


def verify(folder: CheckpointFolder, run_id: str | None) -> list[Damage]:
    """Read every file, of one run or of all; check all hashes and references; return the damage."""
    if run_id is not None:
        paths = folder.files.numbered(run_id, _newest(folder, run_id)).values()
        found = _Found(folder, [folder.run(run_id)], [*paths])
    else:
        found = _Found(folder, folder.run_folders(), [*folder.files.paths()])
    return [*found.damaged_runs(), *found.damaged_checkpoints(), *found.broken_references()]


def _newest(folder: CheckpointFolder, run_id: str) -> int | None:
    """Return the number of a run's newest commit, None if its record is unreadable."""
    try:
        run = folder.run(run_id).peek()
    except CheckpointError:  # `_Found` reports it
        return None
    return None if run is None else run.sequence


class _Found:
    """The content of the folder, read once.

    Args:
        folder: The folder.
        run_folders: The runs to check.
        paths: The files to check, except checkpoints that were never committed.
    """

    def __init__(
        self, folder: CheckpointFolder, run_folders: list[RunFolder], paths: list[Path]
    ) -> None:
        self._folder = folder
        self._damaged_runs: list[Damage] = []
        self._runs: dict[str, RunRecord] = {}
        for run_folder in run_folders:
            self._read_run(run_folder)
        self._headers: dict[str, dict[str, CheckpointHeader]] = {}  # by run, by checkpoint
        self._damaged: dict[str, tuple[Path, str]] = {}
        for path in paths:
            self._read_checkpoint(path)

    def _read_run(self, run_folder: RunFolder) -> None:
        run_id = unquote(run_folder.path.name)
        try:
            run = run_folder.peek()
            if run is None:
                return
            run_id = run.run_id
            self._runs[run_id] = run
            for read in (lambda: run_folder.read_journal(run.head), run_folder.read_inbox):
                try:
                    read()
                except CheckpointError as error:
                    self._damaged_runs.append(_damage(run_folder.path, error, run_id))
        except CheckpointError as error:
            self._damaged_runs.append(_damage(run_folder.record_path, error, run_id))

    def _read_checkpoint(self, path: Path) -> None:
        checkpoint_id = unquote(path.stem)
        try:
            found = self._folder.files.read_file(path)
        except CheckpointError as error:
            place = split_checkpoint_id(checkpoint_id)
            run = self._runs.get(place[0]) if place else None
            if run is None or place is None or place[1] <= run.sequence:
                self._damaged[checkpoint_id] = (path, str(error))
            return
        if found is not None and not found[1]:
            header = found[0].header
            run = self._runs.get(header.run_id)
            is_stray = run is not None and run.incarnation != header.incarnation
            if not is_stray and (run is None or header.sequence <= run.sequence):
                self._headers.setdefault(header.run_id, {})[header.checkpoint_id] = header

    def damaged_runs(self) -> Iterator[Damage]:
        """Yield unreadable records, journals and inboxes, and runs that have lost their record."""
        yield from self._damaged_runs
        unreadable = {damage.run_id for damage in self._damaged_runs}
        for run_id, headers in self._headers.items():
            path = self._folder.run(run_id).record_path
            # A single first checkpoint is one whose commit was interrupted.
            lost = (
                run_id not in self._runs
                and run_id not in unreadable
                and any(h.sequence for h in headers.values())
            )
            if lost and not _files.exists(path) and self._folder.run(run_id).removed() is None:
                problem = (
                    f"{path} is missing, but {len(headers)} of its checkpoints exist. Restore it "
                    "from a backup."
                )
                yield Damage(f"file {path}", problem, run_id)

    def damaged_checkpoints(self) -> Iterator[Damage]:
        """Yield checkpoints that cannot be read."""
        for checkpoint_id, (path, problem) in self._damaged.items():
            run_id, number = split_checkpoint_id(checkpoint_id) or ("", 0)
            headers = self._headers.get(run_id, {})
            nearest = rules.intact_before(number, [*headers.values()])
            is_of_run = run_id in self._runs or bool(headers)
            yield Damage(
                f"file {path}",
                problem,
                run_id if is_of_run else None,
                checkpoint_id,
                None if nearest is None else nearest.checkpoint_id,
            )

    def broken_references(self) -> Iterator[Damage]:
        """Yield missing heads and parents that were not deleted in the meantime."""
        for run_id in self._runs:
            headers = self._headers.get(run_id, {})
            for header in headers.values():
                parent = header.parent_id
                if (
                    parent is None
                    or parent in headers
                    or parent in self._damaged
                    or self._has_moved(header)
                ):
                    continue
                path = self._folder.files.path(parent)
                nearest = rules.intact_before(header.sequence, [*headers.values()])
                yield Damage(
                    f"file {path}",
                    f"{path} is missing, but checkpoint {header.checkpoint_id!r} follows it. "
                    "Restore it from a backup, or continue without it: "
                    f"delete_checkpoint({parent!r}).",
                    run_id,
                    parent,
                    None if nearest is None else nearest.checkpoint_id,
                )
        for run_id, run in self._runs.items():
            headers = self._headers.get(run_id, {})
            if (
                run.head in headers
                or run.head in self._damaged
                or self._folder.run(run_id).peek() != run
            ):
                continue
            nearest = rules.intact_before(run.sequence + 1, [*headers.values()])
            path = self._folder.files.path(run.head)
            if path.exists():
                continue  # it was committed after the files were listed
            yield Damage(
                f"file {path}",
                f"{path} is missing, but it is the head of run {run_id!r}. Restore it from a "
                "backup, or restore the run to another of its checkpoints.",
                run_id,
                run.head,
                None if nearest is None else nearest.checkpoint_id,
            )

    def _has_moved(self, header: CheckpointHeader) -> bool:
        """Return whether a checkpoint was pruned, or got another parent, after it was read."""
        try:
            found = self._folder.files.read_header(self._folder.files.path(header.checkpoint_id))
        except CorruptCheckpointError:
            return True
        return found is None or found[0].parent_id != header.parent_id


def _damage(path: Path, error: CheckpointError, run_id: str) -> Damage:
    return Damage(f"file {path}" if path.suffix else f"folder {path}", str(error), run_id)
