"""The application's workflows, by the names under which people give them."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supersteps import Workflow
from supersteps.service.applications import find_workflow, load_workflow
from supersteps.service.errors import ApplicationError

HEAD = """
from typing import Never
from supersteps import WorkflowBuilder, WorkflowContext, executor

@executor
async def shout(text: str, ctx: WorkflowContext[Never, str]) -> None:
    await ctx.yield_output(text.upper())

def builder(name: str) -> WorkflowBuilder:
    return WorkflowBuilder(name=name).set_start_executor(shout)
"""


@pytest.fixture(autouse=True)
def _clean_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test puts on the path and imports is forgotten after it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("flows", "broken", "helper")):
            del sys.modules[name]


def write(folder: Path, name: str, text: str, head: str = HEAD) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + text, encoding="utf-8")
    return path


ONE = "workflow = builder('one').build()\n"


def test_a_module(tmp_path: Path) -> None:
    write(tmp_path, "flows.py", ONE)

    assert load_workflow("flows:workflow", tmp_path).workflow_id == "one"
    assert load_workflow("flows:", tmp_path).workflow_id == "one"
    assert load_workflow("flows", tmp_path).workflow_id == "one"


def test_a_module_in_a_package(tmp_path: Path) -> None:
    write(tmp_path, "flows/__init__.py", "")
    write(tmp_path, "flows/deep/orders.py", ONE)

    assert load_workflow("flows.deep.orders:workflow", tmp_path).workflow_id == "one"


def test_a_file_wherever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "elsewhere", "flows-of-today.py", "import helper_next_to_it\n" + ONE)
    write(tmp_path / "elsewhere", "helper_next_to_it.py", "")
    monkeypatch.chdir(tmp_path)

    by_path = load_workflow(f"{path}:workflow", tmp_path / "any")
    sys.modules.pop("flows-of-today")

    assert by_path.workflow_id == "one"
    assert load_workflow("elsewhere/flows-of-today.py", tmp_path / "any").workflow_id == "one"


def test_types_are_named_alike_by_module_and_by_file(tmp_path: Path) -> None:
    path = write(tmp_path, "flows.py", ONE)

    assert load_workflow(f"{path}:workflow", tmp_path) is load_workflow("flows:workflow", tmp_path)


@pytest.mark.parametrize(
    ("attribute", "text"),
    [
        (
            "Orders.inner.workflow",
            "class Orders:\n    class inner:\n        workflow = builder('one').build()\n",
        ),
        ("unbuilt", "unbuilt = builder('one')\n"),
        ("make", "def make(): return builder('one').build()\n"),
        ("make", "def make(name='one'): return builder(name)\n"),
        ("Maker.make", "class Maker:\n    @staticmethod\n    def make(): return builder('one')\n"),
    ],
)
def test_what_may_be_named(tmp_path: Path, attribute: str, text: str) -> None:
    write(tmp_path, "flows.py", text)

    found = load_workflow(f"flows:{attribute}", tmp_path)

    assert isinstance(found, Workflow)
    assert found.workflow_id == "one"


def test_one_under_two_names_is_one(tmp_path: Path) -> None:
    write(tmp_path, "flows.py", ONE + "app = workflow\n_other = builder('other').build()\n")

    assert load_workflow("flows", tmp_path).workflow_id == "one"


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        (
            "flows:nothing",
            ONE,
            "flows:nothing: flows has no 'nothing'; workflows at its top level: workflow",
        ),
        ("flows:workflow.nothing", ONE, "flows has no 'workflow.nothing'"),
        ("flows:text", "text = 'one'\n", "flows:text is of type str, not a workflow"),
        ("flows:make", "def make(): return 3\n", "flows:make is of type int, not a workflow"),
        (
            "flows:make",
            "def make(a): return 3\n",
            "flows:make() raised TypeError: make() missing 1 required",
        ),
        ("flows:make", "def make(): raise KeyError('x')\n", "flows:make() raised KeyError: 'x'"),
        ("flows:make", "def make(): raise SystemExit(3)\n", "flows:make() raised SystemExit: 3"),
        (
            "flows:make",
            "async def make(): return builder('one')\n",
            "flows:make is a coroutine function",
        ),
        (
            "flows",
            "",
            "flows has no workflow at its top level; name a function that returns one, as in "
            "flows:build",
        ),
        (
            "flows",
            ONE + "b = builder('two')\n",
            "flows has several workflows; name one: flows:workflow, flows:b",
        ),
        (
            "flows",
            "import helper_missing\n",
            "flows cannot be imported: ModuleNotFoundError: No module named 'helper_",
        ),
        ("flows", "import sys; sys.exit('no')\n", "flows cannot be imported: SystemExit: no"),
        ("flows", "1 / 0\n", "flows cannot be imported: ZeroDivisionError: division by zero"),
        (
            "flows",
            "x = (\n",
            "flows cannot be imported: SyntaxError: '(' was never closed (flows.py, line",
        ),
        ("flowss", ONE, "there is no module 'flowss' in"),
        ("flows.deep:workflow", ONE, "there is no module 'flows.deep' in"),
        (":workflow", ONE, "name a workflow"),
        ("", ONE, "name a workflow"),
    ],
)
def test_what_cannot_be_had_is_told(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    write(tmp_path, "flows.py", text)

    with pytest.raises(ApplicationError, match=re.escape(complaint)):
        load_workflow(name, tmp_path)


def test_the_place_of_an_error_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, "broken.py", "x = 1\n1 / 0\n", head="")

    for name in ("broken:workflow", f"{path}:workflow"):
        with pytest.raises(ApplicationError, match=re.escape(f"({path}, line 2)")):
            load_workflow(name, tmp_path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ApplicationError, match=r"there is no file .*flows\.py"):
        load_workflow(f"{tmp_path}/flows.py:workflow", tmp_path)


def test_two_files_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    first = write(tmp_path / "a", "flows.py", ONE)
    second = write(tmp_path / "b", "flows.py", "workflow = builder('two').build()\n")

    assert load_workflow(f"{first}:workflow", tmp_path).workflow_id == "one"
    with pytest.raises(
        ApplicationError, match=r"another module 'flows' \(.*a.flows\.py\) is imported already"
    ):
        load_workflow(f"{second}:workflow", tmp_path)


def test_a_file_named_like_a_part_of_python(tmp_path: Path) -> None:
    path = write(tmp_path, "json.py", ONE)

    with pytest.raises(ApplicationError, match="another module 'json'"):
        load_workflow(f"{path}:workflow", tmp_path)


def test_a_file_with_a_dot_in_its_name(tmp_path: Path) -> None:
    path = write(tmp_path, "flows.v2.py", ONE)

    with pytest.raises(ApplicationError, match="its name contains a dot"):
        load_workflow(f"{path}:workflow", tmp_path)


def test_a_drive_letter_is_no_module() -> None:
    with pytest.raises(ApplicationError, match=r"there is no file C:\\flows\\orders\.py"):
        load_workflow(r"C:\flows\orders.py", Path())
    with pytest.raises(ApplicationError, match=r"there is no file C:/flows/orders\.py"):
        load_workflow("C:/flows/orders.py:workflow", Path())


def test_the_folder_comes_before_pythons_own_path_and_only_once(tmp_path: Path) -> None:
    write(tmp_path / "a", "flows.py", ONE)
    write(tmp_path / "b", "flows.py", "workflow = builder('two').build()\n")
    sys.path.append(str(tmp_path / "a"))

    assert load_workflow("flows:workflow", tmp_path / "b").workflow_id == "two"
    assert load_workflow("flows:workflow", tmp_path / "b").workflow_id == "two"
    assert sys.path.count(str(tmp_path / "b")) == 1


# ---------------------------------------------------------------------------- by the run's workflow


def test_the_workflow_of_a_run_is_found_among_several(tmp_path: Path) -> None:
    write(tmp_path, "flows.py", ONE + "two = builder('two')\n")

    assert find_workflow(["flows:workflow", "flows:two"], "two", tmp_path).workflow_id == "two"


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ([], "belongs to workflow 'three', whose code is needed: name it by --app"),
        (["flows:workflow"], "belongs to workflow 'three', but flows:workflow is 'one'"),
    ],
)
def test_the_code_that_is_missing_is_told(tmp_path: Path, names: list[str], complaint: str) -> None:
    write(tmp_path, "flows.py", ONE)

    with pytest.raises(ApplicationError, match=complaint):
        find_workflow(names, "three", tmp_path)
