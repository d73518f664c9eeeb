"""`import supersteps` stays light: only what defining a workflow needs is imported."""

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import supersteps
from scripts.architecture import ROOT

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

LIGHT_TOPICS = "from supersteps import checkpoints, edges, errors, executors, storages"

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
    [("import supersteps", set()), (DEFINING, set()), (LIGHT_TOPICS, set()), (HELP, FOR_HELP)],
    ids=["import", "defining a workflow", "topics", "help"],
)
def test_import_brings_no_heavy_module(program: str, needed: set[str]) -> None:
    imported = imported_by(program)

    assert "supersteps" in imported
    assert imported & (HEAVY - needed) == set()


TOPICS = ("checkpoints", "edges", "errors", "events", "executors", "storages")

# The names of the root before there were modules by topic, and those of the reference.
STILL_IMPORTABLE = """
AnsweredRequest Change CheckpointDecodeError CheckpointDiff CheckpointEncodeError
CheckpointNotFoundError CheckpointSaveError CheckpointVersionError CheckpointingDisabledError
Codec ConcurrentRunError CorruptCheckpointError DurableStorage EdgeDuplicationError ErrorEdgeGroup
ExecutorCompletedEvent ExecutorEvent ExecutorFailedEvent ExecutorInvokedEvent FanInEdgeGroup
FanOutEdgeGroup ForkError FunctionExecutor GraphConnectivityError HandlerError Keyring
ManagedStorage Never PendingRequest PendingRequestDetails RawValue Ready RequestClosedEvent
RunDrainedError RunFencedError SingleEdgeGroup StateConflictError StorageError SubWorkflowState
SuperStepCompletionInfo SuperStepStartInfo SuperStepStartedEvent SwitchCaseEdgeGroup
TypeCompatibilityError UndeliveredMessageWarning ValidationTypeEnum WorkflowCheckpointSummary
WorkflowErrorDetails WorkflowErrorEvent WorkflowEventSource WorkflowFailedEvent
WorkflowLifecycleEvent WorkflowRuntimeError WorkflowStartedEvent WorkflowValidationError
WorkflowWarningEvent
"""


def declared_in(module: ModuleType) -> dict[str, str]:
    """The names that a module declares for type checkers, with the modules it takes them from."""
    source = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    (declared,) = (node for node in source.body if isinstance(node, ast.If))
    return {
        alias.name: statement.module or ""
        for statement in declared.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
        if alias.name != "*"
    }


@pytest.mark.parametrize("topic", ["checkpoints", "storages"])
def test_what_a_topic_imports_when_first_used_is_declared_for_type_checkers(topic: str) -> None:
    module = importlib.import_module(f"supersteps.{topic}")
    used = {name: source for source, names in module._SOURCES.items() for name in names}

    assert declared_in(module) == used
    assert sorted(used) == sorted(module.__all__)


def test_what_the_root_imports_when_first_used_is_declared_for_type_checkers() -> None:
    declared = declared_in(supersteps)

    assert {*declared} < {*supersteps.__all__}
    for name, source in declared.items():
        assert getattr(supersteps, name) is getattr(importlib.import_module(source), name)


@pytest.mark.parametrize("topic", TOPICS)
def test_every_name_of_a_topic_can_be_imported_from_the_root_too(topic: str) -> None:
    module = importlib.import_module(f"supersteps.{topic}")

    assert getattr(supersteps, topic) is module
    assert (module.__doc__ or "").count(".") > 1  # it says what to choose
    for name in module.__all__:
        assert getattr(supersteps, name) is getattr(module, name)


@pytest.mark.parametrize("name", STILL_IMPORTABLE.split())
def test_a_name_that_the_root_no_longer_lists_can_be_imported(name: str) -> None:
    assert name not in supersteps.__all__
    assert name not in dir(supersteps)
    assert getattr(supersteps, name) is not None


@pytest.mark.parametrize("name", supersteps.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert name in dir(supersteps)
    assert getattr(supersteps, name) is not None


def test_the_root_lists_what_one_page_can_teach() -> None:
    assert len(supersteps.__all__) <= 48


def test_guides_and_examples_import_each_name_from_where_it_is_listed() -> None:
    guides = [
        ROOT / "README.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.py"),
    ]
    imports = re.compile(r"^ *from supersteps import (\([^)]*\)|.*)", re.MULTILINE)
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in guides
        for names in imports.findall(path.read_text(encoding="utf-8"))
        for name in re.findall(r"\w+", names.partition("#")[0])
        if name not in supersteps.__all__
    ]

    assert len(guides) > 30
    assert not found


@pytest.mark.parametrize("module", ["supersteps", "supersteps.checkpoints", "supersteps.storages"])
def test_an_unknown_name_is_refused(module: str) -> None:
    with pytest.raises(AttributeError, match=f"'{module}' has no attribute 'Workflows'"):
        _ = importlib.import_module(module).Workflows


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
    assert {*made_here} | {"ValidationTypeEnum"} == {*errors.__all__}
    assert all(name in (errors.__doc__ or "") for name in made_here)
