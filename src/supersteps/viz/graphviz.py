"""The `dot` program of Graphviz: used where it is installed, never needed for SVG."""

from __future__ import annotations

import shutil
import subprocess
from typing import Literal

from supersteps.errors import PictureError

_SECONDS = 20
"""How long a drawing may take; Graphviz needs much longer only for graphs that nobody can read."""

_INSTALL = (
    "Install Graphviz (https://graphviz.org/download, or the package `graphviz` of your system) "
    "so that `dot` is on the PATH, or ask for svg, mermaid, dot or ascii, which need nothing"
)


def is_installed() -> bool:
    """Return whether `dot` is on the PATH."""
    return shutil.which("dot") is not None


def render(dot: str, format: Literal["svg", "png", "pdf"]) -> bytes:
    """Return a digraph drawn by Graphviz.

    Raises:
        PictureError: Graphviz is not installed, failed, or took too long.
    """
    program = shutil.which("dot")
    if program is None:
        raise PictureError(
            f"a {format} picture needs Graphviz, and there is no `dot` on the PATH. {_INSTALL}."
        )
    try:
        done = subprocess.run(
            [program, f"-T{format}"],
            input=dot.encode(),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PictureError(
            f"Graphviz took more than {_SECONDS} s to draw the picture. {_INSTALL}."
        ) from error
    except OSError as error:
        raise PictureError(
            f"Graphviz ({program}) could not be started: {error}. {_INSTALL}."
        ) from error
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip()[:300] or "nothing"
        raise PictureError(
            f"Graphviz ended with code {done.returncode} and said: {said}. {_INSTALL}."
        )
    return done.stdout
