"""Deletion in the folder of the JSON storage: checkpoints and runs.

The folder is consistent after every step. If a parent is deleted, its children are first rewritten
with the nearest retained ancestor as parent. Then files are deleted, the newest first, so that no
checkpoint follows a missing file. Only a full disk reverses this order: then there is no space for
the rewritten file until another one is deleted.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord
from supersteps.errors import CheckpointError, CorruptCheckpointError, StorageError
from supersteps.ids import split_checkpoint_id
from supersteps.storage import _files, rules
from supersteps.storage.files.checkpoint_files import CheckpointFiles
from supersteps.storage.files.folder import CheckpointFolder
from supersteps.storage.files.run_folder import RunFolder, RunState
from supersteps.storage.records import RunRecord
from supersteps.storage.retention import RetentionPolicy, plan_pruning

_FULL = (errno.ENOSPC, errno.EDQUOT)


def delete_checkpoint(folder: CheckpointFolder, unwanted: str) -> bool:
    """Delete a checkpoint, and move its run's head away from it; return whether it existed."""
    path = folder.files.path(unwanted)
    try:
        found = folder.files.read_header(path)
    except CorruptCheckpointError:
        # A damaged file may be deleted; its name names its run.
        run_id, _number = split_checkpoint_id(unwanted) or ("", 0)
    else:
        if found is None:
            return _forget(folder, unwanted)
        header, standalone = found
        if standalone or folder.is_stray(header):
            with folder.by_hand.held():
                return _files.remove_durably(path)
        if not folder.is_seen(header):
            return False
        run_id = header.run_id
    if not run_id or not folder.run(run_id).exists():
        return _files.remove_durably(path)
    with folder.hold(run_id) as run_folder:
        state = run_folder.load()
        if state is None:
            return _files.remove_durably(path)
        headers, _damaged = folder.files.read_headers(
            run_id, state.run.sequence, state.run.incarnation
        )
        _detach(folder, run_folder, state, unwanted, headers)
        return True


def _forget(folder: CheckpointFolder, lost: str) -> bool:
    """Remove references to a checkpoint whose file is missing; return whether there were any."""
    run_id, number = split_checkpoint_id(lost) or ("", 0)
    if not run_id or not folder.run(run_id).exists():
        return False
    with folder.hold(run_id) as run_folder:
        state = run_folder.load()
        if state is None or folder.files.numbered(run_id, None).get(number):
            return False
        headers, _damaged = folder.files.read_headers(
            run_id, state.run.sequence, state.run.incarnation
        )
        if state.run.head != lost and all(header.parent_id != lost for header in headers):
            return False
        _detach(folder, run_folder, state, lost, headers)
        return True


def _detach(
    folder: CheckpointFolder,
    run_folder: RunFolder,
    state: RunState,
    unwanted: str,
    headers: list[CheckpointHeader],
) -> None:
    """Delete a checkpoint to which neither the head nor another checkpoint refers."""
    run = state.run
    lost = next((header for header in headers if header.checkpoint_id == unwanted), None)
    if lost is None:
        lost = _presumed(run, unwanted, headers)
        headers.append(lost)
    if run.head == unwanted:
        head = rules.choose_head(lost, headers)
        target = None if head is None else folder.load(head.checkpoint_id)
        if target is None:
            run_folder.remove()
            _files.remove_durably(folder.files.path(unwanted))
            run_folder.clear()
            return
        folder.set_head(run_folder, state, target)
    _remove(folder.files, [unwanted], rules.new_parents(headers, {unwanted}))


def _presumed(run: RunRecord, damaged: str, intact: list[CheckpointHeader]) -> CheckpointHeader:
    """Return the presumable header of a damaged checkpoint, as far as needed."""
    _run_id, sequence = split_checkpoint_id(damaged) or ("", run.sequence)
    parent = rules.intact_before(sequence, intact)
    return CheckpointHeader(
        checkpoint_id=damaged,
        workflow_id=run.workflow_id,
        timestamp="",
        parent_id=None if parent is None else parent.checkpoint_id,
        sequence=sequence,
        branch=run.branch,
    )


def _remove(files: CheckpointFiles, gone: Sequence[str], parents: Mapping[str, str | None]) -> None:
    """Delete checkpoints, ordered by number, and give their children new `parents`."""
    paths = [files.path(checkpoint_id) for checkpoint_id in reversed(gone)]
    try:
        _adopt(files, parents)
    except StorageError as error:
        if not (isinstance(error.__cause__, OSError) and error.__cause__.errno in _FULL):
            raise
        _remove_one_by_one(paths)
        _adopt(files, parents)  # if this fails again, a repetition with enough space completes it
    else:
        _remove_one_by_one(paths)


def _remove_one_by_one(paths: Iterable[Path]) -> None:
    """Delete files one by one and durably: a power cut must not undo an earlier deletion only."""
    for path in paths:
        _files.remove_durably(path)


def _adopt(files: CheckpointFiles, parents: Mapping[str, str | None]) -> None:
    """Rewrite checkpoints with new parents, each as a whole."""
    for checkpoint_id, parent in parents.items():
        found = files.read(checkpoint_id)
        if found is not None:
            record, standalone = found
            header = replace(record.header, parent_id=parent)
            files.write(CheckpointRecord(header, record.parts), standalone=standalone)


def prune(
    folder: CheckpointFolder, run_id: str, policy: RetentionPolicy, dry_run: bool
) -> tuple[list[str], list[str]]:
    """Delete what a policy removes; return the ids, oldest first, and problems of checkpoints."""
    with folder.hold(run_id) as run_folder:
        state = run_folder.load()
        if state is None:
            raise rules.no_such_run(run_id)
        headers, problems = folder.files.read_headers(
            run_id, state.run.sequence, state.run.incarnation
        )
        pruning = plan_pruning(
            state.run, [*headers, *_half_removed(folder.files, state.run, headers)], policy
        )
        if not dry_run:
            _remove(folder.files, pruning.gone, pruning.parents)
        return pruning.gone, problems


def _half_removed(
    files: CheckpointFiles, run: RunRecord, headers: list[CheckpointHeader]
) -> list[CheckpointHeader]:
    """Return ids of missing checkpoints with children, left by pruning on a full disk.

    The next pruning finishes it. If the policy keeps such a checkpoint, it remains missing and
    `verify` reports it.
    """
    known = {header.checkpoint_id for header in headers}
    missing = {header.parent_id for header in headers if header.parent_id is not None} - known
    return [
        _presumed(run, gone, headers)
        for gone in sorted(missing)
        if not _files.exists(files.path(gone))
    ]


def delete_run(folder: CheckpointFolder, run_id: str) -> bool:
    """Delete a run with all its checkpoints; return whether it existed."""
    run_folder = folder.run(run_id)
    if not run_folder.exists():
        return False
    with run_folder.lock.held():
        state = run_folder.load()
        if state is not None:
            run_folder.remove()
            _finish_removal(folder.files, run_folder, state.run)
        return state is not None


def _finish_removal(files: CheckpointFiles, run_folder: RunFolder, run: RunRecord) -> None:
    """Delete the checkpoints and other files of a deleted run."""
    numbered = files.numbered(run.run_id, run.sequence + 1)  # the next one may exist, uncommitted
    _remove_committed(files, numbered.values())
    run_folder.clear()


def _remove_committed(files: CheckpointFiles, paths: Iterable[Path]) -> None:
    _files.remove_durably(*(path for path in paths if not files.is_standalone(path)))


# ---------------------------------------------------------------------------------------- leftovers


def vacuum(folder: CheckpointFolder) -> list[str]:
    """Delete leftovers of interrupted writes and deletions; return problems of runs left as is."""
    if not _files.exists(folder.runs_path):
        return []
    problems: list[str] = []
    # By the name of the run's folder: drafts of a run are touched only with its lock.
    drafts: dict[str, list[Path]] = {}
    for stem, path in folder.files.drafts():
        name, _number = split_checkpoint_id(stem) or ("", 0)
        drafts.setdefault(name, []).append(path)
    for run_folder in folder.run_folders():
        its_drafts = drafts.pop(run_folder.path.name, ())
        try:
            with run_folder.lock.held():
                _files.remove_durably(*its_drafts)
                _tidy(folder.files, run_folder)
        except CheckpointError as error:
            problems.append(str(error))
    with folder.by_hand.held():
        _files.remove_durably(
            *(path for paths in drafts.values() for path in paths if not _may_be_of_a_run(path))
        )
    return problems


def _may_be_of_a_run(draft: Path) -> bool:
    return "~" in draft.name  # a long name that ends in a hash does not name the run


def _is_of_another_run(files: CheckpointFiles, path: Path, run: RunRecord) -> bool:
    """Return whether an intact checkpoint belongs to another run of the same id."""
    try:
        found = files.read_header(path)
    except CheckpointError:
        return False
    return found is not None and found[0].incarnation != run.incarnation


def _tidy(files: CheckpointFiles, run_folder: RunFolder) -> None:
    state = run_folder.load()
    if state is not None:
        run_folder.tidy(state)
        run = state.run
        beyond = [
            path
            for number, path in files.numbered(run.run_id, None).items()
            if number > run.sequence and not _is_of_another_run(files, path, run)
        ]
        _remove_committed(files, beyond)
    elif (removed := run_folder.removed()) is not None:
        _finish_removal(files, run_folder, removed)
    else:
        places = {path: split_checkpoint_id(path.stem) for path in files.paths()}
        orphans = {
            path: place[1]
            for path, place in places.items()
            if place is not None and place[0] == run_folder.path.name
        }
        # A single first checkpoint is one whose commit was interrupted. Several belong to a run
        # whose record was lost: they may be repaired, so they are not deleted, and `verify` reports
        # them.
        if list(orphans.values()) == [0]:
            _remove_committed(files, list(orphans))
