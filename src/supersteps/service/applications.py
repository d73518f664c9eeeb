"""Workflows of the user's application, loaded by module and name."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from supersteps.run.builder import WorkflowBuilder
from supersteps.run.workflow import Workflow
from supersteps.service.errors import ApplicationError


def load_workflow(name: str, folder: Path) -> Workflow:
    """Load a workflow of the application.

    Args:
        name: `package.module:name`, `path/to/file.py:name`, or without `:name` if the module has
            one workflow. The name refers to a `Workflow`, a `WorkflowBuilder`, or a function
            without arguments that returns one.
        folder: Searched for modules before Python's own path.

    Raises:
        ApplicationError: It does not exist, or cannot be loaded.
    """
    module_name, _, attribute = name.rpartition(":") if _has_attribute(name) else (name, "", "")
    module = _load_module(module_name, folder)
    found = _only_workflow(module, name) if not attribute else _attribute(module, attribute, name)
    if callable(found) and not isinstance(found, Workflow | WorkflowBuilder):
        found = _called(found, name)
    if isinstance(found, WorkflowBuilder):
        found = found.build()
    if not isinstance(found, Workflow):
        raise ApplicationError(
            f"{name} is of type {type(found).__name__}, not a workflow: name a Workflow, a "
            "WorkflowBuilder, or a function without arguments that returns one"
        )
    return found


def find_workflow(names: Iterable[str], workflow_id: str, folder: Path) -> Workflow:
    """Return the application's workflow to which a stored run belongs.

    Raises:
        ApplicationError: None of them has that name.
    """
    loaded = {name: load_workflow(name, folder) for name in names}
    for workflow in loaded.values():
        if workflow.workflow_id == workflow_id:
            return workflow
    if not loaded:
        raise ApplicationError(
            f"the run belongs to workflow {workflow_id!r}, whose code is needed: name it by "
            '--app module:name, SUPERSTEPS_APP, or app = "module:name" in [tool.supersteps] of '
            "pyproject.toml"
        )
    known = ", ".join(f"{name} is {workflow.workflow_id!r}" for name, workflow in loaded.items())
    raise ApplicationError(
        f"the run belongs to workflow {workflow_id!r}, but {known}. Name the module that defines "
        "it by --app; if the workflow was renamed, set its old name: "
        f"WorkflowBuilder(name={workflow_id!r})."
    )


def _has_attribute(name: str) -> bool:
    """Return whether a name ends in `:attribute`, which is not a drive letter."""
    _, colon, end = name.rpartition(":")
    return bool(colon) and "/" not in end and "\\" not in end


def _load_module(name: str, folder: Path) -> ModuleType:
    if not name:
        raise ApplicationError("name a workflow: module:name, or path/to/file.py:name")
    is_file = name.endswith(".py") or "/" in name or "\\" in name
    path = Path(name) if is_file else None
    try:
        if path is not None:
            return _load_file(path)
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ApplicationError(
                f"there is no module {name!r} in {folder} or on Python's path; run from the "
                "folder that contains it, or pass the path of a file, as in "
                "flows/orders.py:workflow"
            ) from error
        raise _broken(name, error) from error
    except ApplicationError:
        raise
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ApplicationError(f"there is no file {path}")
    if "." in path.stem:
        raise ApplicationError(
            f"{path} cannot be imported, since its name contains a dot; rename it"
        )
    folder = str(path.parent.absolute())
    if folder not in sys.path[:1]:
        sys.path.insert(0, folder)
    # Imported under its own name, as from its folder, so that its types have the same names in
    # every process.
    module = importlib.import_module(path.stem)
    found = getattr(module, "__file__", None)
    if found is None or not path.samefile(found):
        raise ApplicationError(
            f"{path} cannot be imported by its name: another module {path.stem!r} "
            f"({found or 'part of Python'}) is imported already; rename it"
        )
    return module


def _broken(name: str, error: BaseException) -> ApplicationError:
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if "importlib" not in frame.filename and frame.filename != __file__
    ]
    where = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return ApplicationError(f"{name} cannot be imported: {type(error).__name__}: {error}{where}")


def _workflows_in(module: ModuleType) -> dict[str, Any]:
    kinds = Workflow | WorkflowBuilder
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, kinds) and name[:1] != "_"
    }


def _only_workflow(module: ModuleType, name: str) -> Any:
    found = _workflows_in(module)
    if len({id(value) for value in found.values()}) == 1:
        return next(iter(found.values()))
    if not found:
        raise ApplicationError(
            f"{name} has no workflow at its top level; name a function that returns one, as in "
            f"{name}:build"
        )
    raise ApplicationError(
        f"{name} has several workflows; name one: {', '.join(f'{name}:{one}' for one in found)}"
    )


def _attribute(module: ModuleType, attribute: str, name: str) -> Any:
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            has = ", ".join(_workflows_in(module)) or "none"
            raise ApplicationError(
                f"{name}: {module.__name__} has no {attribute!r}; workflows at its top level: {has}"
            ) from None
    return found


def _called(function: Any, name: str) -> Any:
    try:
        made = function()
    except (Exception, SystemExit) as error:
        raise ApplicationError(f"{name}() raised {type(error).__name__}: {error}") from error
    if hasattr(made, "__await__"):
        made.close() if hasattr(made, "close") else None
        raise ApplicationError(
            f"{name} is a coroutine function; use a plain function that returns a workflow"
        )
    return made
