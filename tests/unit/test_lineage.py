import pytest

from supersteps.checkpoint.record import CheckpointHeader
from supersteps.storage import rules


def a_tree(*parents: int | None, branches: tuple[int, ...] = ()) -> list[CheckpointHeader]:
    """Checkpoints by their numbers, each with the number of its parent."""
    return [
        CheckpointHeader(
            checkpoint_id=f"r-{number}",
            workflow_id="w",
            timestamp="t",
            parent_id=None if parent is None else f"r-{parent}",
            sequence=number,
            branch=branches[number] if branches else 0,
        )
        for number, parent in enumerate(parents)
    ]


@pytest.mark.parametrize(
    ("gone", "moved"),
    [
        ([], {}),
        ([3], {}),
        ([1], {2: 0, 4: 0}),
        ([1, 2], {3: 0, 4: 0}),
        ([0], {1: None}),
        ([0, 1, 2], {3: None, 4: None}),
        ([2, 3], {}),
    ],
)
def test_what_followed_something_that_goes_follows_what_stays(
    gone: list[int], moved: dict[int, int | None]
) -> None:
    tree = a_tree(None, 0, 1, 2, 1)
    expected = {
        f"r-{child}": None if parent is None else f"r-{parent}" for child, parent in moved.items()
    }

    assert rules.new_parents(tree, {f"r-{number}" for number in gone}) == expected
    assert rules.new_parents(reversed(tree), {f"r-{number}" for number in gone}) == expected


def test_where_branches_part() -> None:
    assert rules.branch_points(a_tree(None, 0, 1, 1, 0)) == {"r-0", "r-1"}


@pytest.mark.parametrize(
    ("damaged", "nearest"),
    [
        (0, None),
        (1, "r-0"),
        (2, "r-1"),
        (4, "r-3"),
        (5, "r-4"),
        (9, "r-5"),
    ],
)
def test_the_nearest_intact_checkpoint_is_looked_for_on_the_same_branch(
    damaged: int, nearest: str | None
) -> None:
    tree = a_tree(None, 0, 1, 0, 3, 4, branches=(0, 0, 0, 1, 1, 1))
    found = rules.intact_before(damaged, [header for header in tree if header.sequence != damaged])
    assert (found and found.checkpoint_id) == nearest


def test_the_first_of_a_branch_falls_back_to_the_newest_before_it() -> None:
    tree = a_tree(None, 0, 1, 0, 3, branches=(0, 0, 0, 1, 1))
    found = rules.intact_before(3, [header for header in tree if header.sequence != 3])
    assert found is not None
    assert found.checkpoint_id == "r-2"


def test_the_offer_names_the_checkpoint_or_says_that_there_is_none() -> None:
    assert (
        str(rules.damaged("It is cut.", "r-1"))
        == "It is cut. The nearest intact checkpoint before it is 'r-1'."
    )
    assert str(rules.damaged("It is cut.", None)) == "It is cut. No checkpoint before it is intact."
