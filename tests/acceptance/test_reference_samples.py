"""Scripts for the reference run here with only the import changed, and print what they print there.

The expected texts were recorded under agent-framework-core 1.0.0b251001, with `from agent_framework
import` in place of `from supersteps import`. To do so again, run these tests with REFERENCE_PYTHON
set to the python of a venv that has agent-framework-core==1.0.0b251001, mcp==1.15.0,
pydantic==2.11.9, websockets and opentelemetry-semantic-conventions-ai.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "agent_framework"
OURS, REFERENCE = "from supersteps import", "from agent_framework import"

# What the scripts may import: names that the reference has.
KNOWN_THERE = {
    "CheckpointStorage",
    "Executor",
    "FileCheckpointStorage",
    "InMemoryCheckpointStorage",
    "RequestInfoEvent",
    "RequestInfoExecutor",
    "RequestInfoMessage",
    "RequestResponse",
    "Workflow",
    "WorkflowBuilder",
    "WorkflowCheckpoint",
    "WorkflowContext",
    "WorkflowExecutor",
    "WorkflowOutputEvent",
    "handler",
}

# The same under both, but for the checkpoints of the pipeline: see there.
EXPECTED = {
    "pipeline_with_resume": """\
first run:
  reader
  corrector
  surveyor
  herald
output: harbour: 386 to 443 cm, a range of 57 cm
{checkpoints}
resumed by a workflow that was built a moment ago:
  surveyor
  herald
output: harbour: 386 to 443 cm, a range of 57 cm
""",
    "human_review": """\
stopped: IDLE_WITH_PENDING_REQUESTS, questions: 1
awaiting human response: draft 1, 'Barometer, 1790'
Approve? say where it was made
  asked again, now with draft 2
awaiting human response: draft 2, 'Barometer, 1790, made in Delft'
Approve? say what it was for
  asked again, now with draft 3
awaiting human response: draft 3, 'Barometer, 1790, made in Delft, for use at sea'
Approve? approve
approved: Barometer, 1790, made in Delft, for use at sea (wishes: 2)
the last checkpoint is idle; state of the writer: {'written': 3}
""",
    "sub_workflow": """\
first run:
  the purser decides about the stove
  the purser asks about the canoe
stopped: IDLE_WITH_PENDING_REQUESTS
ruled so far: stove, tent
A canoe of 38 kg: may it come along? on deck
resumed by a workflow that was built a moment ago, inner one included:
  the purser relays the answer about the canoe
output: canoe on deck, stove for a fee, tent free
ended: IDLE
""",
}

# Status, shared state, executors with state. The first one is ours alone: the reference runs the
# start executor before it saves for the first time, so its numbers are smaller by one.
CHECKPOINTS = [
    ("awaiting next superstep", "none", "none"),
    ("awaiting next superstep", "place=harbour", "reader"),
    ("awaiting next superstep", "gauge error=12, place=harbour", "corrector, reader"),
    ("awaiting next superstep", "gauge error=12, place=harbour, range=57", "corrector, reader"),
    ("idle", "gauge error=12, place=harbour, range=57", "corrector, reader"),
]

PYTHONS = {"ours": sys.executable}
if "REFERENCE_PYTHON" in os.environ:
    PYTHONS["reference"] = os.environ["REFERENCE_PYTHON"]


def expected(name: str, library: str) -> str:
    checkpoints = CHECKPOINTS if library == "ours" else CHECKPOINTS[1:]
    lines = [
        f"[{number}] iteration {number}, {status}\n"
        f"    shared state: {shared}\n"
        f"    executors with state: {executors}"
        for number, (status, shared, executors) in enumerate(checkpoints)
    ]
    return EXPECTED[name].replace("{checkpoints}", "\n".join(lines))


def run(folder: Path, name: str, *arguments: str, library: str = "ours", stdin: str = "") -> str:
    """Run a script in a folder and return what it printed; under the reference, a copy with the
    other import.
    """
    script, warnings = FOLDER / f"{name}.py", ["-W", "error"]
    if library == "reference":
        text = script.read_text(encoding="utf-8")
        script, warnings = folder / f"{name}.py", []
        script.write_text(text.replace(OURS, REFERENCE), encoding="utf-8")
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")] if library == "ours" else []
    done = subprocess.run(
        [PYTHONS[library], *warnings, str(script), *arguments],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONIOENCODING": "utf-8"},
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # The reference logs a warning to stdout for every cycle in a graph; it is not the script that
    # prints it.
    return "".join(
        line
        for line in done.stdout.splitlines(keepends=True)
        if "- WARNING] Cycle detected" not in line
    )


@pytest.mark.parametrize("library", PYTHONS)
@pytest.mark.parametrize("name", EXPECTED)
def test_script_prints_what_it_prints_under_the_reference(
    name: str, library: str, tmp_path: Path
) -> None:
    assert run(tmp_path, name, library=library) == expected(name, library)


def test_every_script_is_tried_and_in_the_index() -> None:
    index = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")

    assert {path.stem for path in FOLDER.glob("*.py")} == EXPECTED.keys()
    assert all(f"(agent_framework/{name}.py)" in index for name in EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_one_import_is_all_there_is_to_change(name: str) -> None:
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    imports = [
        node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom | ast.Import)
    ]
    ours = [node for node in imports if "supersteps" in ast.unparse(node)]

    assert len(ours) == 1
    assert isinstance(ours[0], ast.ImportFrom)
    assert {alias.name for alias in ours[0].names} <= KNOWN_THERE
    modules = {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
    modules |= {
        alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names
    }
    assert {module.partition(".")[0] for module in modules} - {"supersteps"} <= set(
        sys.stdlib_module_names
    )


@pytest.mark.parametrize("library", PYTHONS)
def test_pipeline_resumes_from_the_checkpoint_that_a_person_names(
    library: str, tmp_path: Path
) -> None:
    text = run(tmp_path, "pipeline_with_resume", "--ask", library=library, stdin="1\n")

    resumed = text.partition("a moment ago:\n")[2]
    assert resumed.startswith("  corrector\n  surveyor\n" if library == "ours" else "  surveyor\n")
    assert resumed.endswith("  herald\noutput: harbour: 386 to 443 cm, a range of 57 cm\n")


@pytest.mark.parametrize("library", PYTHONS)
def test_review_asks_at_the_terminal(library: str, tmp_path: Path) -> None:
    text = run(tmp_path, "human_review", "--ask", library=library, stdin="in brass\napprove\n")

    assert "approved: Barometer, 1790, in brass (wishes: 1)" in text


@pytest.mark.parametrize("library", PYTHONS)
def test_sub_workflow_asks_at_the_terminal(library: str, tmp_path: Path) -> None:
    text = run(tmp_path, "sub_workflow", "--ask", library=library, stdin="left behind\n")

    assert "output: canoe left behind, stove for a fee, tent free" in text


@pytest.mark.parametrize("name", EXPECTED)
def test_script_stores_its_checkpoints_in_the_named_folder(name: str, tmp_path: Path) -> None:
    for _ in range(2):  # each in a folder of its own, so that the second one prints the same
        assert run(tmp_path, name, "--storage", "checkpoints") == expected(name, "ours")

    assert len({path.parent for path in tmp_path.glob("checkpoints/*/*.json")}) == 2
