"""Checkpoints: what one holds, how two differ, and how values are saved.

`storage.load_checkpoint(id)` gives a `WorkflowCheckpoint`; `checkpoint.diff(other)` gives a
`CheckpointDiff`. A type of your own is saved if it is a dataclass or another class with annotated
fields; for others use `@checkpointable` or `Codec.register`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
    from supersteps.checkpoint.codec.codec import Codec, RawValue, checkpointable
    from supersteps.checkpoint.diff import Change, CheckpointDiff
    from supersteps.checkpoint.edits import DELETE
    from supersteps.checkpoint.sections.answered import AnsweredRequest
    from supersteps.checkpoint.sections.question import PendingRequest
    from supersteps.checkpoint.sections.sub_run import SubWorkflowState
    from supersteps.checkpoint_info import CheckpointInfo
    from supersteps.define.summary import PendingRequestDetails, WorkflowCheckpointSummary
else:
    from supersteps._lazy_names import lazy_name

    _SOURCES = {
        "supersteps.checkpoint.checkpoint": ("WorkflowCheckpoint",),
        "supersteps.checkpoint.codec.codec": ("Codec", "RawValue", "checkpointable"),
        "supersteps.checkpoint.diff": ("Change", "CheckpointDiff"),
        "supersteps.checkpoint.sections.answered": ("AnsweredRequest",),
        "supersteps.checkpoint.sections.question": ("PendingRequest",),
        "supersteps.checkpoint.sections.sub_run": ("SubWorkflowState",),
        "supersteps.checkpoint_info": ("CheckpointInfo",),
        "supersteps.define.summary": ("PendingRequestDetails", "WorkflowCheckpointSummary"),
        "supersteps.checkpoint.edits": ("DELETE",),
    }

    def __getattr__(name: str) -> Any:
        value = globals()[name] = lazy_name(__name__, _SOURCES, name)
        return value


__all__ = [
    "DELETE",
    "AnsweredRequest",
    "Change",
    "CheckpointDiff",
    "CheckpointInfo",
    "Codec",
    "PendingRequest",
    "PendingRequestDetails",
    "RawValue",
    "SubWorkflowState",
    "WorkflowCheckpoint",
    "WorkflowCheckpointSummary",
    "checkpointable",
]


def __dir__() -> list[str]:
    return __all__
