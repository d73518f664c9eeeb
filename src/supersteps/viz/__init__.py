"""Pictures of workflows and checkpoints; start with `WorkflowViz`."""

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
"""How many nodes a drawing shows before some are grouped."""


class WorkflowViz:
    """Draws a workflow or a checkpoint as Mermaid, Graphviz, SVG or text.

    A checkpoint is drawn from its stored graph, without the workflow's code, with marks for waiting
    messages, questions and timers. In a notebook, just evaluate a workflow or checkpoint. For
    documents choose `to_svg()` or `to_mermaid()`, for terminals and logs `to_ascii()`.
    """

    def __init__(
        self,
        subject: Any,
        *,
        checkpoint: WorkflowCheckpoint | None = None,
        ran: Iterable[str] = (),
        failed: Iterable[str] = (),
    ) -> None:
        """Create the picture; drawing happens in the methods.

        Args:
            subject: A `Workflow` or a `WorkflowCheckpoint`.
            checkpoint: For a workflow: the checkpoint whose messages, questions and timers to mark.
            ran: Executors to mark as run, by their ids in events.
            failed: Executors to mark as failed.

        Raises:
            PictureError: The checkpoint has no stored graph.
            TypeError: The subject is neither a workflow nor a checkpoint.
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
        """The graph as plain values, with all nodes."""
        return self._picture

    # ---------------------------------------------------------------------------------------- texts

    def to_mermaid(self, *, limit: int | None = None) -> str:
        """Return a Mermaid flowchart.

        Args:
            limit: Maximum number of nodes, above which some are grouped; None draws all.
        """
        from supersteps.viz.mermaid import to_mermaid

        return to_mermaid(self._grouped(limit))

    def to_dot(self, *, limit: int | None = None) -> str:
        """Return a digraph in Graphviz's DOT language.

        Args:
            limit: Maximum number of nodes, above which some are grouped; None draws all.
        """
        from supersteps.viz.dot import to_dot

        return to_dot(self._grouped(limit))

    def to_digraph(self, *, limit: int | None = None) -> str:
        """Return the same as `to_dot`, under Agent Framework's name for it."""
        return self.to_dot(limit=limit)

    def to_ascii(self, width: int = 100, *, limit: int | None = LIMIT) -> str:
        """Return a drawing in text.

        Args:
            width: Maximum number of columns.
            limit: Maximum number of nodes, above which some are grouped; None draws all.
        """
        from supersteps.viz.text import to_ascii

        return to_ascii(self._grouped(limit), width)

    def to_svg(self, *, graphviz: bool | None = None, limit: int | None = LIMIT) -> str:
        """Return an SVG drawing.

        Args:
            graphviz: Whether Graphviz draws it; None uses it if it is installed and succeeds. Pass
                False for the built-in layout, which needs nothing and is the same on every machine.
            limit: Maximum number of nodes, above which some are grouped; None draws all.

        Raises:
            PictureError: Graphviz was requested, but is missing or failed.
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
            format: The format; png and pdf need Graphviz.
            filename: The file; a name without suffix gets one. None writes a temporary file, which
                the caller has to delete.

        Returns:
            The path written.

        Raises:
            PictureError: Graphviz is needed, but is missing or failed.
        """
        if format not in _SUFFIXES:
            raise ValueError(f"no such format: {format!r}; choose from {', '.join(_SUFFIXES)}")
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
    """Return a picture's title: the workflow, and a checkpoint's run and superstep."""
    name = str(getattr(subject, "workflow_id", ""))
    if checkpoint is None:
        return name
    run_id = getattr(checkpoint, "run_id", "")
    step = f"superstep {getattr(checkpoint, 'iteration_count', 0)}"
    return " · ".join(filter(None, (name, f"run {run_id}" if run_id else "", step)))
