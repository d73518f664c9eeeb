"""The notebooks keep their word: their cells run in order, and what stands at the end of a cell
can be shown.

There is no Jupyter here. A cell is compiled with top-level `await`, as IPython does it, and its
last expression is rendered as a notebook would: by `_repr_mimebundle_` where there is one, else by
`repr`.
"""

import ast
import inspect
import json
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs").rglob("*.ipynb"))

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def cells(path: Path, kind: str = "code") -> list[dict[str, Any]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


def compiled(tree: ast.Module | ast.Expression, name: str) -> CodeType:
    mode = "eval" if isinstance(tree, ast.Expression) else "exec"
    code: CodeType = compile(tree, name, mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return code


async def evaluate(code: CodeType, names: dict[str, Any]) -> Any:
    value = eval(code, names)
    return (
        await value
        if inspect.iscoroutine(value) and code.co_flags & inspect.CO_COROUTINE
        else value
    )


async def run_cell(source: str, names: dict[str, Any], name: str) -> dict[str, str]:
    """Run a cell and return what is shown below it, by MIME type."""
    tree = ast.parse(source, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    await evaluate(compiled(tree, name), names)
    if not isinstance(last, ast.Expr):
        return {}
    value = await evaluate(compiled(ast.Expression(last.value), name), names)
    if value is None:
        return {}
    show = getattr(value, "_repr_mimebundle_", None)
    return show(include=None, exclude=None) if show else {"text/plain": repr(value)}


@each_notebook
async def test_cells_run_and_show_their_last_value(path: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}

    shown = {}
    for cell in cells(path):
        shown[cell["id"]] = await run_cell(
            "".join(cell["source"]), names, f"{path.name}:{cell['id']}"
        )

    for cell_id, bundle in shown.items():
        assert bundle, f"cell {cell_id!r} shows nothing"
        assert all(isinstance(content, str) and content for content in bundle.values()), cell_id


async def test_workflow_checkpoint_run_and_difference_show_themselves() -> None:
    path = next(path for path in NOTEBOOKS if path.name == "time-travel.ipynb")
    names: dict[str, Any] = {"__name__": "__main__"}

    shown = {c["id"]: await run_cell("".join(c["source"]), names, c["id"]) for c in cells(path)}

    assert "<svg" in shown["workflow"]["image/svg+xml"]
    for cell_id in ("workflow", "checkpoint", "difference", "handle", "compare"):
        assert "text/html" in shown[cell_id], cell_id
    assert "an owl" in shown["fork"]["text/plain"]
    assert "an owl" in shown["compare"]["text/html"]


@each_notebook
def test_notebook_is_clean(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    ids = [cell["id"] for cell in content["cells"]]

    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert len(set(ids)) == len(ids)
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells(path)), (
        "clear all outputs"
    )
