"""Calls of a plain storage's methods, sync or async."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Iterable
from typing import Any

from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.errors import StorageError

METHODS = (
    "save_checkpoint",
    "load_checkpoint",
    "list_checkpoint_ids",
    "list_checkpoints",
    "delete_checkpoint",
)
"""The methods of a `CheckpointStorage`."""


class PlainCalls:
    """A plain storage whose methods can be awaited, whether they are `async def` or `def`.

    A missing checkpoint is None, or a KeyError or FileNotFoundError that names it.

    Args:
        storage: Any object with the five methods.
    """

    def __init__(self, storage: Any) -> None:
        self._storage = storage

    async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
        await _settled(self._storage.save_checkpoint(checkpoint))
        return checkpoint.checkpoint_id

    async def load_checkpoint(self, checkpoint_id: str) -> WorkflowCheckpoint | None:
        """Return a checkpoint, None if there is none with this id.

        Raises:
            StorageError: The storage returned something else.
        """
        try:
            found = await _settled(self._storage.load_checkpoint(checkpoint_id))
        except (KeyError, FileNotFoundError) as error:
            if _names(error, checkpoint_id):
                return None
            raise
        if found is None or isinstance(found, WorkflowCheckpoint):
            return found
        raise self._wrong("load_checkpoint", found, "a WorkflowCheckpoint or None")

    async def list_checkpoint_ids(self, workflow_id: str | None = None) -> list[str]:
        return await self._listed("list_checkpoint_ids", workflow_id, str)

    async def list_checkpoints(self, workflow_id: str | None = None) -> list[WorkflowCheckpoint]:
        return await self._listed("list_checkpoints", workflow_id, WorkflowCheckpoint)

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        try:
            return bool(await _settled(self._storage.delete_checkpoint(checkpoint_id)))
        except (KeyError, FileNotFoundError) as error:
            if _names(error, checkpoint_id):
                return False
            raise

    async def _listed(self, method: str, workflow_id: str | None, kind: type[Any]) -> list[Any]:
        function = getattr(self._storage, method)
        found = await _settled(function() if workflow_id is None else function(workflow_id))
        if isinstance(found, AsyncIterable):
            items: list[Any] = [item async for item in found]
        elif isinstance(found, Iterable) and not isinstance(found, str):
            items = list(found)
        else:
            raise self._wrong(method, found, f"a list of {kind.__name__}")
        for item in items:
            if not isinstance(item, kind):
                raise self._wrong(method, item, f"a list of {kind.__name__}")
        return items

    def _wrong(self, method: str, found: object, wanted: str) -> StorageError:
        name = type(self._storage).__name__
        return StorageError(
            f"{name}.{method} returned {type(found).__name__}, but should return {wanted}. Use "
            "to_dict() to convert a checkpoint to JSON, and from_dict() to convert it back; "
            "nothing was changed"
        )


async def _settled(found: Any) -> Any:
    return await found if isinstance(found, Awaitable) else found


def _names(error: KeyError | FileNotFoundError, checkpoint_id: str) -> bool:
    """Return whether an error only says that a checkpoint does not exist."""
    told = (*error.args, getattr(error, "filename", None) or "")
    return any(checkpoint_id in str(part) for part in told)
