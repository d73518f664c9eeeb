"""`WorkflowViz`: what it draws, in which formats, with and without Graphviz."""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import pytest

import supersteps
from supersteps import (
    InMemoryCheckpointStorage,
    SuperstepsError,
    Workflow,
    WorkflowCheckpoint,
    WorkflowViz,
)
from supersteps.viz import Format, PictureError
from supersteps.viz.picture import MarkKind
from tests.unit.support import Reverse, Upper, asking_workflow, built, collect, shout_workflow

SVG = "{http://www.w3.org/2000/svg}svg"


async def waiting_checkpoint() -> tuple[Workflow, WorkflowCheckpoint]:
    storage = InMemoryCheckpointStorage()
    workflow = asking_workflow(storage=storage)
    run = workflow.run_stream("hi", run_id="r1")
    await collect(run)
    assert run.latest_checkpoint is not None
    checkpoint = await storage.load_checkpoint(run.latest_checkpoint.checkpoint_id)
    assert checkpoint is not None
    return workflow, checkpoint


@pytest.fixture
def no_graphviz(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def graphviz(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Put a `dot` on the PATH that is a Python script."""
    if sys.platform == "win32":
        pytest.skip("a script is no program there")

    def install(script: str) -> None:
        program = tmp_path / "bin" / "dot"
        program.parent.mkdir()
        # Through a shell: the path of the interpreter may hold spaces, which the system does not
        # read after `#!`.
        words = [sys.executable, "-I", "-c", f"import sys, time\n{script}"]
        program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent))

    return install


# ----------------------------------------------------------------------------------------- subjects


def test_a_workflow() -> None:
    viz = WorkflowViz(shout_workflow())

    assert viz.picture.title == "shout"
    assert [node.id for node in viz.picture.nodes] == ["up", "back"]
    assert viz.to_mermaid().startswith("---\n")
    assert viz.to_digraph() == viz.to_dot()


async def test_a_checkpoint_needs_no_workflow() -> None:
    _, checkpoint = await waiting_checkpoint()
    viz = WorkflowViz(checkpoint)

    assert viz.picture.title == "ask · run r1 · superstep 2"
    assert {node.id: [mark.kind for mark in node.marks] for node in viz.picture.nodes} == {
        "asker": [],
        "port": [MarkKind.ASKS],
    }
    assert "1 question" in viz.to_mermaid()


async def test_a_workflow_with_a_checkpoint_that_has_no_structure() -> None:
    workflow, _ = await waiting_checkpoint()
    by_hand = WorkflowCheckpoint(
        workflow_id="ask", messages={"": [{"data": "x", "target_ids": ["asker"]}]}
    )

    viz = WorkflowViz(workflow, checkpoint=by_hand, ran=["port"], failed=["asker"])

    assert {node.id: [mark.kind for mark in node.marks] for node in viz.picture.nodes} == {
        "asker": [MarkKind.FAILED, MarkKind.MESSAGES],
        "port": [MarkKind.RAN],
    }


def test_a_checkpoint_without_structure_says_what_to_do() -> None:
    with pytest.raises(
        PictureError, match=r"has no stored graph .*WorkflowViz\(workflow, checkpoint=checkpoint\)"
    ) as e:
        WorkflowViz(WorkflowCheckpoint(checkpoint_id="c1"))

    assert isinstance(e.value, ValueError)
    assert isinstance(e.value, SuperstepsError)


def test_anything_else_is_refused() -> None:
    with pytest.raises(TypeError, match="a Workflow or a WorkflowCheckpoint, not a str"):
        WorkflowViz("shout")


# ------------------------------------------------------------------------------------------ formats


@pytest.mark.usefixtures("no_graphviz")
def test_svg_needs_nothing_and_is_the_same_each_time() -> None:
    svg = WorkflowViz(shout_workflow()).to_svg()

    assert ElementTree.fromstring(svg).tag == SVG
    assert svg == WorkflowViz(shout_workflow()).to_svg(graphviz=False)


def test_text() -> None:
    text = WorkflowViz(shout_workflow()).to_ascii(width=60)

    assert "up" in text
    assert "back" in text
    assert all(len(line) <= 60 for line in text.splitlines())


def test_graphviz_draws_when_it_is_there(graphviz: Callable[[str], None]) -> None:
    graphviz("print('<svg>drawn by', sys.argv[1], len(sys.stdin.read()) > 50, '</svg>')")
    viz = WorkflowViz(shout_workflow())

    assert viz.to_svg() == viz.to_svg(graphviz=True) == "<svg>drawn by -Tsvg True </svg>\n"
    assert "drawn by" not in viz.to_svg(graphviz=False)


@pytest.mark.parametrize("script", ["sys.exit('broken')", "pass", "time.sleep(60)"])
def test_graphviz_fails(
    graphviz: Callable[[str], None], script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphviz(script)
    monkeypatch.setattr("supersteps.viz.graphviz._SECONDS", 0.5)
    viz = WorkflowViz(shout_workflow())

    assert viz.to_svg() == viz.to_svg(graphviz=False)
    with pytest.raises(PictureError, match="Graphviz"):
        viz.to_svg(graphviz=True)
    with pytest.raises(PictureError, match="Graphviz"):
        viz.export("png")


@pytest.mark.usefixtures("no_graphviz")
@pytest.mark.parametrize("format", ["png", "pdf"])
def test_png_and_pdf_say_what_to_install(format: Any, tmp_path: Path) -> None:
    target = tmp_path / "picture"

    with pytest.raises(PictureError, match=f"a {format} picture needs Graphviz.*Install Graphviz"):
        WorkflowViz(shout_workflow()).export(format, target)

    assert not list(tmp_path.glob("picture*"))


@pytest.mark.usefixtures("no_graphviz")
@pytest.mark.parametrize(
    ("format", "suffix"), [("svg", "svg"), ("mermaid", "mmd"), ("dot", "dot"), ("ascii", "txt")]
)
def test_export_writes_a_file(format: Any, suffix: str, tmp_path: Path) -> None:
    viz = WorkflowViz(shout_workflow())

    assert viz.export(format, tmp_path / "plain") == str(tmp_path / f"plain.{suffix}")
    assert viz.export(format, tmp_path / "own.name") == str(tmp_path / "own.name")
    assert (tmp_path / "own.name").read_text("utf-8") == (tmp_path / f"plain.{suffix}").read_text(
        "utf-8"
    )
    temporary = Path(viz.export(format))
    try:
        assert temporary.suffix == f".{suffix}"
        assert temporary.read_bytes() == (tmp_path / "own.name").read_bytes()
    finally:
        temporary.unlink()


def test_saving_by_name(graphviz: Callable[[str], None], tmp_path: Path) -> None:
    graphviz("sys.stdin.read(); print(sys.argv[1])")
    viz = WorkflowViz(shout_workflow())

    for save, suffix in ((viz.save_svg, "svg"), (viz.save_png, "png"), (viz.save_pdf, "pdf")):
        assert Path(save(tmp_path / "out")).read_text("utf-8") == f"-T{suffix}\n"


def test_an_unknown_format() -> None:
    wrong: Any = "jpeg"
    with pytest.raises(
        ValueError, match="no such format: 'jpeg'; choose from svg, mermaid"
    ) as error:
        WorkflowViz(shout_workflow()).export(wrong)

    assert all(name in str(error.value) for name in get_args(Format))


def test_big_graphs_are_grouped_in_drawings_only() -> None:
    viz = WorkflowViz(fan_workflow(150))

    assert len(viz.picture.nodes) == 151
    assert viz.to_mermaid().count("-->") == 150
    assert viz.to_mermaid(limit=20).count("-->") < 150
    assert viz.to_dot(limit=20).count("->") < 150
    assert len(viz.to_svg(graphviz=False)) < len(viz.to_svg(graphviz=False, limit=None))


def fan_workflow(count: int) -> Workflow:
    start = Upper("start")
    targets = [Reverse(f"end-{number:03}") for number in range(count)]
    return built(supersteps.WorkflowBuilder().add_fan_out_edges(start, targets), start)


# ---------------------------------------------------------------------------------------- importing


def test_import_does_not_bring_it() -> None:
    script = (
        "import supersteps, sys; print(sorted(name for name in sys.modules if "
        "name.startswith('supersteps.viz')))"
    )
    fresh = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True
    )

    assert fresh.stdout.strip() == "[]"
    assert supersteps.WorkflowViz is WorkflowViz
    assert "WorkflowViz" in supersteps.__all__
