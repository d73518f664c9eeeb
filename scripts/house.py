"""Print facts on how the code is kept, for comparing two states of the repository.

python -m scripts.house [FOLDER]

FOLDER is the root of another checkout; the default is the one that this file is in.

Complexity is cyclomatic: 1 for the function, and 1 for each `if`, `elif`, ternary, `for`, `while`,
`except`, `and` and `or` (n operands count n - 1), `if` of a comprehension, and `case` other than
`case _`. `else`, `finally`, `with`, `assert` and a comprehension's `for` do not count. A function
inside a function is counted by itself; a lambda belongs to the function around it.

A function's length is from its `def` to its last line, without its docstring. Parameters are
counted without `self` and `cls`; `*args` and `**kwargs` are one each.

A module imports what its import statements name, also those inside functions; `from package
import module` names the module. That importing a module runs the packages above it is not counted,
nor are imports by `import_module`. A circle is a strongly connected component: modules each of
which leads to every other one.

Run states are the values of `supersteps.WorkflowRunState`, wherever that is defined. A literal is
counted if it is one of them as a whole, outside of the enum itself.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

PACKAGE = "supersteps"
FOLDERS = ("src", "tests", "benchmarks", "examples", "scripts")
WIDTH = 100
LENGTH = 40
MEMBERS_SHOWN = 8

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Graph: TypeAlias = dict[str, set[str]]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler)


class Module(NamedTuple):
    """A module of the package.

    Attributes:
        name: Its full name.
        path: Its file.
        tree: Its code.
    """

    name: str
    path: Path
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"


def modules_of(folder: Path) -> list[Module]:
    """Return the modules of the package whose `__init__.py` is in a folder."""
    found = []
    for path in python_files(folder):
        parts = (folder.name, *path.relative_to(folder).with_suffix("").parts)
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, path, ast.parse(path.read_text("utf-8"), str(path))))
    return found


def python_files(folder: Path) -> list[Path]:
    """Return the Python files below a folder, without those in hidden folders such as `.venv`."""
    return [
        path
        for path in sorted(folder.rglob("*.py"))
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


# --------------------------------------------------------------------------------------- functions


def functions_of(tree: ast.AST) -> Iterator[Function]:
    """Give every function and method, also those inside others."""
    return (node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS))


def complexity(function: Function) -> int:
    """Return a function's cyclomatic complexity, by the rules in the module's docstring."""
    return 1 + sum(_decisions(node) for node in _own_nodes(function))


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, _FUNCTIONS):
            yield child
            yield from _own_nodes(child)


def _decisions(node: ast.AST) -> int:
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return len(node.ifs)
    if isinstance(node, ast.match_case):
        pattern = node.pattern
        is_wildcard = isinstance(pattern, ast.MatchAs) and pattern.name is None
        return int(not (is_wildcard and node.guard is None))
    return int(isinstance(node, _BRANCHES))


def length(function: Function) -> int:
    """Return how many lines a function has, without its docstring."""
    lines = _end(function) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        lines -= _end(function.body[0]) - function.body[0].lineno + 1
    return lines


def _end(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def parameters(function: Function) -> int:
    """Return how many parameters a function has besides `self` or `cls`."""
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    own = sum(argument.arg not in ("self", "cls") for argument in named)
    return own + (given.vararg is not None) + (given.kwarg is not None)


# ----------------------------------------------------------------------------------------- imports


def import_graph(modules: list[Module], *, typing: bool) -> Graph:
    """Return which modules each module imports.

    Args:
        modules: The modules.
        typing: Whether imports under `if TYPE_CHECKING:` count.
    """
    names = {module.name for module in modules}
    return {
        module.name: {
            target
            for statement in _imports(module.tree, typing)
            for target in _targets(statement, module, names)
            if target in names
        }
        for module in modules
    }


def _imports(node: ast.AST, typing: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
    hidden: list[ast.stmt] = []
    if isinstance(node, ast.If) and not typing:
        is_for_readers = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        hidden = node.body if is_for_readers else []
    for child in ast.iter_child_nodes(node):
        if child not in hidden:
            yield from _imports(child, typing)


def _targets(
    statement: ast.Import | ast.ImportFrom, module: Module, names: set[str]
) -> Iterator[str]:
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
        return
    base = statement.module or ""
    if statement.level:
        above = module.name.split(".")
        above = above[: len(above) - statement.level + module.is_package]
        base = ".".join([*above, base] if base else above)
    for alias in statement.names:
        name = f"{base}.{alias.name}"
        yield name if name in names else base


def circles(graph: Graph) -> list[list[str]]:
    """Return the strongly connected components of more than one node, largest first."""
    ahead = {node: _reached(graph, node) for node in graph}
    found = {
        tuple(sorted(other for other in ahead[node] if node in ahead[other]))
        for node in graph
        if node in ahead[node]
    }
    several = [list(members) for members in found if len(members) > 1]
    return sorted(several, key=lambda members: (-len(members), members))


def _reached(graph: Graph, start: str) -> set[str]:
    """Return what can be reached from a node; the node itself only if a way leads back to it."""
    reached: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting.extend(graph[node])
    return reached


# ------------------------------------------------------------------------------------------ others


class Root(NamedTuple):
    """What only the running package can tell: names may be put together from lists.

    Attributes:
        names: How many names `__all__` has.
        states: The values of `WorkflowRunState`.
    """

    names: int
    states: frozenset[str]


def root_of(source: Path) -> Root:
    """Import the package of a folder in a process of its own, and return what it says of itself."""
    program = (
        f"import json, sys; sys.path.insert(0, sys.argv[1]); import {PACKAGE} as package\n"
        "states = [state.value for state in package.WorkflowRunState]\n"
        "print(json.dumps([package.__file__, len(package.__all__), states]))"
    )
    command = [sys.executable, "-c", program, str(source)]
    file, names, states = json.loads(subprocess.check_output(command, text=True))
    if not Path(file).is_relative_to(source):
        raise ImportError(f"{PACKAGE} was imported from {file}, not from {source}")
    return Root(names, frozenset(states))


def state_literals(tree: ast.AST, states: frozenset[str]) -> int:
    """Return how many string literals are a run state, outside of the enum that defines them."""
    if isinstance(tree, ast.ClassDef) and _values(tree) == states:
        return 0
    own = int(isinstance(tree, ast.Constant) and tree.value in states)
    return own + sum(state_literals(node, states) for node in ast.iter_child_nodes(tree))


def _values(definition: ast.ClassDef) -> set[object]:
    return {
        statement.value.value
        for statement in definition.body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
    }


def long_lines(folder: Path) -> tuple[int, int]:
    """Return how many lines of a folder's Python files are too long, and how many there are."""
    lines = [line for path in python_files(folder) for line in _lines(path)]
    return sum(len(line) > WIDTH for line in lines), len(lines)


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").split("\n")[:-1]


# ----------------------------------------------------------------------------------------- report


def report(root: Path) -> Iterator[str]:
    """Give the lines of the report on a checkout."""
    source = root / "src"
    modules = modules_of(source / PACKAGE)
    facts = root_of(source)
    yield "The package"
    yield from _table(_sizes(modules, facts))
    yield ""
    yield f"Lines over {WIDTH} columns"
    yield from _table(_widths(root))
    yield ""
    yield "Functions"
    yield from _table(_shapes(modules))
    yield ""
    yield "Longest parameter lists"
    yield from _table(_longest(modules))
    for kind, typing in (("at run time", False), ("with typing imports", True)):
        yield ""
        found = circles(import_graph(modules, typing=typing))
        yield f"Import circles {kind}: {len(found)}"
        yield from map(_circle, found)


def _sizes(modules: list[Module], facts: Root) -> Iterator[tuple[str, str]]:
    gerunds = [module for module in modules if module.name.endswith("ing")]
    literals = {module.path: state_literals(module.tree, facts.states) for module in modules}
    yield "files", str(len(modules))
    yield "lines", str(sum(len(_lines(module.path)) for module in modules))
    yield "modules named …ing", str(len(gerunds))
    yield f"names in {PACKAGE}.__all__", str(facts.names)
    yield (
        "run states spelled as strings",
        f"{sum(literals.values())} in {sum(map(bool, literals.values()))} files",
    )


def _widths(root: Path) -> Iterator[tuple[str, str]]:
    counts = {name: long_lines(root / name) for name in FOLDERS}
    counts["all"] = (sum(n for n, _ in counts.values()), sum(n for _, n in counts.values()))
    for name, (too_long, lines) in counts.items():
        yield name, f"{too_long} of {lines} ({_share(too_long, lines)})"


def _shapes(modules: list[Module]) -> Iterator[tuple[str, str]]:
    functions = [function for module in modules for function in functions_of(module.tree)]
    mean = sum(map(complexity, functions)) / max(1, len(functions))
    too_long = sum(length(function) > LENGTH for function in functions)
    yield "functions", str(len(functions))
    yield "mean complexity", f"{mean:.2f}"
    yield f"over {LENGTH} lines", f"{too_long} ({_share(too_long, len(functions))})"


def _longest(modules: list[Module]) -> Iterable[tuple[str, str]]:
    found = [
        (parameters(function), f"{module.name}:{function.lineno} {function.name}")
        for module in modules
        for function in functions_of(module.tree)
    ]
    found.sort(key=lambda each: (-each[0], each[1]))
    return [(name, str(count)) for count, name in found[:5]]


def _circle(members: list[str]) -> str:
    names = [name.removeprefix(f"{PACKAGE}.") for name in members]
    more = ", …" if len(names) > MEMBERS_SHOWN else ""
    return f"  {len(names):3}  {', '.join(names[:MEMBERS_SHOWN])}{more}"


def _share(part: int, whole: int) -> str:
    return f"{part / max(1, whole):.1%}"


def _table(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    listed = list(rows)
    width = max((len(name) for name, _ in listed), default=0)
    return (f"  {name:{width}}  {value}" for name, value in listed)


def main() -> None:
    """Print the report on the checkout that the command line names."""
    if len(sys.argv) > 2 or any(argument.startswith("-") for argument in sys.argv[1:]):
        sys.exit("usage: python -m scripts.house [FOLDER]")
    root = Path(sys.argv[1]) if len(sys.argv) == 2 else Path(__file__).parents[1]
    for line in report(root.resolve()):
        print(line)


if __name__ == "__main__":
    main()
