"""Encrypted records after somebody without the keys has changed them, checksums of the files
included.
"""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import warnings
from pathlib import Path

from supersteps import FileCheckpointStorage
from supersteps.encryption.storage import EncryptedStorage, Keyring
from supersteps.storage.files.document import (
    _CHECKSUM,
    _CHECKSUM_LENGTH,
    _digest,
    checked_line,
    checksummed_line,
)
from tests.reliability import workload
from tests.reliability.guarding import Trial, unwatched
from tests.reliability.hostile_files import Facts, begin, hurry, look
from tests.reliability.judging import silent
from tests.reliability.mutating import mutate

_TEXT = re.compile(rb'"[A-Za-z0-9_+/=.:-]{24,}"')
"""What is sealed stands in the files as a long text."""


def prepare(folder: Path) -> Trial:
    hurry()
    return Sealed(folder).trial


class Sealed:
    """A stored run whose values are sealed."""

    def __init__(self, folder: Path) -> None:
        self.keys = Keyring({"k": bytes(32)}, "k")
        self.place = folder / "place"
        with silent():
            asyncio.run(self._make())
            self.intact, problems = asyncio.run(self._look())
        assert not problems, problems
        self.files = {
            p.relative_to(self.place).as_posix(): p.read_bytes()
            for p in self.place.rglob("*.json*")
        }
        self.donors = [text for data in self.files.values() for text in _TEXT.findall(data)]

    def _storage(self) -> EncryptedStorage:
        return EncryptedStorage(FileCheckpointStorage(self.place), self.keys)

    async def _make(self) -> None:
        async with self._storage() as storage:
            await begin(storage)

    async def _look(self) -> tuple[Facts, list[str]]:
        async with self._storage() as storage:
            return await look(storage)

    def trial(self, dice: random.Random) -> tuple[str, list[str]]:
        with unwatched():
            shutil.rmtree(self.place, ignore_errors=True)
            (self.place / "runs" / workload.RUN).mkdir(parents=True)
            for name, data in self.files.items():
                (self.place / name).write_bytes(data)
            name = dice.choice([*self.files])
            way, data = self._spoil(dice, self.files[name])
            (self.place / name).write_bytes(data)
        with warnings.catch_warnings(), silent():
            warnings.simplefilter("ignore")
            facts, problems = asyncio.run(self._look())
        for question, value in facts.items():
            if question in ("journal", "inbox"):
                known = self.intact[question]
                assert isinstance(value, list)
                assert isinstance(known, list)
                if question == "inbox":  # when an answer came is in clear, too
                    value, known = (
                        [(item.request_id, item.value) for item in items]
                        for items in (value, known)
                    )
                if not all(item in known for item in value):
                    problems.append(f"{question} is now {value!r:.300}")
            elif question.startswith("record") and value is not None:
                # Numbers and times are in clear; what is sealed comes back as it was, or not at
                # all.
                before = self.intact[question]
                assert isinstance(value, tuple)
                assert isinstance(before, tuple)
                if value[1] != before[1] or value[0].metadata != before[0].metadata:
                    problems.append(f"{question} is now {value!r:.300}")
        return f"{name}, {way}", problems

    def _spoil(self, dice: random.Random, data: bytes) -> tuple[str, bytes]:
        """Change a sealed text, or anything, and write the checksum that fits."""
        body = data[:-_CHECKSUM_LENGTH] if _CHECKSUM[0] in data else data
        texts = list(_TEXT.finditer(body))
        if texts and dice.random() < 0.7:
            text = dice.choice(texts)
            if dice.random() < 0.5:
                way, new = "another's text", dice.choice(self.donors)
            else:
                way, new = mutate(dice, text[0], self.donors)
            body = body[: text.start()] + new + body[text.end() :]
        else:
            way, body = mutate(dice, body, [*self.files.values()])
        if body is not data and _CHECKSUM[0] in data:
            return way, body + _CHECKSUM[0] + _digest(body) + _CHECKSUM[1]
        lines = [line for line in body.split(b"\n") if line]
        entries = [checked_line(line) or line[55:-1] for line in lines]
        return way, b"".join(map(checksummed_line, entries))
