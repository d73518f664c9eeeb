"""`import supersteps` stays light: only what defining a workflow needs is imported."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import supersteps

HEAVY = {
    "asyncio",
    "click",
    "cryptography",
    "http.client",
    "json",
    "jsonschema",
    "msgspec",
    "multiprocessing",
    "pathlib",
    "pydantic",
    "rich",
    "socket",
    "sqlite3",
    "supersteps.checkpoint",
    "supersteps.engine",
    "supersteps.events",
    "supersteps.run.handle",
    "supersteps.run.workflow",
    "supersteps.secrets",
    "supersteps.storage",
    "traceback",
    "typing_extensions",
    "unittest",
    "urllib",
    "uuid",
}

DEFINING = """
from supersteps import Executor, Never, WorkflowBuilder, WorkflowContext, executor, handler

class Double(Executor):
    @handler
    async def double(self, number: int, ctx: WorkflowContext[int]) -> None: ...

@executor
async def show(number: int, ctx: WorkflowContext[Never, int]) -> None: ...

builder = WorkflowBuilder().set_start_executor(double := Double("double")).add_edge(double, show)
"""

HELP = """
from supersteps.cli import main
try:
    main(["--help"])
except SystemExit as end:
    assert end.code == 0
"""

# What the command line itself needs; click brings uuid.
FOR_HELP = {"click", "uuid"}


def imported_by(program: str) -> set[str]:
    """The modules that a program brings in, in a Python that has imported nothing."""
    before, after = "import sys; before = set(sys.modules)", "after = set(sys.modules)"
    report = "import json; print(json.dumps(sorted(after - before)), file=sys.stderr)"
    script = "\n".join([before, program, after, report])
    # -I: neither the environment nor the current folder can add or hide a module.
    fresh = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=False
    )
    assert fresh.returncode == 0, fresh.stderr
    return set(json.loads(fresh.stderr))


@pytest.mark.parametrize(
    ("program", "needed"),
    [("import supersteps", set()), (DEFINING, set()), (HELP, FOR_HELP)],
    ids=["import", "defining a workflow", "help"],
)
def test_import_brings_no_heavy_module(program: str, needed: set[str]) -> None:
    imported = imported_by(program)

    assert "supersteps" in imported
    assert imported & (HEAVY - needed) == set()


def test_what_is_imported_when_first_used_is_declared_for_type_checkers() -> None:
    source = ast.parse(Path(supersteps.__file__).read_text(encoding="utf-8"))
    (declared,) = (node for node in source.body if isinstance(node, ast.If))
    names = {
        alias.name: (statement.module or "").removeprefix("supersteps.")
        for statement in declared.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }

    assert names == supersteps._LAZY


@pytest.mark.parametrize("name", supersteps.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert name in dir(supersteps)
    value = getattr(supersteps, name)

    if name in supersteps._LAZY:
        module = importlib.import_module(f"supersteps.{supersteps._LAZY[name]}")
        assert value is getattr(module, name)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="'supersteps' has no attribute 'Workflows'"):
        _ = supersteps.Workflows


def test_every_error_is_exported() -> None:
    from supersteps import errors

    made_here = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type)
        and issubclass(value, Exception)
        and value.__module__ == errors.__name__
    ]
    assert "PictureError" in made_here
    assert {*made_here} <= {*supersteps.__all__}
    assert all(name in (errors.__doc__ or "") for name in made_here)
