"""The layers of the package, and the two drawings of it in docs/ARCHITECTURE.md.

    python -m scripts.architecture

writes the diagram of the layers and the list of all modules from the table below and the
first lines of the modules' docstrings. tests/unit/test_layers.py keeps the imports to the table and
the document to what this draws.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "supersteps"
DOCUMENT = ROOT / "docs" / "ARCHITECTURE.md"


class Layer(NamedTuple):
    """Modules that may import each other, and those of the layers below.

    Attributes:
        names: Modules inside the package; a folder stands for everything in it.
        purpose: What they are for.
    """

    names: tuple[str, ...]
    purpose: str


# From the bottom to the top.
LAYERS = [
    Layer(("errors",), "the exception tree"),
    Layer(
        (
            "_*",
            "checkpoint_info",
            "events",
            "ids",
            "paths",
            "requests",
            "secrets",
            "states",
            "typing",
        ),
        "the ground: states, ids, events, annotations, small helpers",
    ),
    Layer(("checkpoint",), "records, commits, the typed JSON codec"),
    Layer(("storage",), "the ports and the storages"),
    Layer(("encryption",), "a storage around another one"),
    Layer(("define",), "what a user writes: executors, edges, requests, the graph"),
    Layer(("engine",), "one run: plan, execute, merge, commit, announce"),
    Layer(("run",), "workflows and their runs: builder, handle, stream, result"),
    Layer(("viz",), "pictures of workflows, runs and checkpoints"),
    Layer(
        (
            *("__init__", "backends", "checkpoints", "edges", "executors", "observers"),
            *("storages", "telemetry", "testing"),
        ),
        "the public names, by topic; the contract of storages",
    ),
    Layer(("service",), "what a command line or a page wants done with a store"),
    Layer(("__main__", "cli", "ui"), "what people see"),
]


def draw_layers() -> str:
    """Return the layers as text, the top one first."""
    rows = [(", ".join(n for n in layer.names if n != "__main__"), layer) for layer in LAYERS[::-1]]
    width = max(len(names) for names, _layer in rows)
    return "\n".join(f" {names:{width}}   {layer.purpose}" for names, layer in rows)


def draw_modules() -> str:
    """Return all modules as an indented list, each with the first line of its docstring."""
    return "\n".join(["src/supersteps/", *_lines(SOURCE, 1)])


def _lines(folder: Path, depth: int) -> Iterator[str]:
    files = sorted(p for p in folder.glob("*.py") if p.name != "__init__.py")
    folders = sorted(p for p in folder.iterdir() if (p / "__init__.py").exists())
    if depth == 1:
        yield _line("__init__.py", folder / "__init__.py", depth)
    for path in files:
        yield _line(path.name, path, depth)
    for inner in folders:
        yield _line(f"{inner.name}/", inner / "__init__.py", depth)
        yield from _lines(inner, depth + 1)


def _line(name: str, path: Path, depth: int) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first = docstring.partition("\n")[0].removesuffix(".")
    return f"{'  ' * depth + name:30}{first}".rstrip()


def drawn(text: str) -> str:
    """Return the document with both drawings updated."""
    for mark, drawing in (("layers", draw_layers()), ("modules", draw_modules())):
        begin, end = f"<!-- {mark}: drawn by scripts/architecture.py -->", f"<!-- {mark}: end -->"
        before, _, rest = text.partition(begin)
        _old, found, after = rest.partition(end)
        if not found:
            raise SystemExit(f"{DOCUMENT} has no place for the {mark}: {begin} ... {end}")
        text = f"{before}{begin}\n```\n{drawing}\n```\n{end}{after}"
    return text


def main() -> None:
    """Write the drawings into the document."""
    DOCUMENT.write_text(drawn(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
