"""Runs that were begun within a span of time."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest

from supersteps.cli.amounts import moment_of
from supersteps.cli.commands.runs import command
from supersteps.service.service import Service
from supersteps.storage.listings import RunFilter
from supersteps.storage.records import RunRecord
from tests.contract.support import SUBJECTS, open_subject
from tests.unit.support import shout_workflow

pytestmark = pytest.mark.filterwarnings("ignore::supersteps.PartialStorageWarning")


def begun(run: RunRecord) -> datetime:
    return datetime.fromisoformat(run.created_at)


@pytest.mark.parametrize("subject", SUBJECTS)
async def test_runs_within_a_span(subject: str, tmp_path: Path) -> None:
    async with open_subject(subject, tmp_path) as storage:
        for number in range(6):
            await shout_workflow(storage=storage).run("x", run_id=str(number), tags=["t"])
        service = Service(storage)
        times = [begun(run) for run in reversed(await storage.list_runs())]

        async def names(
            since: int | None = None, until: int | None = None, limit: int = 50, **more: str
        ) -> str:
            wanted = RunFilter(
                since=None if since is None else times[since],
                until=None if until is None else times[until],
                limit=limit,
                **more,
            )
            found = await service.list_runs(wanted)
            return "".join(run.run_id for run in found)

        assert await names() == "543210"
        assert await names(since=2) == "5432"
        assert await names(until=2) == "10"
        assert await names(since=1, until=5) == "4321"
        assert await names(since=1, until=5, limit=3) == "432"
        assert await names(since=3, until=3) == ""
        assert await names(until=0) == ""
        assert await names(since=0, tag="t") == "543210"
        assert await names(since=0, tag="other") == ""


def moment(value: str | None) -> datetime | None:
    return moment_of(click.Context(command), command.params[0], value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-29", datetime(2026, 11, 29, tzinfo=UTC)),
        ("2026-11-29T08:30", datetime(2026, 11, 29, 8, 30, tzinfo=UTC)),
        (" 2026-11-29 08:30:15Z ", datetime(2026, 11, 29, 8, 30, 15, tzinfo=UTC)),
        ("2026-11-29T08:30+02:00", datetime(2026, 11, 29, 6, 30, tzinfo=UTC)),
        (None, None),
    ],
)
def test_a_moment_as_people_type_it(text: str | None, expected: datetime | None) -> None:
    assert moment(text) == expected


def test_how_long_ago() -> None:
    found = moment("36h")
    assert found is not None
    assert timedelta(0) <= datetime.now(UTC) - timedelta(hours=36) - found < timedelta(minutes=1)


@pytest.mark.parametrize("text", ["yesterday", "", "12 o'clock", "2026-13-01", "99999999999w"])
def test_an_invalid_time_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"not a time: write a date|is too long ago"):
        moment(text)
