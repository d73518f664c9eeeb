import time

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.parts import ListPart
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.storage.memory import InMemoryCheckpointStorage
from tests.contract.support import Writer, parts_of, shared


async def test_checkpoints_share_what_did_not_change() -> None:
    storage = InMemoryCheckpointStorage()
    writer = Writer(storage)
    first = await writer.commit(
        Changes(puts={shared("big"): b'"%s"' % (b"x" * 1000)}, appends={OUTPUTS: [b"0"]})
    )
    second = await writer.commit(Changes(puts={shared("n"): b"1"}, appends={OUTPUTS: [b"1"]}))

    one, two = await parts_of(storage, first), await parts_of(storage, second)
    assert one[shared("big")] is two[shared("big")]
    outputs = [parts[OUTPUTS] for parts in (one, two)]
    assert all(isinstance(part, ListPart) for part in outputs)
    assert outputs[0]._items is outputs[1]._items  # type: ignore[union-attr]


async def test_it_uses_the_codec_and_the_clock_that_it_is_given() -> None:
    codec = Codec()
    assert InMemoryCheckpointStorage(codec).codec is codec
    storage = InMemoryCheckpointStorage()
    await Writer(storage).commit()
    run = await storage.get_run("run")
    assert run is not None
    assert run.lease is not None
    assert abs(run.lease.expires - time.time()) < 60
