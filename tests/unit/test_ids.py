"""Ids of checkpoints: made in one place, and taken apart there."""

import pytest

from supersteps.ids import checkpoint_id, checkpoint_number, split_checkpoint_id


@pytest.mark.parametrize("run_id", ["run", "a-000001", "-", "r-1", "läuft"])
@pytest.mark.parametrize("number", [0, 7, 999_999, 1_000_000, 10**17])
def test_the_id_that_a_run_gives_is_split(run_id: str, number: int) -> None:
    identifier = checkpoint_id(run_id, number)

    assert split_checkpoint_id(identifier) == (run_id, number)
    assert checkpoint_number(identifier, run_id) == number


@pytest.mark.parametrize(
    "identifier",
    [
        "",
        "run",
        "run-",
        "run-1",
        "run-0000001",
        "run-00000x",
        "run-\u0660\u0660\u0660\u0660\u0660\u0661",
        "run--00001",
        "000001",
    ],
)
def test_other_ids_are_not(identifier: str) -> None:
    assert split_checkpoint_id(identifier) is None


def test_a_number_that_no_storage_could_keep_is_none() -> None:
    assert split_checkpoint_id(f"run-{10**18}") is None
