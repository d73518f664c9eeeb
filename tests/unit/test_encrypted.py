"""What an encrypted storage hides, refuses and costs."""

import asyncio
import json
import random
import sqlite3
import subprocess
import sys
import warnings
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography")

from msgspec.structs import replace

from supersteps import (
    CorruptCheckpointError,
    CorruptCheckpointWarning,
    DecryptionError,
    DurableStorage,
    EncryptedStorage,
    Executor,
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    Keyring,
    RequestInfoEvent,
    RequestInfoExecutor,
    RetentionPolicy,
    RunNotFoundError,
    SqliteCheckpointStorage,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowExecutor,
    export_run,
    handler,
    import_run,
    response_handler,
)
from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.parts import ListPart, Part, PartKey
from supersteps.checkpoint.record import CheckpointRecord
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.encryption.encryptor import part_place
from supersteps.encryption.envelope import decrypt, parse
from supersteps.encryption.keys import derive, frame
from supersteps.encryption.names import hide
from supersteps.testing.writer import Writer, by_hand, content_of, plain, shared
from tests.unit.support import Asker, Question

ONE, TWO = bytes(range(32)), bytes(range(32, 64))
RING = Keyring({"one": ONE}, "one")
ROTATED = Keyring({"one": ONE, "two": TWO}, "two", algorithm="ChaCha20-Poly1305")

# Under key "one", for run "run".
GOLDEN = {
    "A": '"s1.one.DMnVyhIl.A.7.v67N2VIfuG7xXcBC5fhkhh9sC3krmTZK5HnVgU7JX64="',
    "C": '"s1.one.DMnVyhIl.C.7.LdiUsI+1yhgjd/B9zNtNbi7orE6M4EENZas5/+Qo0Gk="',
}
GOLDEN_KEY = ("scopes", "rgM48uuQGCdtCWRSDK2sa-eB", "hHKSRm1tKD2VmqV9BI5m9dDf")
GOLDEN_WEIGHT = 843156379


# ----------------------------------------------------------------------------------------- keyrings


def test_a_keyring_shows_no_key() -> None:
    for shown in (
        repr(RING),
        str(RING),
        f"{RING}",
        repr(EncryptedStorage(InMemoryCheckpointStorage(), RING)),
    ):
        assert ONE.hex() not in shown
        assert repr(ONE)[2:20] not in shown
        assert "one" in shown
    with pytest.raises(TypeError, match="cannot be pickled"):
        RING.__reduce__()


def test_generated_keys_are_keys() -> None:
    first, second = Keyring.generate_key(), Keyring.generate_key()
    assert len(first) == 32
    assert first != second


@pytest.mark.parametrize(
    ("keys", "primary", "complaint"),
    [
        ({"a": b"short"}, "a", "32 bytes"),
        ({"a": ONE}, "b", "'b' is not among the keys"),
        ({"a.b": ONE}, "a.b", "letters, digits"),
        ({}, "a", "there are none"),
    ],
)
def test_an_impossible_keyring_is_refused(
    keys: dict[str, bytes], primary: str, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        Keyring(keys, primary)
    with pytest.raises(ValueError, match="algorithm"):
        Keyring({"a": ONE}, "a", algorithm="rot13")  # type: ignore[arg-type]


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", f"new:{b64encode(TWO).decode()}, old:{b64encode(ONE).decode()}")
    ring = Keyring.from_environment("KEYS")
    assert (ring.primary, ring.key_ids) == ("new", ("new", "old"))

    hush = b64encode(b"hush hush").decode()
    for wrong in (
        "",
        f"a:{hush}",
        hush,
        "a:!!!",
        f"a:{b64encode(ONE).decode()},a:{b64encode(TWO).decode()}",
    ):
        monkeypatch.setenv("KEYS", wrong)
        with pytest.raises(ValueError, match="KEYS") as refused:
            Keyring.from_environment("KEYS")
        assert hush not in str(refused.value)


def test_without_the_package_it_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['cryptography.hazmat.primitives.ciphers.aead'] = None\n"
        "import supersteps\n"
        "supersteps.Keyring({'a': bytes(32)}, 'a')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert 'pip install "supersteps[encryption]"' in done.stderr


def test_keys_are_derived_by_hkdf() -> None:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    theirs = HKDF(SHA256(), 32, b"supersteps sealed records 1", frame("data", "A", "run")).derive(
        ONE
    )
    assert derive(ONE, "data", "A", "run") == theirs


@pytest.mark.parametrize("letter", ["A", "C"])
def test_what_is_sealed_today_opens_tomorrow(letter: str) -> None:
    envelope = parse(GOLDEN[letter].encode())
    assert (envelope.key_id, envelope.letter, envelope.sequence) == ("one", letter, 7)
    assert decrypt(RING, "run", envelope, part_place("run", ("messages",))) == b"v\0[]"
    keys = RING.keys_of("run")
    assert hide(("scopes", "team", "x"), keys) == GOLDEN_KEY
    assert keys.weight(("messages",), 7, 0, b"v\0[]") % 10**9 == GOLDEN_WEIGHT


def test_a_frame_is_what_no_other_items_give() -> None:
    assert frame("ab", "c") != frame("a", "bc") != frame("a", "b", "c")


# --------------------------------------------------------------------------------- nothing in clear

MARK = "MaRkErMaRkErMaRkEr"


def marked(what: str) -> str:
    return f"{MARK}-{what}"


class Everything(Executor):
    """Leaves a mark in every kind of record, then asks; the answer makes it fail."""

    @handler
    async def begin(self, text: str, ctx: WorkflowContext[str, str]) -> None:
        await ctx.set_state({marked("key of state"): marked("state")})
        await ctx.set_shared_state(marked("shared key"), marked("shared value"))
        await ctx.set_shared_state(marked("large"), [marked("large value")] * 2000)
        await ctx.append_shared_state(marked("list"), marked("element"))
        await ctx.queue_state_update(marked("queued"), marked("update"))
        await ctx.schedule(marked("timer"), delay=3600)
        await ctx.yield_output(marked("output"))
        await ctx.send_message(marked("message"))
        await ctx.request_info({marked("question"): marked("data")}, str, request_id="ask")

    @response_handler
    async def answered(
        self, question: dict[str, str], answer: str, ctx: WorkflowContext[str, str]
    ) -> None:
        raise ValueError(marked("failure"))


class Slow(Executor):
    @handler
    async def take(self, text: str, ctx: WorkflowContext[str, str]) -> None:
        await ctx.set_shared_state(marked("from slow"), text)
        if "sub" not in text:
            await ctx.send_message(text)


class InnerAsker(Asker):
    @handler
    async def ask(self, text: str, ctx: WorkflowContext[Question]) -> None:
        await ctx.send_message(Question(prompt=text))


def everything(storage: DurableStorage) -> Any:
    asker = InnerAsker("asker")
    port = RequestInfoExecutor("port")
    inner = (
        WorkflowBuilder(name="inner")
        .set_start_executor(asker)
        .add_edge(asker, port)
        .add_edge(port, asker)
        .build()
    )
    start, slow = Everything("everything"), Slow("slow")
    return (
        WorkflowBuilder(name="flow")
        .set_start_executor(start)
        .add_edge(start, slow)
        .add_edge(slow, WorkflowExecutor(inner, "sub"))
        .with_checkpointing(storage)
        .build()
    )


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def forms(text: str) -> list[bytes]:
    """A text as it is and in base64, wherever in the base64 it begins."""
    return [text.encode(), *(b64encode(b"-" * shift + text.encode())[4:-4] for shift in range(3))]


@pytest.mark.parametrize("kind", ["file", "sqlite"])
async def test_nothing_but_ids_and_numbers_is_on_the_disk(tmp_path: Path, kind: str) -> None:
    inner: Any = (
        FileCheckpointStorage(tmp_path / "c")
        if kind == "file"
        else SqliteCheckpointStorage(tmp_path / "runs.db")
    )
    storage = EncryptedStorage(inner, RING)
    workflow = everything(storage)
    run = workflow.run_stream(
        marked("input"), run_id="r", metadata={marked("meta"): marked("data")}, tags=[marked("tag")]
    )
    questions = 0
    async for event in run:
        questions += isinstance(event, RequestInfoEvent)
        if questions == 2:
            break
    asked = [request.request_id for request in await storage.list_requests("r")]
    assert "ask" in asked
    assert len(asked) == 2, "the sub-workflow's question is there, too"
    await run.aclose()
    await storage.answer("r", "ask", marked("answer"))
    assert not [form for form in forms(MARK) if form in everything_in(tmp_path)]

    record = await storage.get_run("r")
    assert record is not None
    await storage.append_journal(
        "r", record.epoch, record.head, [json.dumps(marked("journal")).encode()]
    )
    assert not [form for form in forms(MARK) if form in everything_in(tmp_path)]
    await storage.discard_journal("r", record.epoch)
    with pytest.raises(ValueError, match="failure"):
        async for _ in workflow.run_stream_from_checkpoint(record.head):
            pass
    await storage.save_checkpoint(
        by_hand("mine", shared_state={marked("by hand"): marked("value")})
    )

    stored = everything_in(tmp_path)
    assert not [form for form in forms(MARK) if form in stored]
    after = await storage.get_run("r")
    assert after is not None
    assert after.error
    assert marked("failure") in after.error
    assert (after.metadata, after.tags) == ({marked("meta"): marked("data")}, (marked("tag"),))
    assert [found.run_id for found in await storage.list_runs(tag=marked("tag"))] == ["r"]
    assert await storage.list_runs(tag="another") == []
    head = await storage.load_checkpoint(after.head)
    assert head is not None
    assert head.shared_state[marked("large")] == [marked("large value")] * 2000
    assert head.shared_state[marked("list")] == [marked("element")]
    assert head.outputs == [marked("output")]
    assert await storage.verify() == []
    await storage.aclose()


async def sealed_of(storage: InMemoryCheckpointStorage, wanted: str) -> dict[PartKey, Part]:
    record = await storage.load_record(wanted)
    assert record is not None
    return record.parts


async def test_equal_content_looks_equal_in_no_two_runs_and_under_no_two_names() -> None:
    inner = InMemoryCheckpointStorage()
    storage = EncryptedStorage(inner, RING)
    value = json.dumps(list(range(5000))).encode()
    for run in ("a", "b"):
        changes = Changes(
            puts={
                shared("k"): value,
                ("executor_states", "e", "k"): b"1",
                ("executor_states", "f", "k"): b"1",
                ("scopes", "k", "k"): b"1",
            },
            appends={OUTPUTS: [b"1", b"1"]},
        )
        await Writer(storage, run).commit(changes)
    first, second = await sealed_of(inner, "a-000000"), await sealed_of(inner, "b-000000")

    common = {key for key in first if key in second}
    assert common == {OUTPUTS}
    texts = [
        part for parts in (first, second) for part in parts.values() if isinstance(part, bytes)
    ]
    for parts in (first, second):
        outputs = parts[OUTPUTS]
        assert isinstance(outputs, ListPart)
        texts += outputs
    assert len(set(texts)) == len(texts)
    names = {key[-1] for key in first if key[-1] != "outputs"}
    assert len(names) == len(first) - 1


# ----------------------------------------------------------------------------------------- refusals


class Tampered(InMemoryCheckpointStorage):
    """Gives its checkpoints as somebody with access to the disk has made them."""

    change: Callable[[CheckpointRecord], CheckpointRecord] | None = None

    async def load_record(self, checkpoint_id: str) -> CheckpointRecord | None:
        record = await super().load_record(checkpoint_id)
        return record if record is None or self.change is None else self.change(record)


async def tampered() -> tuple[Tampered, EncryptedStorage, dict[str, CheckpointRecord]]:
    inner = Tampered()
    storage = EncryptedStorage(inner, RING)
    for run in ("a", "b"):
        writer = Writer(storage, run)
        for number in range(3):
            large = json.dumps([f"{run}{n}" for n in range(2000 + number)]).encode()
            puts = {
                shared("x"): b"%d" % number,
                shared("y"): b"%d" % number,
                shared("large"): large,
            }
            await writer.commit(Changes(puts=puts, appends={OUTPUTS: [b"%d" % number, b"9"]}))
    await writer.move("b-000001")
    await writer.commit(Changes(appends={OUTPUTS: [b"2", b"9"]}))
    records = {}
    for wanted in await inner.list_checkpoint_ids():
        record = await inner.load_record(wanted)
        assert record is not None
        records[wanted] = record
    return inner, storage, records


def state_keys(record: CheckpointRecord) -> list[PartKey]:
    return [key for key in record.parts if key[0] == "shared_state"]


def block_keys(record: CheckpointRecord) -> list[PartKey]:
    return [key for key in record.parts if key[1:2] == ("~blocks",)]


def facts_key(record: CheckpointRecord) -> PartKey:
    return next(key for key in record.parts if key[1:2] == ("~lists",))


def with_parts(record: CheckpointRecord, parts: dict[PartKey, Part]) -> CheckpointRecord:
    return CheckpointRecord(record.header, {**record.parts, **parts})


def without(record: CheckpointRecord, *keys: PartKey) -> CheckpointRecord:
    return CheckpointRecord(
        record.header, {key: part for key, part in record.parts.items() if key not in keys}
    )


def elements(record: CheckpointRecord) -> list[bytes]:
    return list(record.parts[OUTPUTS])  # type: ignore[arg-type]


def flipped(part: Part, at: int) -> bytes:
    assert isinstance(part, bytes)
    letter = b"A" if part[at : at + 1] != b"A" else b"B"
    return part[:at] + letter + part[at + len(letter) :]


def tamperings(records: dict[str, CheckpointRecord]) -> dict[str, tuple[CheckpointRecord, str]]:
    """Each a change to checkpoint a-000002, and what is to be said of it."""
    now, before, other = records["a-000002"], records["a-000001"], records["b-000002"]
    x, y, _ = state_keys(now)
    other_x, _, _ = state_keys(other)
    moved, together = "altered, or moved", "do not belong together"
    items = elements(now)
    block = block_keys(now)[0]
    whole = now.parts[x]
    assert isinstance(whole, bytes)
    return {
        "a byte of a part": (with_parts(now, {x: flipped(now.parts[x], -9)}), moved),
        "a number in an envelope": (
            with_parts(now, {x: whole.replace(b".2.", b".1.")}),
            moved,
        ),
        "a cut part": (with_parts(now, {x: now.parts[x][:-5] + b'"'}), "altered"),
        "an empty envelope": (with_parts(now, {x: b'"s1."'}), "envelope"),
        "a part under another key": (with_parts(now, {x: now.parts[y], y: now.parts[x]}), moved),
        "a part of another run": (with_parts(now, {x: other.parts[other_x]}), moved),
        "a part of an earlier checkpoint": (with_parts(now, {x: before.parts[x]}), together),
        "all parts of an earlier checkpoint": (
            CheckpointRecord(now.header, before.parts),
            together,
        ),
        "the whole of an earlier checkpoint": (
            CheckpointRecord(replace(before.header, checkpoint_id="a-000002"), before.parts),
            "header has been altered",
        ),
        "a part less": (without(now, x), together),
        "a part in clear": (with_parts(now, {x: b"2"}), "is not encrypted"),
        "a part more in clear": (
            with_parts(now, {shared("evil"): b'"gotcha"'}),
            "is not encrypted",
        ),
        "a block less": (without(now, block), "missing"),
        "a block of another run": (
            with_parts(now, {block: other.parts[block_keys(other)[0]]}),
            moved,
        ),
        "a list in clear": (
            with_parts(now, {shared("evil"): ListPart([b"1"])}),
            "was not encrypted",
        ),
        "a list less": (without(now, OUTPUTS), together),
        "a list and its facts less": (without(now, OUTPUTS, facts_key(now)), together),
        "facts of an earlier list": (
            with_parts(
                now, {facts_key(now): before.parts[facts_key(before)], OUTPUTS: ListPart(items[:4])}
            ),
            together,
        ),
        "a shorter list": (
            with_parts(now, {OUTPUTS: ListPart(items[:-1])}),
            "list of 5 elements, but 6 were encrypted",
        ),
        "a longer list": (with_parts(now, {OUTPUTS: ListPart([*items, items[0]])}), "7 elements"),
        "a part nowhere": (with_parts(now, {(): now.parts[x]}), moved),
        "no header": (
            CheckpointRecord(replace(now.header, metadata={}), now.parts),
            "header is not encrypted",
        ),
        "another status": (
            CheckpointRecord(replace(now.header, status="IDLE"), now.parts),
            "header has been altered",
        ),
        "another iteration": (
            CheckpointRecord(replace(now.header, iteration_count=9), now.parts),
            "header has been altered",
        ),
    }


async def test_whatever_was_changed_is_refused() -> None:
    inner, storage, records = await tampered()
    assert await storage.load_record("a-000002") is not None
    for what, (record, complaint) in tamperings(records).items():

        def change(found: CheckpointRecord, changed: CheckpointRecord = record) -> CheckpointRecord:
            return changed if found.header.checkpoint_id == "a-000002" else found

        inner.change = change
        with pytest.raises(CorruptCheckpointError, match=complaint) as refused:
            await storage.load_record("a-000002")
        assert "'a-000002'" in str(refused.value) or "earlier" in what, what
        assert "before it is 'a-000001'" in str(refused.value), what
        (damage,) = await storage.verify("a")
        assert (damage.run_id, damage.checkpoint_id, damage.intact_ancestor) == (
            "a",
            "a-000002",
            "a-000001",
        ), what
        # Neither does a commit go on from there.
        writer = Writer(EncryptedStorage(inner, RING), "a")
        await storage.release("a", (await storage.get_run("a")).epoch)  # type: ignore[union-attr]
        await writer.take()
        with pytest.raises(CorruptCheckpointError):
            await writer.put(z=b"1")


async def test_lists_with_changed_elements_are_refused_when_they_are_read() -> None:
    inner, storage, records = await tampered()
    now, branch = records["b-000002"], records["b-000003"]
    items, others = elements(now), elements(branch)
    assert len(items) == len(others) == 6
    for changed, complaint in [
        ([*items[:1], items[2], items[1], *items[3:]], "element 1 .* moved"),
        ([*items[:2], *items[3:], items[2]], "element 2 .* moved"),
        ([*items[:4], *others[4:]], "another branch"),
        ([*items[:4], others[4], items[5]], "another branch"),
        ([*items[:5], b"9"], "element 5 .* not encrypted"),
        ([*items[:5], elements(records["a-000002"])[5]], "element 5 .* moved"),
    ]:
        inner.change = lambda found, changed=changed: with_parts(
            found, {OUTPUTS: ListPart(changed)}
        )
        record = await storage.load_record("b-000002")
        assert record is not None
        with pytest.raises(CorruptCheckpointError, match=f"'b-000002'.*{complaint}"):
            list(record.parts[OUTPUTS])
        assert "b-000002" in {damage.checkpoint_id for damage in await storage.verify("b")}


async def test_an_authentic_record_of_another_checkpoint_or_run_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inner = InMemoryCheckpointStorage()
    storage = EncryptedStorage(inner, RING)
    for run in ("a", "b"):
        writer = Writer(storage, run)
        await writer.put(n=b"1")
        await writer.put(n=b"2")
        await storage.release(run, 1)

    kept = inner._runs["a"]
    whole = kept.record
    for head in ("b-000001", "a", "a-", "a-b-000001", "a-000000-000001"):
        kept.record = replace(whole, head=head)
        with pytest.raises(
            CorruptCheckpointError, match=f"head '{head}' is not a checkpoint of this run"
        ):
            await storage.get_run("a")
        assert "record of run 'a'" in [damage.what for damage in await storage.verify("a")]
    kept.record = whole

    load_record, get_run = inner.load_record, inner.get_run
    for other in ("a-000000", "b-000001"):
        monkeypatch.setattr(inner, "load_record", lambda _, other=other: load_record(other))
        with pytest.raises(
            CorruptCheckpointError, match=f"'a-000001' cannot be trusted: in its place is '{other}'"
        ):
            await storage.load_record("a-000001")
        fresh = Writer(EncryptedStorage(inner, RING), "a")
        await fresh.take()
        with pytest.raises(CorruptCheckpointError, match="in its place is"):
            await fresh.put(m=b"1")
        await storage.release("a", fresh.epoch)
    monkeypatch.setattr(inner, "get_run", lambda _: get_run("b"))
    with pytest.raises(
        CorruptCheckpointError, match="record of run 'a' cannot be trusted: it is that of 'b'"
    ):
        await storage.get_run("a")


async def test_a_parent_may_change_because_pruning_changes_it() -> None:
    storage = EncryptedStorage(InMemoryCheckpointStorage(), RING)
    writer = Writer(storage)
    for number in range(4):
        head = await writer.put(n=b"%d" % number)
    await storage.prune("run", RetentionPolicy(keep_last=1))
    assert await storage.verify() == []
    assert await content_of(storage, head) == {shared("n"): b"3"}


async def test_journal_and_inbox_are_refused_where_they_do_not_belong() -> None:
    inner = InMemoryCheckpointStorage()
    storage = EncryptedStorage(inner, RING)
    ask = Changes(puts={("requests", "p"): b"{}", ("requests", "q"): b"{}"})
    heads = [await Writer(storage, run).commit(ask) for run in ("a", "b")]
    await storage.append_journal("a", 1, heads[0], [b"1", b"2", b"3"])
    await storage.add_answers("a", [("p", b'"yes"')])
    sealed = await inner.read_journal("a", heads[0])
    kept = inner._runs["a"]

    for records in (sealed[1:], [sealed[1], sealed[0], sealed[2]], [*sealed, sealed[0]], [b"1"]):
        kept.journal[:] = records
        with pytest.raises(CorruptCheckpointError, match="journal of run 'a'"):
            await storage.read_journal("a", heads[0])
    kept.journal[:] = sealed[:2]  # as a crash leaves it
    assert await storage.read_journal("a", heads[0]) == [b"1", b"2"]
    inner._runs["b"].journal[:] = sealed
    with pytest.raises(CorruptCheckpointError, match="moved"):
        await storage.read_journal("b", heads[1])

    (entry,) = await inner.read_inbox("a")
    for wrong in (replace(entry, request_id="q"), replace(entry, value=b'"no"')):
        kept.inbox[:] = [wrong]
        with pytest.raises(CorruptCheckpointError, match="inbox of run 'a'"):
            await storage.read_inbox("a")
    assert len(await storage.verify("a")) == 1


async def test_a_runs_record_is_refused_when_it_was_changed_and_still_listed() -> None:
    inner = InMemoryCheckpointStorage()
    storage = EncryptedStorage(inner, RING)
    for run in ("a", "b"):
        await Writer(storage, run).commit(metadata={"who": run}, tags=("t",), fingerprint="f")
        await storage.release(run, 1, error=f"oops {run}")
    before = await storage.get_run("a")
    assert before is not None
    assert (before.error, before.fingerprint) == ("oops a", "f")
    kept = inner._runs["a"]
    whole, other = kept.record, inner._runs["b"].record
    for wrong in (
        replace(whole, error=other.error),
        replace(whole, error="in clear"),
        replace(whole, metadata=other.metadata),
        replace(whole, metadata={}),
        replace(whole, fingerprint="f"),
        replace(whole, workflow_id="another"),
    ):
        kept.record = wrong
        with pytest.raises(CorruptCheckpointError, match="record of run 'a'"):
            await storage.get_run("a")
        with pytest.warns(CorruptCheckpointWarning, match="record of run 'a'"):
            listed = {run.run_id: run for run in await storage.list_runs()}
        assert (listed["a"].metadata, listed["a"].tags) == ({}, ())
        assert listed["b"].metadata == {"who": "b"}


# ----------------------------------------------------------------------------------- keys, rotation


async def test_without_the_key_it_says_which_one() -> None:
    inner = InMemoryCheckpointStorage()
    head = await Writer(EncryptedStorage(inner, RING)).put(n=b"1")

    missing = EncryptedStorage(inner, Keyring({"two": TWO}, "two"))
    wrong = EncryptedStorage(inner, Keyring({"one": TWO}, "one"))
    for storage, complaint in ((missing, "key 'one' is needed"), (wrong, "'one' is not the key")):
        for read in (
            storage.load_record(head),
            storage.get_run("run"),
            storage.load_checkpoint(head),
        ):
            with pytest.raises(DecryptionError, match=complaint) as refused:
                await read
            assert TWO.hex() not in str(refused.value)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CorruptCheckpointWarning)
            assert await storage.list_checkpoints() == []
            assert len(await storage.list_runs()) == 1


async def test_a_process_without_the_key_does_not_keep_a_run_from_others() -> None:
    inner = InMemoryCheckpointStorage()
    storage = EncryptedStorage(inner, RING)
    writer = Writer(storage)
    await writer.commit(Changes(puts={shared("n"): b"1"}), metadata={"m": 1})
    await storage.release("run", 1, error="oops")
    stranger = Writer(EncryptedStorage(inner, Keyring({"two": TWO}, "two")), "run")
    with pytest.raises(DecryptionError, match="key 'one' is needed"):
        await stranger.take()

    run = await storage.get_run("run")
    assert run is not None
    assert (run.lease, run.error, run.metadata) == (None, "oops", {"m": 1})


async def test_rotation_keeps_old_runs_readable_and_seals_with_the_new_key(tmp_path: Path) -> None:
    inner = InMemoryCheckpointStorage()
    old = EncryptedStorage(inner, RING)
    writer = Writer(old)
    large = json.dumps(list(range(3000))).encode()
    await writer.commit(
        Changes(puts={shared("k"): b"1", shared("large"): large}), tags=("t",), metadata={"m": 1}
    )
    assert await old.key_ids("run") == ["one"]

    new = EncryptedStorage(inner, ROTATED)
    await writer.take(new)
    head = await writer.commit(Changes(puts={shared("k"): b"2"}, appends={OUTPUTS: [b"1"]}))
    await Writer(new, "fresh").commit(Changes(puts={shared("k"): b"1"}), tags=("t",))

    assert await new.key_ids("run") == ["one", "two"]
    assert await new.key_ids("fresh") == ["two"]
    assert await content_of(new, head) == {
        shared("k"): b"2",
        shared("large"): large,
        OUTPUTS: [b"1"],
    }
    assert {run.run_id for run in await new.list_runs(tag="t")} == {"run", "fresh"}
    with pytest.raises(DecryptionError, match="'two'"):
        await old.load_record(head)
    with pytest.raises(RunNotFoundError):
        await new.key_ids("nowhere")

    # Copied, a run needs only the new key.
    await new.release("run", writer.epoch)
    await export_run(new, "run", tmp_path / "clear")
    await new.delete_run("run")
    await import_run(new, tmp_path / "clear")
    assert await new.key_ids("run") == ["two"]
    only_new = EncryptedStorage(inner, Keyring({"two": TWO}, "two"))
    assert await content_of(only_new, head) == {
        shared("k"): b"2",
        shared("large"): large,
        OUTPUTS: [b"1"],
    }
    assert await only_new.verify() == []


async def test_a_sealed_export_moves_to_another_storage(tmp_path: Path) -> None:
    storage = EncryptedStorage(InMemoryCheckpointStorage(), RING)
    writer = Writer(storage)
    ids = [await writer.put(n=json.dumps(marked(str(number))).encode()) for number in range(3)]
    await writer.move(ids[1])
    ids.append(await writer.commit(Changes(appends={OUTPUTS: [b"1"]})))
    await storage.delete_checkpoint(ids[0])
    await storage.release("run", 1)
    await export_run(storage.storage, "run", tmp_path / "sealed")  # type: ignore[arg-type]
    assert MARK.encode() not in (tmp_path / "sealed").read_bytes()

    other = EncryptedStorage(SqliteCheckpointStorage(tmp_path / "runs.db"), RING)
    await import_run(other.storage, tmp_path / "sealed")  # type: ignore[arg-type]
    for wanted in ids[1:]:
        assert plain(await other.load_record(wanted)) == plain(await storage.load_record(wanted))
    assert await other.verify() == []
    await import_run(other.storage, tmp_path / "sealed", run_id="renamed")  # type: ignore[arg-type]
    with pytest.raises(CorruptCheckpointError, match="moved here from another run"):
        await other.load_record("renamed-000002")
    await other.aclose()


# ---------------------------------------------------------------------------------- stores in clear


async def test_a_store_in_clear_is_refused_and_can_be_moved_over() -> None:
    inner = InMemoryCheckpointStorage()
    writer = Writer(inner)
    first = await writer.commit(
        Changes(
            puts={shared("b"): b"1", shared("a"): b"2", ("requests", "q"): b"{}"},
            appends={OUTPUTS: [b"1"]},
        ),
        metadata={"m": 1},
        tags=("t",),
        fingerprint="f",
    )
    await inner.append_journal("run", 1, first, [b"1"])
    await inner.add_answers("run", [("q", b"1")])

    strict = EncryptedStorage(inner, RING)
    for read in (
        strict.load_record(first),
        strict.get_run("run"),
        strict.read_journal("run", first),
        strict.read_inbox("run"),
    ):
        with pytest.raises(CorruptCheckpointError, match=r"not encrypted.*strict=False"):
            await read

    moving = EncryptedStorage(inner, RING, strict=False)
    assert (await moving.get_run("run")) == (await inner.get_run("run"))
    assert await moving.read_journal("run", first) == [b"1"]
    assert [entry.value for entry in await moving.read_inbox("run")] == [b"1"]
    assert [run.run_id for run in await moving.list_runs(tag="t")] == ["run"]
    writer.storage = moving
    second = await writer.commit(Changes(puts={shared("b"): b"3"}, appends={OUTPUTS: [b"2"]}))
    third = await writer.put(c=b"4")

    expected = {
        shared("b"): b"3",
        shared("a"): b"2",
        ("requests", "q"): b"{}",
        OUTPUTS: [b"1", b"2"],
    }
    for storage in (strict, moving):
        assert await content_of(storage, second) == expected
        assert list((await content_of(storage, third)).items())[:2] == [
            (shared("b"), b"3"),
            (shared("a"), b"2"),
        ]
    assert await moving.verify() == []
    run = await moving.get_run("run")
    assert run is not None
    assert run.requests == ("q",)


# ---------------------------------------------------------------------------------------- histories


async def test_any_history_of_large_values_and_lists_reads_as_it_was_written() -> None:
    chance = random.Random(7)
    for _ in range(6):
        inner = InMemoryCheckpointStorage()
        storage = EncryptedStorage(inner, RING)
        writer = Writer(storage)
        written: list[dict[PartKey, Any]] = []
        names = [
            shared("a"),
            shared("b"),
            ("scopes", "s", "n"),
            ("sub_scopes", "p#1", "s", "n"),
            OUTPUTS,
        ]
        for step in range(12):
            now = dict(written[-1]) if written else {}
            if written and chance.random() < 0.3:
                back = chance.randrange(len(written))
                await writer.move(f"run-{back:06d}")
                now = dict(written[back])
            if chance.random() < 0.2:  # another process goes on
                storage = EncryptedStorage(inner, RING)
                writer.storage = storage
            changes = Changes()
            for name in names:
                dice = chance.random()
                if dice < 0.15:
                    changes.deletes.append(name)
                    now.pop(name, None)
                if 0.1 < dice < 0.5 and name != OUTPUTS:
                    value = [*range(chance.choice([1, 900, 3000])), step]
                    changes.puts[name] = json.dumps(value, separators=(",", ":")).encode()
                    now[name] = changes.puts[name]
                if dice > 0.75 or 0.4 < dice < 0.45:
                    items = [b"%d" % n for n in range(chance.randrange(3))]
                    changes.appends[name] = items
                    old = now.get(name, [])
                    now[name] = [
                        *(ListPart.from_json(old) if isinstance(old, bytes) else old),
                        *items,
                    ]
            await writer.commit(changes)
            written.append(now)
        for number, expected in enumerate(written):
            assert await content_of(storage, f"run-{number:06d}") == expected
        assert await storage.verify() == []


async def test_blocks_that_nothing_needs_are_gone_with_the_commit() -> None:
    inner = InMemoryCheckpointStorage()
    writer = Writer(EncryptedStorage(inner, RING))
    value = json.dumps(list(range(5000)), separators=(",", ":")).encode()
    first = await writer.put(a=value, b=value)
    second = await writer.put(a=b"1")
    third = await writer.commit(Changes(deletes=[shared("b")]))

    counts = [
        len(block_keys(CheckpointRecord(None, await sealed_of(inner, at))))  # type: ignore[arg-type]
        for at in (first, second, third)
    ]
    assert counts[0] == counts[1] > 10
    assert counts[2] == 0


async def test_a_commit_whose_reply_was_lost_is_made_again() -> None:
    inner = InMemoryCheckpointStorage()
    storage = EncryptedStorage(inner, RING)
    writer = Writer(storage)
    await writer.put(n=b"1")
    commit = writer.next(Changes(puts={shared("n"): b"2"}, appends={OUTPUTS: [b"1"]}))
    await storage.commit(commit)
    await storage.commit(commit)
    writer.head, writer.sequence = commit.header.checkpoint_id, commit.header.sequence
    head = await writer.commit(Changes(appends={OUTPUTS: [b"2"]}))

    assert await content_of(storage, head) == {shared("n"): b"2", OUTPUTS: [b"1", b"2"]}
    assert await storage.verify() == []


async def test_a_run_that_was_made_anew_elsewhere_is_not_confused_with_the_old_one() -> None:
    inner = InMemoryCheckpointStorage()
    here, there = EncryptedStorage(inner, RING), EncryptedStorage(inner, RING)
    await Writer(here).put(n=b"1")
    await there.delete_run("run")
    again = Writer(there)
    await again.put(m=b"2")
    await there.release("run", 1)
    again.storage = here
    await again.take()

    assert await content_of(here, await again.put(o=b"3")) == {shared("m"): b"2", shared("o"): b"3"}


# -------------------------------------------------------------------------------------------- costs


def stored_bytes(path: Path) -> int:
    """What the rows of a database hold."""
    with sqlite3.connect(path) as db:
        tables = [
            name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        total = 0
        for table in tables:
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            lengths = " + ".join(f"coalesce(length({column}), 0)" for column in columns)
            total += db.execute(f"SELECT coalesce(sum({lengths}), 0) FROM {table}").fetchone()[0]
    db.close()
    return total


async def bytes_per_step(folder: Path, *, sealed: bool, inside: bool, steps: int = 40) -> float:
    chance = random.Random(3)
    inner = SqliteCheckpointStorage(folder / f"{sealed}{inside}.db")
    storage: DurableStorage = EncryptedStorage(inner, RING) if sealed else inner
    writer = Writer(storage)
    large = {f"key {number}": chance.randbytes(50).hex() for number in range(9000)}
    await writer.put(
        large=json.dumps(large, separators=(",", ":")).encode(), small=b'"%s"' % (b"x" * 1000)
    )
    before = stored_bytes(inner.path)
    for _ in range(steps):
        if inside:
            large[f"key {chance.randrange(9000)}"] = chance.randbytes(50).hex()
            await writer.put(large=json.dumps(large, separators=(",", ":")).encode())
        else:
            await writer.put(small=b'"%s"' % chance.randbytes(500).hex().encode())
    after = stored_bytes(inner.path)
    await storage.aclose()
    return (after - before) / steps


@pytest.mark.parametrize(("inside", "factor"), [(False, 2.0), (True, 2.5)])
async def test_a_small_change_costs_little_also_when_it_is_sealed(
    tmp_path: Path, inside: bool, factor: float
) -> None:
    plainly = await bytes_per_step(tmp_path, sealed=False, inside=inside)
    sealed = await bytes_per_step(tmp_path, sealed=True, inside=inside)

    print(f"inside={inside}: {plainly:.0f} bytes a step in clear, {sealed:.0f} sealed")
    assert sealed < factor * plainly + 500


def test_many_runs_share_a_storage_from_many_loops() -> None:
    storage = EncryptedStorage(InMemoryCheckpointStorage(), RING)

    async def advance(name: str) -> None:
        writer = Writer(storage, name)
        for number in range(5):
            await writer.commit(
                Changes(puts={shared("n"): b"%d" % number}, appends={OUTPUTS: [b"%d" % number]})
            )

    for name in ("a", "b"):
        asyncio.run(advance(name))
    assert asyncio.run(storage.verify()) == []
