import os

import pytest
from msgspec.structs import replace

from supersteps.checkpoint import owner as module
from supersteps.checkpoint.owner import (
    Owner,
    is_alive,
    is_this_process,
    mark_advancing,
    this_process,
)

NO_PROCESS = 2**22 + 1  # above the highest pid that Linux gives


def test_this_process_is_identified_by_more_than_its_pid() -> None:
    me = this_process("h")

    assert me.pid == os.getpid()
    assert me.handle == "h"
    assert is_this_process(me)
    assert is_this_process(this_process("another handle"))
    assert not is_this_process(replace(me, started="earlier"))
    assert not is_this_process(replace(me, host="elsewhere"))
    assert me.describe() == f"process {os.getpid()} on {me.host}"


def test_a_handle_of_this_process_lives_while_it_advances() -> None:
    me = this_process("busy one")
    assert is_alive(me) is False
    mark_advancing("busy one", True)
    try:
        assert is_alive(me) is True
        assert is_alive(this_process("idle one")) is False
    finally:
        mark_advancing("busy one", False)
    assert is_alive(me) is False
    mark_advancing("busy one", False)  # twice does no harm


@pytest.mark.parametrize(
    "changed",
    [
        {"host": "elsewhere"},
        {"boot_id": "earlier"},
        {"pid_namespace": "a container"},
        {"boot_id": ""},
    ],
)
def test_only_time_tells_of_other_machines_boots_and_containers(changed: dict[str, str]) -> None:
    assert is_alive(replace(this_process(), pid=NO_PROCESS, **changed)) is None


@pytest.mark.skipif(not this_process().boot_id, reason="the system tells no boot id")
def test_a_process_of_this_boot_is_looked_up() -> None:
    parent = replace(
        this_process(), pid=os.getppid(), started=module._process_start(os.getppid()) or ""
    )

    assert is_alive(parent) is True
    assert is_alive(replace(parent, started="another process had this pid")) is False
    assert is_alive(replace(this_process(), pid=NO_PROCESS)) is False


def test_a_forked_child_is_another_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    me = this_process()
    monkeypatch.setattr(os, "getpid", lambda: os.getppid())

    assert this_process() != me
    assert not is_this_process(me)


def test_an_owner_is_saved_and_restored() -> None:
    import msgspec

    me = this_process("h")
    assert msgspec.json.decode(msgspec.json.encode(me), type=Owner) == me
