"""Facts on the code: import circles, complexity, run states as strings."""

import ast
from pathlib import Path

import pytest

from scripts.house import (
    circles,
    complexity,
    functions_of,
    import_graph,
    length,
    modules_of,
    parameters,
    state_literals,
)

FILES = {
    "__init__.py": "from made_up.alone import thing",
    "alone.py": "import json",
    "left.py": "def later():\n    from made_up import right",
    "right.py": "from .parts.inner import thing",
    "parts/__init__.py": "",
    "parts/inner.py": "from ..left import later",
    "reader.py": (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from made_up.read import Read\nelse:\n    import made_up.alone"
    ),
    "read.py": "import made_up.reader",
    ".venv/left.py": "this is not Python",
}

LEFT = ["made_up.left", "made_up.parts.inner", "made_up.right"]
READ = ["made_up.read", "made_up.reader"]


@pytest.mark.parametrize(("typing", "expected"), [(False, [LEFT]), (True, [LEFT, READ])])
def test_import_circles(tmp_path: Path, typing: bool, expected: list[list[str]]) -> None:
    for name, text in FILES.items():
        path = tmp_path / "made_up" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    graph = import_graph(modules_of(tmp_path / "made_up"), typing=typing)

    assert circles(graph) == expected
    assert graph["made_up"] == {"made_up.alone"}
    reader = {"made_up.alone", "made_up.read"} if typing else {"made_up.alone"}
    assert graph["made_up.reader"] == reader


BRANCHES = '''
def outer(self, a, /, *rest, b=1, **more):
    """A docstring

    of three lines."""
    if a:                                   # 2
        pass
    elif b and rest or more:                # 3, 4, 5
        with open(a), open(b):
            assert a
    for each in rest:                       # 6
        while each:                         # 7
            try:
                each = [x for x in a if x]  # 8
            except OSError:                 # 9
                pass
            else:
                pass
    match a:
        case 1:                             # 10
            pass
        case _ if b:                        # 11
            pass
        case _:
            pass

    def inner():
        return 1 if a else 2

    return lambda: 1 if a else 2            # 12
'''


def test_functions() -> None:
    outer, inner = functions_of(ast.parse(BRANCHES))

    assert (complexity(outer), complexity(inner)) == (12, 2)
    assert (parameters(outer), parameters(inner)) == (4, 0)
    assert (length(outer), length(inner)) == (len(BRANCHES.strip().splitlines()) - 3, 2)


def test_run_states_count_outside_of_their_enum() -> None:
    text = (
        'class State(StrEnum):\n    ON = "ON"\n    OFF = "OFF"\n'
        'def is_on(state="OFF"):\n    """ON"""\n    return state in ("ON", "ONE") or "it is ON"\n'
    )

    assert state_literals(ast.parse(text), frozenset({"ON", "OFF"})) == 3
