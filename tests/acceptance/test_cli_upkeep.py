"""Looking after a store from the command line: restore, cancel, prune, verify, export, import,
graph.
"""

import asyncio
import io
import json
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from supersteps import FileCheckpointStorage, SqliteCheckpointStorage
from supersteps.cli import main
from supersteps.cli.commands import graph
from supersteps.service.errors import ServiceError
from supersteps.service.service import Service
from supersteps.storage.ports import ManagedStorage
from supersteps.storage.records import Damage
from tests.contract.support import ELSEWHERE

APPLICATION = """
import asyncio
import sys
from typing import Never

from supersteps import (Executor, WorkflowBuilder, WorkflowContext, executor, handler, open_storage,
                        response_handler)

@executor
async def count(number: int, ctx: WorkflowContext[int, str]) -> None:
    if number < 10:
        await ctx.send_message(number + 1)
    else:
        await ctx.yield_output(f"counted to {number}")

class Editor(Executor):
    @handler
    async def write(self, topic: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.request_info(f"Publish {topic}?", bool)

    @response_handler
    async def act(self, asked: str, approved: bool, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(str(approved))

counting = WorkflowBuilder(name="counting").set_start_executor(count).add_edge(count, count).build()
review = WorkflowBuilder(name="review").set_start_executor(Editor("editor")).build()

async def prepare(url: str) -> None:
    async with open_storage(url) as storage:
        await counting.run(1, run_id="long", checkpoint_storage=storage)
        await counting.run(8, run_id="short", checkpoint_storage=storage)
        await review.run("tides", run_id="asking", checkpoint_storage=storage)
"""


@dataclass
class Store:
    """A store with three runs: `long` and `short` are done after supersteps 10 and 3, `asking`
    waits for an answer.

    Attributes:
        kind: "file" or "sqlite".
        path: Where it is.
        run: Runs a command on it in this process: exit code, stdout, stderr.
    """

    kind: str
    path: Path
    run: Callable[..., tuple[int, str, str]]

    def open(self) -> ManagedStorage:
        return (
            FileCheckpointStorage(self.path)
            if self.kind == "file"
            else SqliteCheckpointStorage(self.path)
        )

    def json(self, *arguments: str) -> Any:
        code, out, err = self.run(*arguments, "-o", "json")
        assert code in (0, 1), err
        return json.loads(out)

    def head(self, run_id: str) -> str:
        return str(next(run["head"] for run in self.json("runs") if run["run_id"] == run_id))

    def damage(self, checkpoint: str) -> None:
        if self.kind == "file":
            path = self.path / f"{checkpoint}.json"
            data = path.read_bytes()
            path.write_bytes(data[:-60] + bytes([data[-60] ^ 1]) + data[-59:])
            return
        run_id, _, number = checkpoint.rpartition("-")
        with sqlite3.connect(self.path) as db:
            row = "run = (SELECT run FROM runs WHERE run_id = ?) AND sequence = ?"
            (entries,) = db.execute(
                f"SELECT entries FROM checkpoints WHERE {row}", (run_id, int(number))
            ).fetchone()
            spoilt = entries[:-1] + bytes([entries[-1] ^ 1])
            db.execute(
                f"UPDATE checkpoints SET entries = ? WHERE {row}", (spoilt, run_id, int(number))
            )
        db.close()


@pytest.fixture
def run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPERSTEPS_DEBUG", "")
    monkeypatch.delenv("SUPERSTEPS_APP", raising=False)
    monkeypatch.delenv("SUPERSTEPS_STORE", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "upkept_flows", raising=False)
    (tmp_path / "upkept_flows.py").write_text(APPLICATION, encoding="utf-8")

    def ran(*arguments: str, typed: str | bytes = "") -> tuple[int, str, str]:
        raw = typed if isinstance(typed, bytes) else typed.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return ran


@pytest.fixture(params=["file", "sqlite"])
def store(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> Store:
    path = tmp_path / ("runs.db" if request.param == "sqlite" else "checkpoints")
    monkeypatch.setenv("SUPERSTEPS_STORE", str(path))
    monkeypatch.syspath_prepend(str(tmp_path))
    asyncio.run(import_module("upkept_flows").prepare(str(path)))
    return Store(request.param, path, run)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard input and error are a terminal."""
    for name in ("restore", "prune", "cancel"):
        monkeypatch.setattr(f"supersteps.cli.commands.{name}.is_terminal", lambda: True)


# ------------------------------------------------------------------------------------------ restore


def test_restoring_a_checkpoint_and_what_comes_next(store: Store) -> None:
    code, out, _ = store.run("restore", "long@7")

    assert code == 0
    assert out == (
        "run long is at long-000007 again, after superstep 7, on branch 1 (it was long-000010)\n"
        "next: `supersteps resume long` runs superstep 8: count\n"
    )
    assert store.head("long") == "long-000007"


def test_restoring_shows_what_it_leaves_and_asks(store: Store, terminal: None) -> None:
    code, out, err = store.run("restore", "long@-3", typed="n\n")

    assert (code, out) == (1, "")
    assert "Run long is at long-000010, after superstep 10, on branch 0." in err
    assert (
        "long-000007 is after superstep 7: 3 checkpoints back. The run continues on branch 1" in err
    )
    assert err.rstrip().endswith("nothing was changed")
    assert store.head("long") == "long-000010"

    assert store.run("restore", "long@-3", typed="y\n")[0] == 0
    assert store.head("long") == "long-000007"

    code, _, err = store.run(
        "restore", "long-000010", typed="y\n"
    )  # the way back to the branch that was left
    assert code == 0
    assert (
        "long-000010, after superstep 10, is on another branch. The run continues on branch 2"
        in err
    )

    code, out, err = store.run("restore", "long-000010", typed="y\n")
    assert "That is this checkpoint: restoring it only discards the answers" in err
    assert "next: nothing, the run was done there" in out


def test_yes_does_not_ask(store: Store, terminal: None) -> None:
    code, _, err = store.run("restore", "long@7", "--yes")

    assert (code, err) == (0, "")
    assert store.head("long") == "long-000007"


def test_restoring_to_a_question(store: Store) -> None:
    code, out, _ = store.run("restore", "asking")

    assert code == 0
    assert "next: it waits for an answer: `supersteps answer " in out


def test_restoring_for_programs(store: Store) -> None:
    found = store.json("restore", "long@2")

    assert (found["run_id"], found["head"], found["step"], found["branch"]) == (
        "long",
        "long-000002",
        2,
        1,
    )


@pytest.mark.parametrize("reference", ["long@99", "nowhere", "long-000099"])
def test_restoring_what_is_not_there(store: Store, reference: str) -> None:
    code, out, err = store.run("restore", reference)

    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert store.head("long") == "long-000010"


async def take(store: Store, run_id: str) -> None:
    async with store.open() as storage:
        await storage.acquire(run_id, ELSEWHERE, 600)


def test_a_running_run_is_left_alone(store: Store) -> None:
    asyncio.run(take(store, "asking"))

    for command in ("restore", "cancel"):
        code, _, err = store.run(command, "asking")
        assert code == 1
        assert err.startswith("error: run 'asking'")


# ------------------------------------------------------------------------------------------- cancel


def test_cancelling(store: Store) -> None:
    code, out, _ = store.run("cancel", "ask")

    assert code == 0
    assert out == (
        "run asking is cancelled, after superstep 1; its question will not be answered\n"
        "its checkpoints stay: `supersteps resume asking` continues it anyway\n"
    )
    assert store.json("cancel", "asking")["status"] == "CANCELLED"
    assert (
        store.run("cancel", "asking")[1]
        == "run asking is cancelled already, after superstep 1; nothing was changed\n"
    )


def test_cancelling_asks(store: Store, terminal: None) -> None:
    code, out, err = store.run("cancel", "ask", typed="n\n")

    assert (code, out) == (1, "")
    assert "Run asking of workflow " in err
    assert " is at asking-000001, 1 question waiting." in err
    assert err.rstrip().endswith("nothing was changed")
    assert store.run("cancel", "ask", typed="y\n")[0] == 0
    code, out, err = store.run("cancel", "asking")  # there is nothing to ask about
    assert (code, out.startswith("run asking is cancelled already"), err) == (0, True, "")


def test_cancelling_with_yes_does_not_ask(store: Store, terminal: None) -> None:
    code, out, err = store.run("cancel", "ask", "-y")

    assert (code, out.startswith("run asking is cancelled, "), err) == (0, True, "")


def test_a_run_that_is_done_stays_done(store: Store) -> None:
    code, out, _ = store.run("cancel", "short")

    assert code == 0
    assert out == "run short is done already, after superstep 3; nothing was changed\n"
    assert store.json("cancel", "short")["status"] == "IDLE"


# -------------------------------------------------------------------------------------------- prune


def test_a_dry_run_removes_nothing_and_lists_the_checkpoints(store: Store) -> None:
    code, out, err = store.run("prune", "--all", "--keep-last", "4", "--dry-run")

    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["RUN", "WOULD", "DELETE", "KEEP"],
        ["long", "7", "4"],
    ]
    assert err == "2 other runs are unchanged\n"
    found = {
        each["run_id"]: each
        for each in store.json("prune", "--all", "--keep-last", "4", "--dry-run")
    }
    assert found["long"]["checkpoints"] == [f"long-{number:06d}" for number in range(7)]
    assert (found["long"]["kept"], found["short"]["checkpoints"], found["short"]["kept"]) == (
        4,
        [],
        4,
    )


def test_pruning(store: Store) -> None:
    code, out, _ = store.run("prune", "long", "--keep-last", "2", "--keep-steps", "5", "--vacuum")

    assert code == 0
    assert [line.split() for line in out.splitlines()[:2]] == [
        ["RUN", "DELETED", "KEPT"],
        ["long", "7", "4"],
    ]
    assert out.endswith("the freed space was returned to the file system\n")
    code, out, err = store.run("prune", "long", "--keep-last", "2", "--keep-steps", "5")
    assert (code, out, err) == (0, "", "nothing to delete: 4 checkpoints of 1 run kept\n")
    assert store.run("verify")[:2] == (0, "3 runs, no damage found\n")


def test_pruning_asks(store: Store, terminal: None) -> None:
    code, out, err = store.run("prune", "--all", "--keep-for", "0s", typed="n\n")

    assert (code, out) == (1, "")
    assert "long: 10 checkpoints of 11\n" in err
    assert "Delete 14 checkpoints permanently? [y/N]:" in err
    assert err.rstrip().endswith("nothing was deleted")

    code, out, _ = store.run("prune", "--all", "--keep-for", "0s", typed="y\n")
    assert code == 0
    assert "DELETED" in out
    assert store.run("prune", "--all", "--keep-for", "0s")[2].startswith("nothing to delete")


def test_questions_are_kept_unless_they_may_go(store: Store) -> None:
    old = ("prune", "asking", "--keep-for", "0s", "--dry-run")

    assert (
        store.json("restore", "asking@0")["head"] == "asking-000000"
    )  # so that the question is not the head
    assert store.json(*old)[0]["checkpoints"] == []
    assert store.json(*old, "--waiting-too")[0]["checkpoints"] == ["asking-000001"]


def test_the_former_name_of_keep_for_is_accepted(store: Store) -> None:
    code, out, err = store.run("prune", "long", "--older-than", "30d", "--dry-run")

    assert (code, out) == (0, "")
    assert err.splitlines() == [
        "--older-than is now called --keep-for",
        "nothing to delete: 11 checkpoints of 1 run kept",
    ]


def test_what_is_young_stays(store: Store) -> None:
    for age in ("90s", "15m", "12h", "30d", "2w", "1.5h"):
        assert store.json("prune", "--all", "--keep-for", age, "--dry-run")[0]["checkpoints"] == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["long"], "say what to keep: pass --keep-last N, --keep-steps N or --keep-for AGE"),
        (["--keep-last", "3"], "name a run, or pass --all"),
        (["long", "--all", "--keep-last", "3"], "name a run or pass --all, not both"),
        (["long", "--keep-last", "0"], "0 is not in the range x>=1"),
        (
            ["long", "--keep-for", "30"],
            "'30' is not a duration: write a number and a unit, as in 90s",
        ),
        (["long", "--older-than", "1d", "--keep-for", "1d"], "pass only that"),
        (["long", "--keep-for", "-3d"], "'-3d' is not a duration"),
        (["long", "--keep-for", "9999999w"], "is too long ago"),
    ],
)
def test_pruning_used_wrongly(
    run: Callable[..., tuple[int, str, str]], arguments: list[str], complaint: str
) -> None:
    code, _, err = run("prune", *arguments, "--store", "memory:")

    assert code == 2
    assert complaint in err


# ------------------------------------------------------------------------------------------- verify


def test_everything_is_whole(store: Store) -> None:
    assert store.run("verify") == (0, "3 runs, no damage found\n", "")
    assert store.run("verify", "lo") == (0, "1 run, no damage found\n", "")
    assert store.json("verify") == []


def test_a_damaged_head_is_found_and_left(store: Store) -> None:
    store.damage("long-000010")

    code, out, err = store.run("verify")
    assert code == 1
    assert "(checkpoint long-000010 of run long)" in out
    assert (
        "the nearest intact checkpoint before it is long-000009: `supersteps restore "
        "long-000009` moves the run back to it" in out
    )
    assert err == "1 damage, in 1 of 3 runs\n"
    assert store.run("verify", "short")[0] == 0
    (found,) = store.json("verify", "long")
    assert (found["checkpoint_id"], found["intact_ancestor"]) == ("long-000010", "long-000009")

    code, _, err = store.run("restore", "long")
    assert code == 1
    assert "The nearest intact checkpoint before it is 'long-000009'." in err
    code, out, _ = store.run("restore", "long-000009")
    assert code == 0
    assert "next: `supersteps resume long` runs superstep 10: count" in out


def test_restoring_from_a_damaged_head_on_a_terminal(store: Store, terminal: None) -> None:
    store.damage("long-000010")

    code, _, err = store.run("restore", "long-000008", typed="y\n")

    assert code == 0
    assert "long-000008 is after superstep 8: 2 checkpoints back." in err


def test_damage_behind_a_whole_head(store: Store) -> None:
    store.damage("long-000004")

    code, out, _ = store.run("verify", "long")

    assert code == 1
    assert "(checkpoint long-000004 of run long)" in out
    assert "is long-000003: `supersteps restore long-000003` moves the run back to it" in out
    if store.kind == "file":
        assert "the run's head, long-000010, is intact, so the run can continue; the nearest" in out


def test_a_damaged_beginning(store: Store) -> None:
    store.damage("asking-000000")

    code, out, _ = store.run("verify")

    assert code == 1
    assert (
        "no earlier checkpoint is intact; if there is an export of the run, import it under "
        "another id" in out
    )


def test_damage_beside_the_checkpoints_speaks_for_itself(store: Store) -> None:
    if store.kind == "sqlite":
        pytest.skip("its rows have no files of their own")
    (store.path / "runs" / "long" / "run.json").unlink()

    code, out, err = store.run("verify")

    assert code == 1
    assert "run long)\n" in out
    assert "is missing, but 11 of its checkpoints exist" in out
    assert "supersteps restore" not in out
    assert err == "1 damage, in 1 of 2 runs\n"


def test_verify_says_on_a_terminal_why_it_takes_long(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = Service.verify

    async def slowly(service: Service, reference: str | None = None) -> list[Damage]:
        await asyncio.sleep(0.2)
        return await verify(service, reference)

    monkeypatch.setattr(Service, "verify", slowly)
    monkeypatch.setattr("supersteps.cli.commands.verify._PATIENCE", 0.05)
    assert store.run("verify") == (0, "3 runs, no damage found\n", "")  # stderr is not a terminal

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    code, out, err = store.run("verify")

    assert (code, out) == (0, "3 runs, no damage found\n")
    assert err.startswith("\rchecking 3 runs, 0 s \r")
    assert err.endswith("\r\x1b[K")


# ----------------------------------------------------------------------------------------- backup


def test_a_store_is_backed_up(store: Store, tmp_path: Path) -> None:
    before = store.json("runs")
    name = "copy.db" if store.kind == "sqlite" else "copy"

    code, out, _ = store.run("backup", name)
    assert code == 0
    assert out.startswith(f"the store is copied to {name}: ")
    assert store.run("verify", "--store", name)[:2] == (0, "3 runs, no damage found\n")
    assert store.json("runs", "--store", name) == before

    code, _, err = store.run("backup", name)
    assert code != 0
    assert "Nothing was written." in err
    written = store.json("backup", f"another-{name}")
    assert written["path"] == f"another-{name}"
    assert written["bytes"] > 1000
    assert "there is no folder" in store.run("backup", "no/where.db")[2]
    if store.kind == "sqlite":
        assert store.run("backup", name, "--force")[0] == 0
        assert "is a database in use" in store.run("backup", str(store.path), "--force")[2] or (
            "is the database itself" in store.run("backup", str(store.path), "--force")[2]
        )


def test_runs_within_a_span_of_time(store: Store) -> None:
    long, short, asking = (
        next(run["created_at"] for run in store.json("runs") if run["run_id"] == name)
        for name in ("long", "short", "asking")
    )

    def names(*options: str) -> list[str]:
        return [run["run_id"] for run in store.json("runs", *options)]

    assert names("--since", short) == ["asking", "short"]
    assert names("--until", asking) == ["short", "long"]
    assert names("--since", short, "--until", asking) == ["short"]
    assert names("--since", "1d", "--status", "done") == ["short", "long"]
    assert names("--until", "1d") == []
    assert names("--since", long, "-n", "1") == ["asking"]
    assert "is not a time: write a date" in store.run("runs", "--since", "yesterday")[2]


# ----------------------------------------------------------------------------------- export, import


def test_a_run_goes_through_a_file(store: Store, tmp_path: Path) -> None:
    store.run("restore", "long@7")
    code, out, _ = store.run("export", "long")

    assert code == 0
    assert out.startswith("run long is in long.jsonl: 11 checkpoints, ")
    for number, url in enumerate(
        (str(tmp_path / "new.db"), "sqlite:///deep/new.db", str(tmp_path / "new folder"))
    ):
        code, out, _ = store.run(
            "import", "long.jsonl", "--store", url, "--run-id", f"copy-{number}"
        )
        assert code == 0
        assert out == (
            f"run copy-{number} of workflow counting was imported: in progress, after superstep "
            "7\n"
            f"to inspect it: `supersteps show copy-{number}`\n"
        )
        assert store.run("verify", "--store", url)[:2] == (0, "1 run, no damage found\n")
    (run,) = store.json("runs", "--store", str(tmp_path / "new.db"))
    assert (run["run_id"], run["step"], run["branch"]) == ("copy-0", 7, 1)


def test_a_file_is_not_replaced_unasked(store: Store, tmp_path: Path) -> None:
    target = tmp_path / "mine.jsonl"
    target.write_text("precious")

    code, _, err = store.run("export", "long", str(target))
    assert code == 2
    assert "exists already: pass another name, or --force to replace it" in err
    assert target.read_text() == "precious"

    written = store.json("export", "long", str(target), "--force")
    assert (written["run_id"], written["checkpoints"], written["bytes"]) == (
        "long",
        11,
        target.stat().st_size,
    )


def test_through_a_pipe(store: Store, tmp_path: Path) -> None:
    code, out, err = store.run("export", "asking", "-")
    assert (code, err) == (0, "")

    code, out, err = store.run("import", "-", "--store", str(tmp_path / "other.db"), typed=out)
    assert code == 0
    assert out.startswith("run asking of workflow review was imported: waiting, after superstep 1")


@pytest.mark.parametrize(
    ("file", "code", "complaint"),
    [
        (
            "long.jsonl",
            2,
            "the store already has a run with this id: import it under another one with --run-id "
            "ID",
        ),
        ("upkept_flows.py", 1, "is not a complete exported run"),
        ("cut.jsonl", 1, "is not a complete exported run"),
        ("missing.jsonl", 2, "does not exist"),
    ],
)
def test_what_cannot_be_imported(
    store: Store, tmp_path: Path, file: str, code: int, complaint: str
) -> None:
    store.run("export", "long")
    (tmp_path / "cut.jsonl").write_bytes((tmp_path / "long.jsonl").read_bytes()[:-40])

    ended, out, err = store.run("import", file)

    assert (ended, out) == (code, "")
    assert complaint in err
    assert len(store.json("runs")) == 3


def test_exporting_to_where_nothing_can_be(store: Store, tmp_path: Path) -> None:
    assert "is a folder: pass the name of a file" in store.run("export", "long", str(tmp_path))[2]
    assert "there is no folder" in store.run("export", "long", "no/where.jsonl")[2]
    assert store.run("export", "nobody")[0] == 2


# -------------------------------------------------------------------------------------------- graph


def test_drawing_a_run_needs_no_code(store: Store) -> None:
    code, out, _ = store.run("graph", "asking")
    assert code == 0
    assert "flowchart" in out
    assert "editor" in out

    code, out, _ = store.run("graph", "asking", "--format", "ascii")
    assert code == 0
    assert "editor" in out
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("file", "beginning"),
    [
        ("run.svg", "<svg"),
        ("run.dot", "digraph"),
        ("run.mmd", "---"),
        ("run.txt", "counting"),
        ("RUN.SVG", "<svg"),
    ],
)
def test_the_suffix_says_what_to_draw(
    store: Store, tmp_path: Path, file: str, beginning: str
) -> None:
    code, out, err = store.run("graph", "long@3", "-f", file)

    assert (code, out) == (0, "")
    assert f"was written to {file}" in err
    assert (tmp_path / file).read_text().startswith(beginning)


def test_drawing_the_code(store: Store, tmp_path: Path) -> None:
    for name in (
        "upkept_flows:review",
        "upkept_flows.py:review",
        f"{tmp_path}/upkept_flows.py:review",
    ):
        code, out, err = store.run("graph", name, "--format", "dot")
        assert code == 0, err
        assert "editor" in out

    code, out, _ = store.run(
        "graph", "upkept_flows:review", "--checkpoint", "asking", "--format", "mermaid"
    )
    assert code == 0
    assert "superstep 1" in out

    code, _, err = store.run("graph", "upkept_flows:review", "--checkpoint", "long")
    assert code == 2
    assert "belongs to workflow 'counting', but the code is of 'review'" in err


def test_the_app_of_the_settings(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERSTEPS_APP", "upkept_flows:review")

    code, out, _ = store.run("graph")

    assert code == 0
    assert "editor" in out


def test_a_terminal_that_lacks_the_characters(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def echo(text: str, **_: object) -> None:
        text.encode("ascii")

    monkeypatch.setattr("click.echo", echo)
    with pytest.raises(
        ServiceError,
        match=r"stdout is encoded as ascii, which has no .*: write the picture to a file",
    ):
        graph._print("a ╔══╗")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "name a workflow (module:name or file.py:name), a run or a checkpoint"),
        (
            ["long", "-f", "run.png"],
            "does not name a format: pass --format, or a file name that ends in .svg",
        ),
        (["long", "--checkpoint", "short"], "--checkpoint needs an APP"),
        (["nobody"], "none of the 3 runs"),
        (["nobody:flow"], "there is no module 'nobody'"),
        (["long", "-f", "no/where.svg"], "cannot be written"),
    ],
)
def test_drawing_used_wrongly(store: Store, arguments: list[str], complaint: str) -> None:
    code, _, err = store.run("graph", *arguments)

    assert code == 2
    assert complaint in err
