"""Pictures of workflows and checkpoints: Mermaid, Graphviz, SVG, text; `WorkflowViz` is the way in."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from supersteps.errors import PictureError
from supersteps.viz.checkpoints import marks_of, structure_of
from supersteps.viz.graphviz import is_installed, render
from supersteps.viz.picture import Picture
from supersteps.viz.structure import picture_of

if TYPE_CHECKING:
    from supersteps.checkpoint.checkpoint import WorkflowCheckpoint

__all__ = ["Format", "PictureError", "WorkflowViz"]

Format = Literal["svg", "mermaid", "dot", "ascii", "png", "pdf"]

_SUFFIXES: Mapping[Format, str] = {
    "svg": ".svg",
    "mermaid": ".mmd",
    "dot": ".dot",
    "ascii": ".txt",
    "png": ".png",
    "pdf": ".pdf",
}

LIMIT = 60
"""How many nodes a drawing shows before some are drawn as one."""


class WorkflowViz:
    """Draws a workflow, or a checkpoint: its own stored structure with what waits where.

    A checkpoint alone is enough; the workflow's code is not needed.
    """

    def __init__(
        self,
        subject: Any,
        *,
        checkpoint: WorkflowCheckpoint | None = None,
        ran: Iterable[str] = (),
        failed: Iterable[str] = (),
    ) -> None:
        """Nothing is drawn until one of the methods is called.

        Args:
            subject: A `Workflow` or a `WorkflowCheckpoint`.
            checkpoint: Whose messages, questions and timers to show in the picture of a workflow.
            ran: Executors to mark as having run, named as in events.
            failed: Executors to mark as having failed.

        Raises:
            PictureError: The checkpoint has no stored graph.
            TypeError: The subject is neither.
        """
        description = getattr(getattr(subject, "graph", None), "description", None)
        if description is not None:
            structure: Mapping[str, Any] | None = msgspec.to_builtins(description)
        elif callable(getattr(subject, "document", None)):
            structure = structure_of(subject)
            checkpoint = subject if checkpoint is None else checkpoint
        else:
            raise TypeError(
                "WorkflowViz draws a Workflow or a WorkflowCheckpoint, not a "
                f"{type(subject).__name__}"
            )
        if structure is None:
            raise PictureError(
                f"checkpoint {getattr(subject, 'checkpoint_id', '')!r} has no stored graph (it "
                "was not written by a run): draw it with its workflow, WorkflowViz(workflow, "
                "checkpoint=checkpoint)"
            )
        marks = marks_of(checkpoint, ran=ran, failed=failed, structure=structure)
        self._picture = picture_of(structure, _title(subject, checkpoint), marks)

    @property
    def picture(self) -> Picture:
        """The graph as plain values, with every node."""
        return self._picture

    # ---------------------------------------------------------------------------------------- texts

    def to_mermaid(self, *, limit: int | None = None) -> str:
        """Return a Mermaid flowchart.

        Args:
            limit: How many nodes to show before some are drawn as one; all of them when None.
        """
        from supersteps.viz.mermaid import to_mermaid

        return to_mermaid(self._grouped(limit))

    def to_dot(self, *, limit: int | None = None) -> str:
        """Return a digraph in the language of Graphviz.

        Args:
            limit: How many nodes to show before some are drawn as one; all of them when None.
        """
        from supersteps.viz.dot import to_dot

        return to_dot(self._grouped(limit))

    def to_digraph(self, *, limit: int | None = None) -> str:
        """Do what `to_dot` does, by the name that Agent Framework gives it."""
        return self.to_dot(limit=limit)

    def to_ascii(self, width: int = 100, *, limit: int | None = LIMIT) -> str:
        """Return a drawing in text.

        Args:
            width: How many columns it may take.
            limit: How many nodes to show before some are drawn as one; all of them when None.
        """
        from supersteps.viz.text import to_ascii

        return to_ascii(self._grouped(limit), width)

    def to_svg(self, *, graphviz: bool | None = None, limit: int | None = LIMIT) -> str:
        """Return an SVG drawing.

        Args:
            graphviz: Whether Graphviz draws it; None when it is installed and manages to. The
                built-in drawing needs nothing and is the same everywhere.
            limit: How many nodes to show before some are drawn as one; all of them when None.

        Raises:
            PictureError: Graphviz was asked for, and is missing or failed.
        """
        if graphviz or (graphviz is None and is_installed()):
            try:
                return render(self.to_dot(limit=limit), "svg").decode()
            except PictureError:
                if graphviz:
                    raise
        from supersteps.viz.svg import to_svg

        return to_svg(self._grouped(limit))

    # ---------------------------------------------------------------------------------------- files

    def export(self, format: Format = "svg", filename: str | os.PathLike[str] | None = None) -> str:
        """Write a drawing to a file.

        Args:
            format: What to write; png and pdf need Graphviz.
            filename: Where; a suffix is added to a name without one. A temporary file when None,
                left to the caller.

        Returns:
            The path written.

        Raises:
            PictureError: Graphviz is needed, and is missing or failed.
        """
        if format not in _SUFFIXES:
            raise ValueError(f"there is no format {format!r}; choose from {', '.join(_SUFFIXES)}")
        content = self._rendered(format)
        if filename is None:
            handle, name = tempfile.mkstemp(_SUFFIXES[format], "workflow-")
            with open(handle, "wb") as file:
                file.write(content)
            return name
        path = Path(filename)
        if not path.suffix:
            path = path.with_name(path.name + _SUFFIXES[format])
        path.write_bytes(content)
        return str(path)

    def save_svg(self, filename: str | os.PathLike[str]) -> str:
        """Write an SVG drawing; see `export`."""
        return self.export("svg", filename)

    def save_png(self, filename: str | os.PathLike[str]) -> str:
        """Write a PNG drawing; see `export`."""
        return self.export("png", filename)

    def save_pdf(self, filename: str | os.PathLike[str]) -> str:
        """Write a PDF drawing; see `export`."""
        return self.export("pdf", filename)

    def _rendered(self, format: Format) -> bytes:
        match format:
            case "svg":
                return self.to_svg().encode()
            case "mermaid":
                return self.to_mermaid().encode()
            case "dot":
                return self.to_dot().encode()
            case "ascii":
                return self.to_ascii().encode()
            case "png" | "pdf":
                return render(self.to_dot(limit=LIMIT), format)

    def _grouped(self, limit: int | None) -> Picture:
        if limit is None:
            return self._picture
        from supersteps.viz.groups import grouped

        return grouped(self._picture, limit)


def _title(subject: Any, checkpoint: Any) -> str:
    """Return what a picture shows: the workflow's name, with a checkpoint its run and superstep, too."""
    name = str(getattr(subject, "workflow_id", ""))
    if checkpoint is None:
        return name
    run_id = getattr(checkpoint, "run_id", "")
    step = f"superstep {getattr(checkpoint, 'iteration_count', 0)}"
    return " · ".join(filter(None, (name, f"run {run_id}" if run_id else "", step)))
