"""Notebook output: HTML without scripts, everything escaped.

Showing a value in a notebook must never fail. What cannot be drawn or decoded is left out; in the
worst case only the `repr` remains.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import singledispatch
from html import escape
from typing import Any

import msgspec

from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.diff import Change, CheckpointDiff
from supersteps.engine.runner import Runner
from supersteps.run.handle import StreamingRun
from supersteps.run.workflow import Workflow
from supersteps.viz import LIMIT, WorkflowViz
from supersteps.viz.checkpoints import Waiting, marks_from, marks_of, structure_of
from supersteps.viz.picture import Mark
from supersteps.viz.structure import picture_of

_WIDTH = 120
"""Maximum number of characters shown of a value."""
_ROWS = 200
"""Maximum number of rows shown of a table."""

_TABLE = "border-collapse:collapse;text-align:left;font-size:13px"
_CELL = (
    "padding:2px 10px 2px "
    "0;text-align:left;vertical-align:top;white-space:pre-wrap;word-break:break-word"
)
_SIGNS = {"add": ("+", "#e5f5e8"), "remove": ("-", "#fde7e9"), "replace": ("~", "#fff4d6")}


# ------------------------------------------------------------------------------------------ bundles


@singledispatch
def bundle_of(shown: object) -> dict[str, str]:
    """Return a workflow, run, checkpoint or difference as text by MIME type."""
    return {"text/plain": repr(shown)}


@bundle_of.register
def _workflow(workflow: Workflow) -> dict[str, str]:
    """Return the picture of a workflow."""
    bundle = {"text/plain": repr(workflow)}
    try:
        svg = WorkflowViz(workflow).to_svg(graphviz=False)
        bundle["image/svg+xml"] = svg
        bundle["text/html"] = _page(f"Workflow {workflow.workflow_id}", _inline(svg))
    except Exception:  # the text representation remains
        pass
    return bundle


@bundle_of.register
def _checkpoint(checkpoint: WorkflowCheckpoint) -> dict[str, str]:
    """Return the facts, picture and state of a checkpoint."""
    bundle = {"text/plain": repr(checkpoint)}
    try:
        facts = {
            "workflow": checkpoint.workflow_id,
            "run": checkpoint.run_id,
            "superstep": checkpoint.iteration_count,
            "status": checkpoint.status,
            "time": checkpoint.timestamp,
            "branch": checkpoint.branch,
            "follows": checkpoint.parent,
        }
        body = [_facts(facts), _tried(_checkpoint_picture, checkpoint), _tried(_state, checkpoint)]
        bundle["text/html"] = _page(f"Checkpoint {checkpoint.checkpoint_id}", *body)
    except Exception:
        pass
    return bundle


@bundle_of.register
def _run(run: StreamingRun) -> dict[str, str]:
    """Return the facts of a run and, once it is open, its picture."""
    bundle = {"text/plain": repr(run)}
    try:
        latest, runner = run.latest_checkpoint, run._work.runner
        facts = {
            "status": run.state.value,
            "superstep": None if latest is None else latest.step_number,
            "checkpoint": None if latest is None else latest.checkpoint_id,
        }
        picture = "" if runner is None else _tried(_run_picture, runner)
        bundle["text/html"] = _page(f"Run {run.run_id}", _facts(facts), picture)
    except Exception:
        pass
    return bundle


@bundle_of.register
def _diff(diff: CheckpointDiff) -> dict[str, str]:
    """Return a table of the differences."""
    bundle = {"text/plain": str(diff)}
    try:
        body = _changes(diff.changes) if diff.changes else "<p>They are equal.</p>"
        bundle["text/html"] = _page(f"{diff.before} → {diff.after}", body)
    except Exception:
        pass
    return bundle


# ----------------------------------------------------------------------------------------- pictures


def _tried(make: Callable[..., str], *arguments: Any) -> str:
    """Return a piece of a page, or nothing if it fails, so that the rest is shown."""
    try:
        return make(*arguments)
    except Exception:
        return ""


def _checkpoint_picture(checkpoint: WorkflowCheckpoint) -> str:
    """Return the picture of a checkpoint, or nothing if it has no stored graph."""
    structure = structure_of(checkpoint)
    if structure is None:
        return ""
    try:
        marks = marks_of(checkpoint, structure=structure)
    except Exception:  # its content cannot be decoded, but its graph can be drawn
        marks = {}
    return _drawn(structure, marks)


def _run_picture(runner: Runner) -> str:
    """Return the picture of a run at its last barrier."""
    state, structure = runner.state, msgspec.to_builtins(runner.graph.description)
    asked = [*state.requests.values(), *state.intercepted.values()]
    waiting = Waiting(
        messages=[target for message in state.messages for target in message.target_ids],
        timers=[target for timer in state.timers.values() for target in timer.message.target_ids],
        asking=[request.request_executor_id or request.source_executor_id for request in asked],
        fan_ins={group: sum(map(len, held.values())) for group, held in state.fan_in.items()},
        runs=state.sub_runs.keys(),
    )
    return _drawn(structure, marks_from(waiting, structure=structure))


def _drawn(structure: Mapping[str, Any], marks: Mapping[str, Sequence[Mark]]) -> str:
    from supersteps.viz.groups import grouped
    from supersteps.viz.svg import to_svg

    return _inline(to_svg(grouped(picture_of(structure, "", marks), LIMIT)))


def _inline(svg: str) -> str:
    """Return an SVG document as an element of a page."""
    return (
        '<div style="overflow-x:auto;max-width:100%">' + svg[max(svg.find("<svg"), 0) :] + "</div>"
    )


# ------------------------------------------------------------------------------------------- tables


def _page(title: str, *body: str) -> str:
    return f'<div style="font-family:sans-serif"><p><b>{escape(title)}</b></p>{"".join(body)}</div>'


def _facts(facts: Mapping[str, Any]) -> str:
    return _table(
        f'<th style="{_CELL}">{escape(name)}</th><td style="{_CELL}">{escape(str(value))}</td>'
        for name, value in facts.items()
        if value not in (None, "")
    )


def _state(checkpoint: WorkflowCheckpoint) -> str:
    """Return a checkpoint's state and other content as stored, which needs no types."""
    document = checkpoint.document()
    rows: list[tuple[tuple[str | int, ...], Any]]
    rows = [(("shared_state", key), value) for key, value in document["shared_state"].items()]
    for section in ("executor_states", "scopes"):
        rows += [
            ((section, name, key), v)
            for name, keys in document[section].items()
            for key, v in keys.items()
        ]
    rows += [
        (("requests", request_id), asked.get("data"))
        for request_id, asked in document["requests"].items()
    ]
    rows += [(("outputs", number), value) for number, value in enumerate(document["outputs"])]
    if not rows:
        return ""
    shown = (
        f'<th style="{_CELL}">{escape(_place(path))}</th>'
        f'<td style="{_CELL}"><code>{escape(_short(value))}</code></td>'
        for path, value in rows[:_ROWS]
    )
    return f"<details open><summary>State</summary>{_table(shown)}{_rest(rows)}</details>"


def _changes(changes: Sequence[Change]) -> str:
    rows = []
    for change in changes[:_ROWS]:
        sign, colour = _SIGNS[change.kind]
        before = "" if change.kind == "add" else _short(change.before)
        after = "" if change.kind == "remove" else _short(change.after)
        cells = (sign, _place(change.path), before, after)
        style = f"{_CELL};background:{colour};color:#1a1a1a"  # both colours, for dark pages
        rows.append(
            "".join(f'<td style="{style}"><code>{escape(cell)}</code></td>' for cell in cells)
        )
    head = "".join(f'<th style="{_CELL}">{name}</th>' for name in ("", "place", "before", "after"))
    return _table([head, *rows]) + _rest(changes)


def _table(rows: Iterable[str]) -> str:
    return f'<table style="{_TABLE}">' + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"


def _rest(rows: Collection[Any]) -> str:
    return f"<p>… and {len(rows) - _ROWS} more</p>" if len(rows) > _ROWS else ""


def _place(path: Sequence[str | int]) -> str:
    head, *inner = path
    return _cut(str(head) + "".join(f"[{item!r}]" for item in inner))


def _short(value: Any) -> str:
    return _cut(msgspec.json.encode(value).decode())


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
