import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from supersteps.storage.base import DurableStorage
from tests.contract.support import SUBJECTS, Subject, make_subject


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    subject = make_subject(request.param, tmp_path)
    yield subject
    asyncio.run(subject.aclose())


@pytest.fixture
def storage(subject: Subject) -> DurableStorage:
    return subject.storage
