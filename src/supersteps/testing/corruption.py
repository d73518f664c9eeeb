"""Contract: damaged data."""

from __future__ import annotations

import warnings

import pytest

from supersteps.errors import CorruptCheckpointError, CorruptCheckpointWarning
from supersteps.testing.subject import Subject
from supersteps.testing.writer import Writer, content_of, record_of, shared


class Corruption(Subject):
    """Damage is detected and named, and the rest stays usable."""

    async def _damage_the_head(self) -> list[str]:
        self.needs("corruption")
        writer = Writer(self.storage)
        ids = [await writer.put(n=b'"%d%s"' % (n, b"x" * 500)) for n in range(3)]
        await Writer(self.storage, "other").put(n=b"1")
        await self.close()
        self.damage(self.folder, ids[2])
        self.storage = self.reopen()
        return ids

    async def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_is_offered(self) -> None:
        ids = await self._damage_the_head()

        with pytest.raises(
            CorruptCheckpointError, match=f"(?i)nearest intact checkpoint before it is '{ids[1]}'"
        ):
            await content_of(self.storage, ids[2])
        assert await content_of(self.storage, ids[1]) == {shared("n"): b'"1%s"' % (b"x" * 500)}

    async def test_damage_does_not_hide_what_is_intact(self) -> None:
        ids = await self._damage_the_head()

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CorruptCheckpointWarning)
            listed = await self.storage.list_checkpoints()
        intact = {c.checkpoint_id: c for c in listed if c.checkpoint_id != ids[2]}
        assert set(intact) == {ids[0], ids[1], "other-000000"}
        assert intact["other-000000"].shared_state == {"n": 1}

    async def test_verify_names_the_damage(self) -> None:
        ids = await self._damage_the_head()
        storage = self.managed()

        for found in (await storage.verify(), await storage.verify("run")):
            (damage,) = [each for each in found if each.checkpoint_id == ids[2]]
            assert (damage.run_id, damage.intact_ancestor) == ("run", ids[1])
            assert damage.what
            assert damage.problem
        assert await storage.verify("other") == []

    async def test_a_run_goes_on_from_before_the_damage(self) -> None:
        ids = await self._damage_the_head()
        writer = Writer(self.storage)
        await writer.take()

        await writer.move(ids[1])

        assert await content_of(self.storage, await writer.put(m=b"1")) == {
            shared("n"): b'"1%s"' % (b"x" * 500),
            shared("m"): b"1",
        }

    async def test_a_damaged_checkpoint_can_be_deleted(self) -> None:
        ids = await self._damage_the_head()

        assert await self.storage.delete_checkpoint(ids[2])

        assert (await record_of(self.storage)).head == ids[1]
        assert await self.managed().verify() == []
