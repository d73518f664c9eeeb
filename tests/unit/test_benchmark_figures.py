"""The benchmarks' own arithmetic and tables; nothing here is timed."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.figures import exponent, figure, growth, interleaved, number, ratios
from benchmarks.report import aligned, as_json, cells, figures_of, markdown, sentence
from benchmarks.scratch import kind_of
from benchmarks.workloads import WORKLOADS, chosen

MACHINE: dict[str, Any] = {
    "date": "2026-11-29 10:00 UTC",
    "commit": "abc",
    "python": "CPython 3.11.7",
    "sqlite": "3.40.1",
    "system": "Linux x86_64",
    "disk": "ext4",
    "processors": 2,
    "load": 0.1,
}


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0, -0.25])
def test_the_exponent_of_a_power_is_the_power(power: float) -> None:
    sizes = [10, 100, 700, 5000]
    assert exponent(sizes, [3.7 * size**power for size in sizes]) == pytest.approx(power)


def test_an_exponent_is_fitted_to_all_sizes() -> None:
    assert exponent([1, 10, 100], [1, 10, 10]) == pytest.approx(0.5)
    assert exponent([1, 10, 100], [1, 1, 10]) == pytest.approx(0.5)


def test_ratios_are_those_of_one_round() -> None:
    assert ratios([10.0, 30.0], [5.0, 10.0]) == [2.0, 3.0]
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_rounds_are_interleaved_in_turning_order() -> None:
    order: list[str] = []

    def measure(name: str, value: float) -> float:
        order.append(name)
        return value + len(order)

    samples = interleaved(3, {"a": lambda: measure("a", 0), "b": lambda: measure("b", 100)})
    assert "".join(order) == "abbaab"
    assert samples == {"a": [1, 4, 5], "b": [102, 103, 106]}


def test_growth_is_that_of_each_round() -> None:
    calls: list[int] = []

    def cost(size: int) -> float:
        calls.append(size)
        return float(size) if len(calls) <= 2 else float(size) ** 2

    grown = growth("grows", 2, [10, 100], cost, at_most=1.0)
    assert (grown.low, grown.high, grown.value) == pytest.approx((1.0, 2.0, 1.5))
    assert grown.detail == "µs: 55 at 10, 5,050 at 100"
    assert sorted(calls) == [10, 10, 100, 100]


@pytest.mark.parametrize(
    ("rounds", "bounds", "verdict"),
    [
        ([1.0, 2.0, 9.0], {"at_least": 2.0}, "reached"),
        ([1.0, 2.0, 9.0], {"at_least": 2.1}, "short, within the spread"),
        ([1.0, 2.0, 9.0], {"at_least": 9.1}, "SHORT"),
        ([1.0, 2.0, 9.0], {"at_most": 2.0}, "reached"),
        ([1.0, 2.0, 9.0], {"at_most": 1.9}, "short, within the spread"),
        ([1.0, 2.0, 9.0], {"at_most": 0.9}, "SHORT"),
        ([1.0, 2.0, 9.0], {}, ""),
    ],
)
def test_verdicts(rounds: list[float], bounds: dict[str, float], verdict: str) -> None:
    measured = figure("name", rounds, **bounds)  # type: ignore[arg-type]
    assert (measured.value, measured.low, measured.high) == (2.0, 1.0, 9.0)
    assert measured.verdict == verdict


def test_numbers_have_three_digits() -> None:
    shown = [number(value) for value in (0.123456, 1.0, 45.67, 123.4, 12_345.6)]
    assert shown == ["0.123", "1", "45.7", "123", "12,346"]


def test_a_table_is_aligned() -> None:
    line = cells(figure("opening", [2.0, 2.5], unit="ms", at_most=3.0, detail="file"))
    assert line == ("opening", "2.25 ms", "2 to 2.5", "≤ 3", "reached", "file")
    assert aligned([("name", "x"), ("n", "longer")]) == "name  x\nn     longer"


def test_markdown() -> None:
    table = markdown(("a", "b"), [("x|y", "")])
    assert table == "| a | b |\n| --- | --- |\n| x\\|y |  |"


def test_json_and_back() -> None:
    figures = [figure("one", [1.0, 3.0], at_least=0.5), figure("two", [0.25], unit="ms")]
    written = json.loads(json.dumps(as_json(MACHINE, figures, 12.3)))
    assert figures_of(written) == figures
    assert (written["seconds"], written["machine"]) == (12, MACHINE)
    assert "at abc: CPython 3.11.7, SQLite 3.40.1, Linux x86_64, ext4" in sentence(
        written["machine"]
    )


def test_the_file_system_is_the_innermost_and_latest_mounted() -> None:
    mounts = [("/", "ext4"), ("/tmp", "xfs"), ("/tmp", "tmpfs"), ("/tmp/data", "btrfs")]
    kinds = [kind_of(Path(each), mounts) for each in ("/home", "/tmp/x", "/tmp/data/x", "/tmp/dat")]
    assert kinds == ["ext4", "tmpfs", "btrfs", "tmpfs"]
    assert kind_of(Path("/home"), []) == "an unknown disk"


def test_workloads_are_chosen_by_name() -> None:
    assert [each.name for each in chosen(["sqlite", "passing"])] == ["sqlite", "passing"]
    assert chosen([]) == list(WORKLOADS)
    assert len({each.name for each in WORKLOADS}) == len(WORKLOADS)
    assert all(each.about for each in WORKLOADS)
    with pytest.raises(ValueError, match=r"no workload 'nosuch'; choose from passing, "):
        chosen(["nosuch"])
