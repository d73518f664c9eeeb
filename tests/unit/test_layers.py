"""A module imports only from its own layer or the ones below it, and never in a circle.

The table in scripts/architecture.py is the plan: whoever adds a folder says where it belongs.
"""

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from scripts.architecture import DOCUMENT, LAYERS, SOURCE, drawn

PACKAGE = "supersteps"
# Storages know the port and nothing of each other: inside storage/ import only these modules of it.
STORAGE_PORT = (
    "storage.ports",
    "storage.records",
    "storage.rules",
    "storage.retention",
    "storage.listings",
    "storage.pages",
    "storage.queue",
    "storage.claims",
    "storage.answers",
    "storage.delta.*",  # what every storage that uses SQL shares
    "storage._*",
)

# Modules that import each other in a circle, with the reason; see `import_circles`.
CIRCLES: dict[frozenset[str], str] = {}


def layer_of(module: str) -> int | None:
    """The place of a module's layer, counted from the bottom; None if it is not in the table."""
    top = module.split(".")[0]
    # Fullest names first: `_*` must not swallow `__init__`.
    for place, layer in enumerate(LAYERS):
        if top in layer.names:
            return place
    for place, layer in enumerate(LAYERS):
        if any(fnmatchcase(top, name) for name in layer.names):
            return place
    return None


def modules_of(root: Path) -> dict[str, Path]:
    """Every module by its name inside the package; the package itself is `__init__`."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[-1] == "__init__" and len(parts) > 1:
            parts = parts[:-1]
        found[".".join(parts)] = path
    return found


def runtime_imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports that are executed, also inside functions, but not under `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) in (
            "TYPE_CHECKING",
            "typing.TYPE_CHECKING",
        ):
            for otherwise in node.orelse:
                yield from runtime_imports(ast.Module([otherwise], []))
        else:
            yield from runtime_imports(node)


def targets(
    statement: ast.Import | ast.ImportFrom, module: str, modules: dict[str, Path]
) -> Iterator[str]:
    """The modules of the package that one import statement names."""
    if isinstance(statement, ast.Import):
        full_names = [alias.name for alias in statement.names]
    else:
        base = statement.module or ""
        if statement.level:
            here = [PACKAGE, *module.split(".")]
            # A package's own `__init__` is already one level up.
            climb = statement.level - (
                modules[module].name == "__init__.py" and module != "__init__"
            )
            base = ".".join(here[: len(here) - climb] + ([base] if base else []))
        # `from supersteps.storage import base` names a module, `... import Storage` the package.
        full_names = [
            f"{base}.{alias.name}"
            if f"{base}.{alias.name}".removeprefix(f"{PACKAGE}.") in modules
            else base
            for alias in statement.names
        ]
    for name in dict.fromkeys(full_names):
        if name == PACKAGE:
            yield "__init__"
        elif name.startswith(f"{PACKAGE}."):
            yield name.removeprefix(f"{PACKAGE}.")


def is_inside_storage(module: str) -> bool:
    return module.startswith("storage.")


def violations(root: Path) -> list[str]:
    modules = modules_of(root)
    found = []
    for module, path in modules.items():
        own = layer_of(module)
        if own is None:
            found.append(
                f"{path}: {module} is in no layer: add it to the table in scripts/architecture.py"
            )
            continue
        for statement in runtime_imports(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            for target in targets(statement, module, modules):
                where = f"{path}:{statement.lineno}: {module} imports {target}"
                other = layer_of(target)
                if other is None:
                    found.append(
                        f"{where}, which is in no layer: add it to the table in "
                        "scripts/architecture.py"
                    )
                elif other > own:
                    found.append(
                        f"{where}, which is above it (layer {other} of {len(LAYERS)}, its own is "
                        f"{own})"
                    )
                elif (
                    is_inside_storage(module)
                    and target.split(".")[0] == "storage"
                    and not any(fnmatchcase(target, port) for port in STORAGE_PORT)
                    and target.split(".")[1:2] != module.split(".")[1:2]  # one storage's own folder
                ):
                    found.append(f"{where}: inside storage/ import only {', '.join(STORAGE_PORT)}")
    return found


def imports_of(root: Path) -> dict[str, set[str]]:
    """What each module imports from the package, also for readers only (`if TYPE_CHECKING:`)."""
    modules = modules_of(root)
    found = {}
    for module, path in modules.items():
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        statements = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
        names = {name for s in statements for name in targets(s, module, modules)}
        found[module] = (names & modules.keys()) - {module}
    return found


def import_circles(root: Path) -> list[frozenset[str]]:
    """Groups of modules each of which leads to all the others by imports, the largest first.

    Imports inside functions and those for type checkers count as well: whoever reads one module of
    such a group has to know all of them.
    """
    imports = imports_of(root)

    def reached(module: str) -> set[str]:
        seen: set[str] = set()
        frontier = [module]
        while frontier:
            onward = imports[frontier.pop()] - seen
            seen |= onward
            frontier += onward
        return seen

    leads_to = {module: reached(module) for module in imports}
    circles = {
        frozenset(other for other in leads_to[module] if module in leads_to[other])
        for module in imports
        if module in leads_to[module]
    }
    return sorted(circles, key=lambda circle: (-len(circle), min(circle)))


def test_no_modules_import_each_other_in_a_circle() -> None:
    found = import_circles(SOURCE)

    unknown = [circle for circle in found if circle not in CIRCLES]
    gone = [circle for circle in CIRCLES if circle not in found]
    assert not unknown, "\n".join(f"a circle of {len(c)}: {', '.join(sorted(c))}" for c in unknown)
    assert not gone, f"no circles any more, so take them off the list: {gone}"


def test_every_module_keeps_to_its_layer() -> None:
    found = violations(SOURCE)

    assert not found, "\n" + "\n".join(found)


def test_the_document_shows_the_layers_and_modules_as_they_are() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")

    assert text == drawn(text), "write it anew: python -m scripts.architecture"


def write_package(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_circles_are_found_whichever_way_the_imports_are_written(tmp_path: Path) -> None:
    files = {
        "errors.py": "import typing\nif typing.TYPE_CHECKING:\n    from .ids import Id",
        "ids.py": "def f():\n    import supersteps.errors",
        "define/graph.py": "from supersteps.define import edges, executor",
        "define/edges.py": "from .executor import Executor",
        "define/executor.py": "if True:\n    from ..define.graph import Graph",
        "engine/plan.py": "from supersteps.define.graph import Graph",  # leads into one, is in none
    }

    circles = import_circles(write_package(tmp_path, files))

    assert circles == [
        {"define.graph", "define.edges", "define.executor"},
        {"errors", "ids"},
    ]


@pytest.mark.parametrize(
    ("module", "text", "complaint"),
    [
        (
            "errors.py",
            "from supersteps.define.graph import Graph",
            "errors.py:1: errors imports define.graph, which is above it",
        ),
        (
            "errors.py",
            "import supersteps.define.graph as g",
            "errors imports define.graph, which is above it",
        ),
        (
            "errors.py",
            "from supersteps.define import graph",
            "errors imports define.graph, which is above it",
        ),
        (
            "errors.py",
            "from .define import graph",
            "errors imports define.graph, which is above it",
        ),
        ("errors.py", "from supersteps import Graph", "errors imports __init__, which is above it"),
        (
            "errors.py",
            "def f():\n    from .define.graph import Graph",
            "errors.py:2: errors imports define.graph",
        ),
        (
            "errors.py",
            "if TYPE_CHECKING:\n    pass\nelse:\n    from .define.graph import Graph",
            "errors imports define.graph",
        ),
        (
            "engine/runner.py",
            "from ..run.workflow import Workflow",
            "engine.runner imports run.workflow, which is above it",
        ),
        (
            "engine/__init__.py",
            "from ..run.handle import Run",
            "engine imports run.handle, which is above it",
        ),
        (
            "storage/sqlite.py",
            "from ..engine import x",
            "storage.sqlite imports engine, which is above it",
        ),
        (
            "storage/sqlite.py",
            "from .memory import x",
            "storage.sqlite imports storage.memory: inside storage/",
        ),
        (
            "storage/sqlite.py",
            "from supersteps.storage import X",
            "storage.sqlite imports storage: inside storage/",
        ),
        ("surprise.py", "", "surprise is in no layer: add it to the table"),
        (
            "errors.py",
            "from .surprise import x",
            "errors imports surprise, which is in no layer: add it",
        ),
    ],
)
def test_a_breach_is_named(tmp_path: Path, module: str, text: str, complaint: str) -> None:
    root = write_package(tmp_path, {"define/graph.py": "", "storage/memory.py": "", module: text})

    (found,) = violations(root)

    assert complaint in found


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (
            "define/graph.py",
            "from ..errors import GraphError\nfrom supersteps.define.edges import Edge\n"
            "import json",
        ),
        ("define/graph.py", "from supersteps import errors"),
        ("define/graph.py", "from .validation import check"),
        (
            "errors.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
            "    from .define.graph import Graph",
        ),
        (
            "errors.py",
            "import typing\nif typing.TYPE_CHECKING:\n    from .define.graph import Graph",
        ),
        ("ids.py", "from .errors import SuperstepsError"),
        ("engine/__init__.py", "from .runner import Runner"),
        (
            "engine/backends/local.py",
            "from ..state import State\nfrom ...define.graph import Graph",
        ),
        ("storage/__init__.py", "from .memory import Memory\nfrom .base import Storage"),
        (
            "storage/sqlite.py",
            "from .ports import Storage\nfrom . import ports, _paths\n"
            "from ..checkpoint import codec",
        ),
        ("__init__.py", "from .run.builder import WorkflowBuilder\nfrom supersteps import viz"),
        ("cli/main.py", "from supersteps import WorkflowBuilder"),
    ],
)
def test_what_is_allowed(tmp_path: Path, module: str, text: str) -> None:
    others = {"errors.py": "", "viz.py": "", "storage/ports.py": "", "storage/_paths.py": ""}

    assert violations(write_package(tmp_path, {**others, module: text})) == []
