"""What notebooks show: text always, HTML where it can be made, everything escaped."""

from html.parser import HTMLParser
from typing import Any, Never

import pytest

from supersteps import (
    Executor,
    InMemoryCheckpointStorage,
    StreamingRun,
    Workflow,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowContext,
    handler,
)
from supersteps.viz import notebook
from tests.unit.support import asking_workflow, built, collect, shout_workflow

EVIL = '<script>alert("x")</script>&'


class Tags(HTMLParser):
    """Collects tags and attributes, and checks that tags are closed in order."""

    VOID = frozenset(
        {"br", "meta", "path", "rect", "line", "circle", "polygon", "polyline", "use", "ellipse"}
    )

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        while self.open[-1] != tag and self.open[-1] in self.VOID:
            self.open.pop()
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def checked(html: str) -> Tags:
    tags = Tags(html)
    assert not tags.seen & {"script", "iframe", "object", "embed", "link", "img"}
    assert not any(name.startswith("on") for name in tags.attributes)
    return tags


class Evil(Executor):
    """Keeps what would be a script if it were not escaped."""

    @handler
    async def take(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.set_shared_state(f"key {EVIL}", EVIL)
        await ctx.set_state({"own": "long " * 200})
        await ctx.yield_output(EVIL)


def evil_workflow(**settings: Any) -> Workflow:
    evil = Evil(EVIL)
    return built(WorkflowBuilder(name=EVIL), evil, **settings)


async def run_of(
    workflow: Workflow, storage: InMemoryCheckpointStorage, text: str = "hi"
) -> list[WorkflowCheckpoint]:
    run = workflow.run_stream(text, checkpoint_storage=storage)
    await collect(run)
    found = [await storage.load_checkpoint(info.checkpoint_id) for info in run.checkpoints]
    return [checkpoint for checkpoint in found if checkpoint is not None]


# ---------------------------------------------------------------------------------------- workflows


def test_a_workflow() -> None:
    bundle = shout_workflow()._repr_mimebundle_()

    assert set(bundle) == {"text/plain", "text/html", "image/svg+xml"}
    assert bundle["text/plain"].startswith("Workflow(workflow_id='shout'")
    assert "<svg" in bundle["text/html"]
    assert {"up", "back"} <= set(checked(bundle["text/html"]).text.split())


def test_a_workflow_is_escaped() -> None:
    assert "alert" in checked(evil_workflow()._repr_mimebundle_()["text/html"]).text


def test_only_what_is_asked_for() -> None:
    workflow = shout_workflow()

    assert set(workflow._repr_mimebundle_(include={"text/html"})) == {"text/html"}
    assert set(workflow._repr_mimebundle_(exclude=["text/html"])) == {"text/plain", "image/svg+xml"}


# -------------------------------------------------------------------------------------- checkpoints


async def test_a_checkpoint() -> None:
    *_, last = await run_of(asking_workflow(), InMemoryCheckpointStorage())
    bundle = last._repr_mimebundle_()

    assert set(bundle) == {"text/plain", "text/html"}
    assert bundle["text/plain"] == repr(last)
    text = checked(bundle["text/html"]).text
    assert last.checkpoint_id in text
    assert "IDLE_WITH_PENDING_REQUESTS" in text
    assert "requests['ask-hi']" in text
    assert "<svg" in bundle["text/html"]
    assert "port" in text
    assert "messages" not in vars(last)  # showing it leaves it undecoded


async def test_a_checkpoint_is_escaped_and_values_are_cut() -> None:
    *_, last = await run_of(evil_workflow(), InMemoryCheckpointStorage())
    tags = checked(last._repr_mimebundle_()["text/html"])

    assert f"shared_state['key {EVIL}']" in tags.text
    assert "…" in tags.text
    assert "long " * 100 not in tags.text


def test_a_checkpoint_made_by_hand_has_no_picture() -> None:
    html = WorkflowCheckpoint(workflow_id="w", shared_state={"n": 1})._repr_mimebundle_()[
        "text/html"
    ]

    assert "<svg" not in html
    assert "shared_state['n']" in checked(html).text


def test_a_checkpoint_that_cannot_be_read_still_shows_its_facts() -> None:
    checkpoint = WorkflowCheckpoint(workflow_id="w", shared_state={"n": object()})

    text = checked(checkpoint._repr_mimebundle_()["text/html"]).text

    assert "IN_PROGRESS" in text
    assert "shared_state" not in text


async def test_a_checkpoint_that_is_damaged_is_drawn_without_marks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any, **__: Any) -> Never:
        raise ValueError("damaged")

    *_, last = await run_of(asking_workflow(), InMemoryCheckpointStorage())
    monkeypatch.setattr(notebook, "marks_of", broken)

    assert "<svg" in last._repr_mimebundle_()["text/html"]


def test_whatever_fails_leaves_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Never:
        raise RuntimeError("no")

    checkpoint, workflow = WorkflowCheckpoint(), shout_workflow()
    diff = checkpoint.diff(WorkflowCheckpoint(shared_state={"n": 1}))
    monkeypatch.setattr(notebook, "_page", broken)

    assert checkpoint._repr_mimebundle_() == {"text/plain": repr(checkpoint)}
    assert set(workflow._repr_mimebundle_()) <= {"text/plain", "image/svg+xml"}
    assert diff._repr_mimebundle_() == {"text/plain": str(diff)}
    run = workflow.run_stream("x", run_id="r1")
    assert run._repr_mimebundle_() == {"text/plain": repr(run)}


# -------------------------------------------------------------------------------------- differences


def test_a_diff_is_a_table_with_signs() -> None:
    before = WorkflowCheckpoint(
        checkpoint_id="c1", shared_state={"gone": 1, "same": 0, "other": EVIL}
    )
    after = WorkflowCheckpoint(
        checkpoint_id="c2", shared_state={"new": [EVIL], "same": 0, "other": 2}
    )
    bundle = before.diff(after)._repr_mimebundle_()

    tags = checked(bundle["text/html"])
    assert bundle["text/plain"] == str(before.diff(after))
    assert "c1 → c2" in tags.text
    assert "-shared_state['gone']1" in tags.text
    assert "+shared_state['new']" in tags.text
    assert "~shared_state['other']" in tags.text
    assert "same" not in tags.text


def test_an_empty_diff() -> None:
    checkpoint = WorkflowCheckpoint()

    assert "They are equal." in checkpoint.diff(checkpoint)._repr_mimebundle_()["text/html"]


def test_a_long_diff_is_cut() -> None:
    before, after = (
        WorkflowCheckpoint(),
        WorkflowCheckpoint(shared_state={f"k{n}": n for n in range(500)}),
    )

    assert "… and 300 more" in before.diff(after)._repr_mimebundle_()["text/html"]


# --------------------------------------------------------------------------------------------- runs


def shown(run: StreamingRun) -> str:
    bundle = run._repr_mimebundle_()
    assert bundle["text/plain"] == repr(run)
    checked(bundle["text/html"])
    return bundle["text/html"]


async def test_a_run_before_and_while_it_waits() -> None:
    run = asking_workflow(storage=InMemoryCheckpointStorage()).run_stream(
        "hi", run_id=f"run {EVIL}"
    )
    before = shown(run)
    assert "STARTED" in before
    assert "<svg" not in before

    await collect(run)

    waiting = shown(run)
    assert "IDLE_WITH_PENDING_REQUESTS" in waiting
    assert "superstep" in waiting
    assert "<svg" in waiting
    await run.aclose()
    assert "<svg" in shown(run)


async def test_a_run_without_storage() -> None:
    run = shout_workflow().run_stream("hi")
    await collect(run)

    assert "<svg" in shown(run)
