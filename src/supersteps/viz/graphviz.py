"""The `dot` program of Graphviz, which is optional for SVG."""

from __future__ import annotations

import shutil
import subprocess
from typing import Literal

from supersteps.errors import PictureError

_SECONDS = 20
"""Time limit of a drawing; only unreadably large graphs take Graphviz longer."""

_INSTALL = (
    "Install Graphviz (https://graphviz.org/download, or the package `graphviz` of your system) "
    "so that `dot` is on the PATH, or choose svg, mermaid, dot or ascii, which need no other "
    "program"
)


def is_installed() -> bool:
    """Return whether `dot` is on the PATH."""
    return shutil.which("dot") is not None


def render(dot: str, format: Literal["svg", "png", "pdf"]) -> bytes:
    """Draw a digraph with Graphviz.

    Raises:
        PictureError: Graphviz is not installed, failed, or took too long.
    """
    program = shutil.which("dot")
    if program is None:
        raise PictureError(
            f"a {format} picture needs Graphviz, but there is no `dot` on the PATH. {_INSTALL}."
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
