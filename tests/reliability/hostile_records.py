"""Spoilt bytes through everything that decodes stored data."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import random
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from hashlib import blake2b
from itertools import chain
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from supersteps import (
    InMemoryCheckpointStorage,
    RawValue,
    SuperstepsError,
    WorkflowCheckpoint,
    export_run,
)
from supersteps.checkpoint import content
from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.inbox import json_entry, read_entry
from supersteps.checkpoint.parts import ListPart, Part, PartKey
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord
from supersteps.checkpoint.sections.graph import read_graph
from supersteps.checkpoint.sections.outputs import load_outputs
from supersteps.checkpoint.stored import as_json
from supersteps.checkpoint.values import Sealer
from supersteps.engine.journal import Note, Recorded
from supersteps.engine.state import State
from supersteps.errors import CheckpointDecodeError, CheckpointEncodeError
from supersteps.storage._run_file import read_run_file
from supersteps.typing.schema import from_json
from tests.reliability import workload
from tests.reliability.guarding import Trial, described
from tests.reliability.judging import silent
from tests.reliability.mutating import mutate


class Colour(enum.Enum):
    RED = 1


@dataclass
class Letter:
    text: str
    pages: list[int] = field(default_factory=list)
    colour: Colour = Colour.RED


class Point(NamedTuple):
    x: int
    y: float = 0.0


class Packet(msgspec.Struct):
    body: bytes
    letter: Letter | None = None


class Token:
    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Token) and other.text == self.text

    __hash__ = None  # type: ignore[assignment]  # like many classes


VALUES: tuple[Any, ...] = (
    {"plain": [1, 2.5, None, True, "text", {"deep": [[], {}]}], "big": 2**60},
    {(1, "a"): {1, 2}, None: frozenset({b"x"})},
    OrderedDict(a=1),
    Counter("hello"),
    deque([1, (2, 3)], maxlen=5),
    [
        2**70,
        float("inf"),
        float("nan"),
        complex(1, -0.0),
        Fraction(2, 3),
        Decimal("1.50"),
        10**4400,
    ],
    ["\ud800 lone", b"bytes", bytearray(b"array"), UUID(int=5)],
    [
        date(2026, 1, 2),
        time(3, 4, tzinfo=UTC),
        timedelta(1, 2, 3),
        timezone(timedelta(hours=1), "X"),
    ],
    [datetime(2026, 3, 29, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")), datetime(1, 1, 1)],
    [PurePosixPath("/a/b"), PureWindowsPath("c:/x"), Path("relative"), msgspec.UNSET],
    [Letter("hi", [1]), Point(1, 2.0), Packet(b"x", Letter("in")), Colour.RED, Token("t")],
    {"$": "a dollar"},
)
"""Every tag, at least once."""

HOME = frozenset(
    [
        "builtins",
        "collections",
        "decimal",
        "fractions",
        "datetime",
        "zoneinfo",
        "uuid",
        "pathlib",
        "msgspec",
        "msgspec._core",
        "supersteps.checkpoint.codec.raw",
        "tests.reliability.hostile_records",
    ]
)
"""Where the classes of decoded values may come from."""


def codec() -> Codec:
    made = Codec(types=[Letter, Point, Packet, Colour])
    made.register(Token, lambda token: token.text, Token)
    return made


def prepare(folder: Path) -> Trial:
    return Decoders(folder).trial


class Decoders:
    """Everything that decodes, with intact data for each."""

    def __init__(self, folder: Path) -> None:
        self.codec = codec()
        self.file = folder / "run.jsonl"
        self.records: list[CheckpointRecord] = []
        with silent():
            asyncio.run(self._gather())
        self.parts = [(record, key) for record in self.records for key in record.parts]
        self.values = [self.codec.encode(value) for value in VALUES]
        self.dicts = [
            json.dumps(self._checkpoint(record).to_dict()).encode() for record in self.records[-4:]
        ]
        self.exported = self.file.read_bytes()
        self.journal = [
            json.dumps(
                {"executor_id": "a", "key": "m0", "sends": [[{"a": 1}, None]], "outputs": [1],
                 "failures": ["x"], "writes": [["shared", "k", True, False, 1]],
                 "delayed": [{"data": 1, "reply": {"request_id": "r", "answer": 1},
                              "target_id": None, "due": "2026-01-01T00:00:00+00:00"}],
                 "asks": [{"request_id": "r", "source_executor_id": "a", "data": 1,
                           "timestamp": "x"}]}
            ).encode(),
            *(msgspec.json.encode(Note(note, "a", "m0")) for note in ("started", "void", "graph")),
            msgspec.json.encode(Note("sleep", "a", "m0", 1, "2026-01-01T00:00:00+00:00")),
        ]  # fmt: skip
        self.inbox = [
            json_entry({"a": [1, None]}),
            self.codec.encode(VALUES[0]),
            self.codec.encode((1, {2})),
        ]
        self.donors = [
            *self.values,
            *self.journal,
            *(as_json(record.parts[key]) for record, key in self.parts),
        ]
        self.ways: tuple[Callable[[random.Random], tuple[str, list[str]]], ...] = (
            *(self.value, self.value, self.value, self.part, self.part),
            *(self.whole, self.recorded, self.entry, self.exported_run),
        )
        self.trial(random.Random(0))

    async def _gather(self) -> None:
        storage = InMemoryCheckpointStorage()
        await workload.drive(storage)
        await export_run(storage, workload.RUN, self.file)
        for header in await storage.list_headers(workload.RUN):
            record = await storage.load_record(header.checkpoint_id)
            assert record is not None
            self.records.append(record)
        last = self.records[-1]
        message = b'{"data":{"$":"tuple","v":[1]},"source_ids":["a"],"target_ids":["b"]}'
        parts: dict[PartKey, Part] = {
            **last.parts,
            ("messages",): b"[%s]" % message,
            ("timers", "t1"): b'{"due":"2026-01-01T00:00:00+00:00","message":%s,"attempt":2}'
            % message,
            ("fan_in", "g"): b'{"a":[1,{"$":"set","v":[1]}]}',
            ("sub_workflows", "review#3"): b'{"workflow_id":"w","node":"review","started":3}',
            ("sub_state", "review#3", "k"): b"1",
            ("sub_scopes", "review#3", "s", "k"): b"[1]",
            ("replies", "r9"): b'{"$":"tuple","v":[]}',
            ("intercepted", "r9"): as_json(
                next(r.parts[k] for r in self.records for k in r.parts if k[0] == "requests")
            ),
        }
        self.records.append(CheckpointRecord(last.header, parts))

    def trial(self, dice: random.Random) -> tuple[str, list[str]]:
        return dice.choice(self.ways)(dice)

    def value(self, dice: random.Random) -> tuple[str, list[str]]:
        """A value, as the codec decodes it; what it returns can be saved and restored again."""
        way, data = mutate(dice, dice.choice(self.values), self.donors)
        problems: list[str] = []
        for raw in (False, True):
            try:
                value = self.codec.decode(data, raw=raw)
                foreign = {type(item) for item in walk(value)} - {type(None)}
                problems += [
                    f"a {kind} was made" for kind in foreign if kind.__module__ not in HOME
                ]
                try:
                    again = self.codec.encode(value)
                except CheckpointEncodeError as error:
                    if "nested" not in str(error):  # reading goes deeper than writing
                        problems.append(described(error))
                else:
                    if self.codec.encode(self.codec.decode(again, raw=raw)) != again:
                        problems.append("it does not come back")
            except CheckpointDecodeError:
                pass
            except Exception as error:
                problems.append(described(error))
        return f"value, {way}, {data[:200]!r}", problems

    def part(self, dice: random.Random) -> tuple[str, list[str]]:
        """One part of a checkpoint, as people look at it and as a run is resumed from it."""
        record, key = dice.choice(self.parts)
        way, data = mutate(dice, as_json(record.parts[key]), self.donors)
        parts: dict[PartKey, Part] = dict(record.parts)
        problems: list[str] = []
        if isinstance(parts[key], ListPart):
            try:
                parts[key] = ListPart.from_json(data)
            except ValueError:  # what it says it raises; the storages turn it into damage
                return f"part {key}, {way}", problems
        else:
            parts[key] = data
        problems += self._look(
            lambda: self._checkpoint(CheckpointRecord(record.header, parts)), record
        )
        sealer = Sealer(self.codec, encoding=True)
        problems += attempt(lambda: State.load(parts, sealer))
        problems += attempt(lambda: read_graph(parts.get(("graph",))))
        problems += attempt(lambda: load_outputs(parts.get(("outputs",)), sealer))
        return f"part {key}, {way}, {data[:200]!r}", problems

    def _checkpoint(self, record: CheckpointRecord) -> WorkflowCheckpoint:
        return WorkflowCheckpoint.from_record(record.header, lambda: record.parts, self.codec)

    def _look(self, make: Callable[[], WorkflowCheckpoint], intact: CheckpointRecord) -> list[str]:
        """Look at a checkpoint in every way there is."""
        before = self._checkpoint(intact)
        problems = []
        for name in content.NAMES:
            problems += attempt(lambda name=name: getattr(make(), name))  # type: ignore[misc]
        problems += attempt(lambda: str(before.diff(make())))
        problems += attempt(lambda: make().document())
        problems += attempt(lambda: make().to_dict())

        def touched() -> None:
            checkpoint = make()
            checkpoint.shared_state["new"] = 1
            checkpoint.to_record(self.codec)

        return list(dict.fromkeys([*problems, *attempt(touched)]))

    def whole(self, dice: random.Random) -> tuple[str, list[str]]:
        """A checkpoint as one document, and its header."""
        way, data = mutate(dice, dice.choice(self.dicts), self.donors)
        try:
            described_as = msgspec.json.decode(data, type=dict[str, Any])
            checkpoint = WorkflowCheckpoint.from_dict(described_as)
        except ValueError:  # SuperstepsErrors for data are, too
            return f"dict, {way}", []
        except RecursionError:  # it is the caller who parses
            return f"dict, {way}", []
        header = attempt(
            lambda: msgspec.json.decode(
                msgspec.json.encode(checkpoint.to_header()), type=CheckpointHeader
            )
        )
        return f"dict, {way}, {data[:200]!r}", [
            *header,
            *self._look(lambda: checkpoint, self.records[0]),
        ]

    def recorded(self, dice: random.Random) -> tuple[str, list[str]]:
        """Records of a journal."""
        way, data = mutate(dice, dice.choice(self.journal), self.donors)
        sealer = Sealer(self.codec, encoding=True)

        def read() -> None:
            found = Recorded.read([self.journal[0], data, self.journal[0]], sealer)
            for effects in found.finished.values():
                for sealed in chain(
                    effects.outputs, effects.failures, (send.payload for send in effects.sends)
                ):
                    sealed.open()

        return f"journal, {way}, {data[:200]!r}", attempt(read)

    def entry(self, dice: random.Random) -> tuple[str, list[str]]:
        """An entry of an inbox."""
        way, data = mutate(dice, dice.choice(self.inbox), self.donors)

        def read() -> None:
            kind, value = read_entry(data)
            if kind == "json":
                with contextlib.suppress(
                    ValueError, RecursionError
                ):  # such an answer is passed over
                    from_json(msgspec.json.decode(value), dict[str, list[int | None]])
            else:
                self.codec.decode(value)

        return f"inbox, {way}, {data[:200]!r}", attempt(read)

    def exported_run(self, dice: random.Random) -> tuple[str, list[str]]:
        """An exported run; now and then with a matching checksum."""
        lines = self.exported.splitlines(keepends=True)
        if dice.random() < 0.5:
            way, data = mutate(dice, self.exported, self.donors)
            is_sealed = False
        else:
            at = dice.randrange(len(lines) - 1)
            way, line = mutate(dice, lines[at].rstrip(b"\n"), self.donors)
            body = b"".join((*lines[:at], line, b"\n", *lines[at + 1 : -1]))
            data = (
                body + b'{"checksum":"%s"}\n' % blake2b(body, digest_size=16).hexdigest().encode()
            )
            is_sealed = True
        self.file.write_bytes(data)

        def read() -> None:
            found = read_run_file(self.file)
            if not is_sealed and data.strip() != self.exported.strip():
                raise AssertionError(f"a changed file was taken for intact: {found!r:.300}")

        return f"run file, {way}, {'sealed' if is_sealed else 'plain'}, {data[:200]!r}", attempt(
            read
        )


def attempt(read: Callable[[], object]) -> list[str]:
    """Read something; return what was wrong, apart from an error that says what it is."""
    try:
        read()
    except SuperstepsError:
        return []
    except Exception as error:
        return [described(error)]
    return []


def walk(value: Any) -> Iterator[Any]:
    """Give a value and what it consists of."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        yield item
        if isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple, set, frozenset, deque)):
            waiting += item
        elif isinstance(item, Letter):
            waiting += vars(item).values()
        elif isinstance(item, Packet):
            waiting += (item.body, item.letter)
        elif isinstance(item, RawValue):
            try:
                waiting.append(item.value)
            except CheckpointDecodeError:
                continue
