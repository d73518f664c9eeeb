"""Every example can be drawn by name, in every way."""

import importlib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from supersteps import WorkflowViz

EXAMPLES = Path(__file__).parents[2] / "examples"
DRAWN = sorted(
    ".".join(path.relative_to(EXAMPLES.parent).with_suffix("").parts)
    for path in EXAMPLES.rglob("*.py")
    if "def definition()" in path.read_text(encoding="utf-8")
)


def test_there_are_examples() -> None:
    assert len(DRAWN) >= 20


@pytest.mark.parametrize("module", DRAWN)
def test_an_example_is_drawn(module: str) -> None:
    workflow = importlib.import_module(module).definition()
    picture = WorkflowViz(workflow)

    names = [executor.id for executor in workflow.get_executors_list()]
    svg = ET.fromstring(picture.to_svg(graphviz=False))
    assert svg.tag.endswith("svg")
    text = "".join(svg.itertext())
    for drawing in (text, picture.to_ascii(), picture.to_mermaid(), picture.to_dot()):
        assert all(name in drawing for name in names)
