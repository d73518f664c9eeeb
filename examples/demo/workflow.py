"""The workflow: deal documents out to counters, gather, rank, ask a person, write the report.

dealer ──batch──► counter-1 … counter-4        as often as there are documents left
   ▲                  │
   └────── fan-in ────┘
   └──► ranker ──► editor ◄──► request_info    a person approves or rejects
                      └──► the report
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Literal, Never

from supersteps import (
    CheckpointStorage,
    Executor,
    InMemoryCheckpointStorage,
    RequestInfoExecutor,
    RequestInfoMessage,
    RequestResponse,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowEvent,
    handler,
)

from .report import render_report
from .terms import Term, count_terms, rank_terms

COUNTERS = 4
PAGE = 3000
"""Characters of a page."""
TERMS_IN_REPORT = 48
TERMS_SCOPE = "terms"
"""The scope of state in which each document has a key of its own: a superstep writes only the new
ones.
"""

Verdict = Literal["approve", "reject"]


@dataclass(frozen=True)
class Job:
    """The workflow's input.

    Attributes:
        report: The file to write.
        batch_size: How many documents a counter gets at once.
        pace: Seconds that a page takes beside the counting, in place of the slow things that
            workers do: a call of a model, a request to a service.
    """

    report: Path
    batch_size: int = 2
    pace: float = 0.015


@dataclass(frozen=True)
class Batch:
    """Documents for one counter; at the end there may be none left for it."""

    documents: tuple[str, ...]
    pace: float


@dataclass(frozen=True)
class Counted:
    """A counter is done with these documents; their terms are in the state."""

    documents: tuple[str, ...]


@dataclass(frozen=True)
class AllCounted:
    """No documents are left."""

    documents: tuple[str, ...]
    report: Path


@dataclass(frozen=True)
class Draft:
    """The report before it is approved."""

    report: Path
    documents: int
    terms: tuple[Term, ...]


@dataclass
class ApprovalRequest(RequestInfoMessage):
    """The question to a person; `approve` or `reject` is the answer."""

    prompt: str = ""
    draft: str = ""


class DocumentCounted(WorkflowEvent):
    """Live news: a counter has counted a document. After a crash, a document may be counted
    again.
    """


class Dealer(Executor):
    """Deals the documents out, round by round."""

    @handler
    async def begin(self, job: Job, ctx: WorkflowContext[Batch | AllCounted]) -> None:
        await ctx.set_state({"job": job, "left": sorted(topics)})
        await self._deal(job, sorted(topics), ctx)

    @handler
    async def go_on(self, counted: list[Counted], ctx: WorkflowContext[Batch | AllCounted]) -> None:
        state = await ctx.get_state() or {}
        done = {document for batch in counted for document in batch.documents}
        left = [document for document in state["left"] if document not in done]
        await ctx.set_state(state | {"left": left})
        await self._deal(state["job"], left, ctx)

    async def _deal(
        self, job: Job, left: list[str], ctx: WorkflowContext[Batch | AllCounted]
    ) -> None:
        if not left:
            await ctx.send_message(AllCounted(tuple(sorted(topics)), job.report))
            return
        for number in range(COUNTERS):
            documents = left[number * job.batch_size : (number + 1) * job.batch_size]
            await ctx.send_message(Batch(tuple(documents), job.pace), target_id=counter_id(number))


class TermCounter(Executor):
    """Counts the terms of documents. A plain function, because it computes: the engine runs it in
    a thread.
    """

    @handler
    def count(self, batch: Batch, ctx: WorkflowContext[Counted]) -> None:
        for document in batch.documents:
            time.sleep(batch.pace * len(topics[document]) / PAGE)
            ctx.queue_state_update(document, count_terms(topics[document]), scope=TERMS_SCOPE)
            ctx.add_event(DocumentCounted(document))
        ctx.send_message(Counted(batch.documents))


class Ranker(Executor):
    """Ranks the terms of all documents."""

    @handler
    async def rank(self, counted: AllCounted, ctx: WorkflowContext[Draft]) -> None:
        counts = {
            document: await ctx.read_state(document, scope=TERMS_SCOPE)
            for document in counted.documents
        }
        await ctx.send_message(
            Draft(counted.report, len(counts), rank_terms(counts, TERMS_IN_REPORT))
        )


class Editor(Executor):
    """Has the report approved by a person, then writes it."""

    @handler
    async def ask(self, draft: Draft, ctx: WorkflowContext[ApprovalRequest]) -> None:
        await ctx.set_state({"draft": draft})
        best = ", ".join(term.word for term in draft.terms[:10])
        prompt = f"Publish the report on {draft.documents} documents?"
        await ctx.send_message(
            ApprovalRequest(prompt=prompt, draft=f"The terms that tell most: {best}")
        )

    @handler
    async def finish(
        self, response: RequestResponse[ApprovalRequest, Verdict], ctx: WorkflowContext[Never, str]
    ) -> None:
        if response.data == "reject":
            await ctx.yield_output("rejected: no report was written")
            return
        draft: Draft = (await ctx.get_state() or {})["draft"]
        write_whole(draft.report, render_report(draft.documents, draft.terms))
        await ctx.yield_output(f"wrote {draft.report.name}")


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is never seen half written; doing it twice has the same effect.

    That is what a handler's effects on the world should be like: after a crash the handler may run
    again.
    """
    draft = path.with_name(path.name + ".tmp")
    draft.write_bytes(text.encode())
    os.replace(draft, path)


def counter_id(number: int) -> str:
    """Return the id of a counter."""
    return f"counter-{number + 1}"


def build_workflow(storage: CheckpointStorage) -> Workflow:
    """Return the workflow, whose runs are saved to `storage`."""
    dealer, ranker, editor = Dealer("dealer"), Ranker("ranker"), Editor("editor")
    counters = [TermCounter(counter_id(number)) for number in range(COUNTERS)]
    request_info = RequestInfoExecutor("request_info")
    return (
        WorkflowBuilder(name="term-report")
        .set_start_executor(dealer)
        .add_fan_out_edges(dealer, counters)
        .add_fan_in_edges(counters, dealer)
        .add_chain([dealer, ranker, editor, request_info])
        .add_edge(request_info, editor)
        .with_checkpointing(storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build_workflow(InMemoryCheckpointStorage())
