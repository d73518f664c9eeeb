"""Where the command line looks for the store and the workflows: options, environment,
pyproject.toml.
"""

import re
from pathlib import Path

import pytest

from supersteps.service.errors import NoStoreError
from supersteps.service.settings import (
    Settings,
    SettingsError,
    check_store,
    managed,
    open_store,
    read_settings,
)
from supersteps.storage.files.storage import FileCheckpointStorage
from supersteps.storage.memory import InMemoryCheckpointStorage
from supersteps.storage.sqlite.storage import SqliteCheckpointStorage
from tests.contract.support import PlainStorage


def project(folder: Path, table: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(table, encoding="utf-8")
    return folder


TABLE = '[tool.supersteps]\nstore = "sqlite:///own.db"\napp = "own:workflow"\n'
ENVIRONMENT = {"SUPERSTEPS_STORE": "variable.db", "SUPERSTEPS_APP": "variable:one, variable:two ,"}


def test_an_option_comes_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    folder = project(tmp_path, TABLE)

    given = read_settings(folder, ENVIRONMENT, store="given.db", apps=["given:workflow"])
    from_environment = read_settings(folder, ENVIRONMENT)
    from_file = read_settings(folder, {})

    assert given == Settings("given.db", ("given:workflow",), folder)
    assert from_environment == Settings("variable.db", ("variable:one", "variable:two"), folder)
    assert from_file == Settings(f"sqlite:///{folder}/own.db", ("own:workflow",), folder)


def test_each_is_looked_for_by_itself(tmp_path: Path) -> None:
    folder = project(tmp_path, TABLE)

    found = read_settings(
        folder, {"SUPERSTEPS_STORE": "", "SUPERSTEPS_APP": " , "}, apps=["given:workflow"]
    )

    assert found == Settings(f"sqlite:///{folder}/own.db", ("given:workflow",), folder)


def test_the_nearest_file_with_a_table_counts(tmp_path: Path) -> None:
    outer = project(tmp_path, TABLE)
    inner = project(outer / "package", "[tool.other]\nx = 1\n")
    here = inner / "deep"
    here.mkdir()

    assert read_settings(here, {}) == read_settings(outer, {})

    project(here, "[tool.supersteps]\n")  # says nothing, and is nearer

    assert read_settings(here, {}) == Settings(None, (), here)


def test_without_any_file(tmp_path: Path) -> None:
    assert read_settings(tmp_path, {}) == Settings(None, (), tmp_path)


@pytest.mark.parametrize(
    ("store", "placed"),
    [
        ("sqlite:///runs.db", "sqlite:///{}/runs.db"),
        ("SQLite:///data/runs.db", "sqlite:///{}/data/runs.db"),
        ("sqlite:////var/runs.db", "sqlite:////var/runs.db"),
        ("~/runs.db", str(Path("~/runs.db").expanduser())),
        ("sqlite:///~/runs.db", f"sqlite:///{Path('~/runs.db').expanduser()}"),
        (":memory:", ":memory:"),
        ("runs.db", "{}/runs.db"),
        ("../checkpoints", "{}/../checkpoints"),
        ("/var/checkpoints", "/var/checkpoints"),
        ("file:///var/checkpoints", "file:///var/checkpoints"),
        ("memory:", "memory:"),
        ("redis://host/0", "redis://host/0"),
    ],
)
def test_a_relative_store_counts_from_the_folder_of_the_file(
    tmp_path: Path, store: str, placed: str
) -> None:
    folder = project(tmp_path, f'[tool.supersteps]\nstore = "{store}"\n')
    (folder / "sub").mkdir()

    assert read_settings(folder / "sub", {}).store == placed.format(folder)


@pytest.mark.parametrize("store", [r"C:\\data\\runs.db", "C:/data/runs.db"])
def test_a_drive_letter_is_not_a_scheme(tmp_path: Path, store: str) -> None:
    found = read_settings(project(tmp_path, f'[tool.supersteps]\nstore = "{store}"\n'), {}).store

    assert found == str(
        tmp_path / store.replace("\\\\", "\\")
    )  # which on Windows is the absolute path itself


@pytest.mark.parametrize(
    ("app", "placed"),
    [
        ("flows/orders.py:workflow", "{}/flows/orders.py:workflow"),
        ("orders.py", "{}/orders.py"),
        ("orders.py:build", "{}/orders.py:build"),
        ("flows.orders:workflow", "flows.orders:workflow"),
        ("/srv/orders.py:workflow", "/srv/orders.py:workflow"),
    ],
)
def test_a_relative_file_of_an_app_counts_from_there_too(
    tmp_path: Path, app: str, placed: str
) -> None:
    folder = project(tmp_path, f'[tool.supersteps]\napp = ["{app}"]\n')
    (folder / "sub").mkdir()

    assert read_settings(folder / "sub", {}).apps == (placed.format(folder),)
    assert read_settings(folder / "sub", {}, apps=[app]).apps == (
        app,
    )  # what is typed counts from where it is typed


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[tool.supersteps", "cannot be read"),
        ("\xff", "cannot be read"),
        ("[tool]\nsupersteps = 3\n", "is not a table"),
        (
            '[tool.supersteps]\nstor = "x"\nurl = "y"\n',
            "has stor, url, which is not a setting; known settings: app, store",
        ),
        ("[tool.supersteps]\nstore = 3\n", "store is an address such as"),
        ('[tool.supersteps]\nstore = ""\n', "store is an address such as"),
        ("[tool.supersteps]\napp = 3\n", 'app is "module:name" or a list'),
        ('[tool.supersteps]\napp = ["a:b", 3]\n', 'app is "module:name" or a list'),
        ('[tool.supersteps]\napp = ""\n', 'app is "module:name" or a list'),
    ],
)
def test_a_file_that_makes_no_sense_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_bytes(text.encode("latin-1"))

    with pytest.raises(SettingsError, match=re.escape(complaint)) as caught:
        read_settings(tmp_path, {})
    assert str(path) in str(caught.value)


def test_a_file_without_tables_of_tools_is_passed_over(tmp_path: Path) -> None:
    project(tmp_path, "tool = 3\n")

    assert read_settings(tmp_path, {}).store is None


# ------------------------------------------------------------------------------------------- stores


def test_a_store_that_is_not_there_is_refused_and_not_created(tmp_path: Path) -> None:
    for url in (
        f"sqlite:///{tmp_path}/no.db",
        str(tmp_path / "no"),
        f"file://{tmp_path}/no",
        f"{tmp_path}/no.db",
    ):
        with pytest.raises(NoStoreError, match=r"there is no store at .* does not exist"):
            open_store(url)
    assert list(tmp_path.iterdir()) == []


def test_a_new_store_may_be_asked_for(tmp_path: Path) -> None:
    assert isinstance(
        open_store(str(tmp_path / "new.db"), must_exist=False), SqliteCheckpointStorage
    )
    assert isinstance(open_store(str(tmp_path / "new"), must_exist=False), FileCheckpointStorage)
    assert isinstance(open_store("memory:"), InMemoryCheckpointStorage)


def test_an_address_without_sense_names_no_store() -> None:
    with pytest.raises(NoStoreError, match="the scheme"):
        open_store("redis://host/0")
    with pytest.raises(NoStoreError, match="is not valid"):
        open_store("sqlite://runs.db")


async def test_an_invalid_store_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    path.write_text("something else")
    async with open_store(str(path)) as storage:
        with pytest.raises(NoStoreError, match="not a SQLite database"):
            await check_store(storage)
    async with open_store("memory:") as storage:
        await check_store(storage)


def test_a_plain_storage_gets_what_it_lacks_from_the_adapter() -> None:
    storage = managed(PlainStorage(), "mine")

    assert callable(storage.list_runs)
