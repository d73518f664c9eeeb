"""A secret by its name: the value is never saved and never shown."""

import copy
import json
import logging
import pickle  # noqa: TID251 -- to see that nothing gets out that way
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from supersteps import (
    CheckpointEncodeError,
    Codec,
    ExecutorFailedEvent,
    ExecutorFailure,
    FailurePolicy,
    Secret,
    SqliteCheckpointStorage,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowErrorDetails,
    WorkflowFailedEvent,
    WorkflowWarningEvent,
    executor,
)
from supersteps import secrets as module
from supersteps.secrets import redact

VALUE = "pw-4711-hush"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("API_KEY", VALUE)
    monkeypatch.setattr(module, "_redacted", ())
    module._revealed.clear()
    yield
    module._revealed.clear()
    Secret.use(None)


def test_it_is_looked_up_when_it_is_revealed(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = Secret("API_KEY")
    assert secret.reveal() == VALUE
    monkeypatch.setenv("API_KEY", "another")
    assert secret.reveal() == "another"

    with pytest.raises(LookupError, match=r"no secret 'NOWHERE': set the environment variable"):
        Secret("NOWHERE").reveal()


def test_where_it_is_found_can_be_said() -> None:
    secret = Secret("db")
    Secret.use({"db": "for all"}.get)
    assert secret.reveal() == "for all"
    with Secret.using({"db": "in here"}.get):
        assert secret.reveal() == "in here"
    assert secret.reveal() == "for all"


@pytest.mark.parametrize("secret", [Secret("API_KEY"), Secret.of(VALUE)])
def test_nothing_shows_the_value(secret: Secret, caplog: pytest.LogCaptureFixture) -> None:
    secret.reveal()
    with caplog.at_level(logging.INFO):
        logging.getLogger("test").info("with %s and %r", secret, [secret])
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>40}",
        f"{secret:>40}",
        caplog.text,
    ]
    shown += [repr({"key": secret}), repr((secret,)), str(getattr(secret, "__dict__", ""))]
    for text in shown:
        assert VALUE not in text
    assert repr(secret) in ("Secret('API_KEY')", "Secret(***)")
    with pytest.raises(TypeError):
        json.dumps(secret)


def test_it_shows_nothing_in_rich_tables() -> None:
    pretty = pytest.importorskip("rich.pretty")

    assert (
        pretty.pretty_repr([Secret("API_KEY"), Secret.of(VALUE)])
        == "[Secret('API_KEY'), Secret(***)]"
    )


def test_references_are_equal_by_name_and_values_only_themselves() -> None:
    held = Secret.of(VALUE)
    assert Secret("a") == Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert held == held
    assert held != Secret.of(VALUE)
    assert held != Secret("***")


def test_it_does_not_change_and_copies_are_itself() -> None:
    secret = Secret("API_KEY")
    with pytest.raises(AttributeError):
        secret.name = "other"
    with pytest.raises(AttributeError):
        del secret.name
    assert copy.copy(secret) is copy.deepcopy(secret) is secret
    assert pickle.loads(pickle.dumps(secret)) == secret
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(Secret.of(VALUE))
    with pytest.raises(TypeError, match="cannot be pickled"):
        Secret.of(VALUE).__getstate__()
    assert secret.__getstate__() == ("API_KEY",)
    for wrong in ("", None, b"x"):
        with pytest.raises(ValueError, match="takes the name"):
            Secret(wrong)  # type: ignore[arg-type]


def test_only_the_name_is_encoded() -> None:
    codec = Codec()
    secret = Secret("API_KEY")
    secret.reveal()
    data = codec.encode({"key": [secret]})

    assert data == b'{"key":[{"$":"Secret","v":"API_KEY"}]}'
    assert codec.decode(data) == {"key": [secret]}
    assert codec.copy({"key": secret}) == {"key": secret}
    with pytest.raises(
        CheckpointEncodeError, match=r"\['key'\].*values of secrets are never saved"
    ) as refused:
        codec.encode({"key": Secret.of(VALUE)})
    assert VALUE not in str(refused.value)
    with pytest.raises(ValueError, match="Secret"):
        codec.decode(b'{"$":"Secret","v":""}')


# ---------------------------------------------------------------------------------------- redaction


def test_without_revealed_secrets_a_text_stays_the_very_same() -> None:
    text = "nothing to hide " * 3
    assert redact(text) is text


def test_revealed_values_are_struck_out_the_longest_first() -> None:
    for value in ("abcd", "abcd-efgh", "it's \\ two\nlines", "x"):
        Secret.of(value)

    text = (
        f"abcd-efgh abcd x {'it' + chr(39) + 's'} "
        f"{['it' + chr(39) + 's ' + chr(92) + ' two' + chr(10) + 'lines']!r}"
    )
    assert redact(text) == '*** *** x it\'s ["***"]'


def test_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 2)
    for value in ("first", "second", "third"):
        Secret.of(value)
    assert redact("first second third") == "first *** ***"


def test_a_value_that_is_revealed_again_stays_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 2)
    for value in ("first", "second", "first", "third"):
        Secret.of(value)
    assert redact("first second third") == "*** second ***"


def test_what_quoting_makes_of_a_value_is_struck_out() -> None:
    value = 'it\'s é/&\\ "me" \n'
    Secret.of(value)
    shown = [
        value,
        repr(value),
        ascii(value),
        repr(f'"{value}'),
        repr(value.encode()),
        json.dumps(value),
    ]
    shown += [
        json.dumps(value, ensure_ascii=False),
        quote(value),
        quote(value, ""),
        quote_plus(value),
        value.strip(),
    ]
    for text in shown:
        assert "me" not in redact(f"<{text}>"), text


def test_a_value_of_several_lines_is_struck_out_where_they_are_indented() -> None:
    value = "-----BEGIN KEY-----\nAAAABBBBCCCC\nDDDD\n-----END KEY-----\n"
    Secret.of(value)
    text = redact(
        "".join(traceback.format_exception(ExceptionGroup("all", [ValueError(f"no {value}")])))
    )
    assert "AAAABBBB" not in text
    assert "BEGIN KEY" not in text
    assert "ValueError" in text


def test_tracebacks_with_variables_show_no_value() -> None:
    def use() -> None:
        held, named = Secret.of(VALUE), Secret("API_KEY")
        named.reveal()
        raise ValueError((held, named))

    def resolve() -> None:
        Secret("x").reveal()

    Secret.use(lambda _: VALUE.encode())  # type: ignore[arg-type, return-value]
    for fail in (use, resolve):
        with pytest.raises((ValueError, TypeError)) as failed:
            fail() if fail is resolve else _in_environment(fail)
        shown = "".join(
            traceback.TracebackException.from_exception(failed.value, capture_locals=True).format()
        )
        assert VALUE not in shown


def _in_environment(do: Any) -> None:
    with Secret.using({"API_KEY": VALUE}.get):
        do()


def test_details_of_an_error_hold_no_revealed_secret() -> None:
    try:
        raise ValueError(f"bad key {Secret('API_KEY').reveal()}")
    except ValueError as error:
        details = WorkflowErrorDetails.from_exception(error)
    assert details.message == "bad key ***"
    assert VALUE not in str(details)
    assert WorkflowWarningEvent(f"about {VALUE}").data == "about ***"


async def failing(folder: Path, policy: FailurePolicy | None) -> tuple[list[Any], bytes]:
    @executor(id="caller")
    async def caller(secret: Secret, ctx: WorkflowContext[str]) -> None:
        await ctx.set_shared_state("key", secret)
        raise ValueError(f"the server does not like {secret.reveal()!r}")

    @executor(id="mourner")
    async def mourner(failure: ExecutorFailure, ctx: WorkflowContext[Any, str]) -> None:
        await ctx.yield_output(f"{failure.error_message} {failure.traceback}")

    storage = SqliteCheckpointStorage(folder / "runs.db")
    builder = WorkflowBuilder(name="w").set_start_executor(caller).with_checkpointing(storage)
    if policy is not None:
        builder = builder.with_failure_policy(caller, policy).add_error_edge(caller, mourner)
    events: list[Any] = []
    try:
        async for event in builder.build().run_stream(Secret("API_KEY"), run_id="r"):
            events.append(event)
    except ValueError:
        assert policy is None
    run = await storage.get_run("r")
    assert run is not None
    assert VALUE not in str(run)
    if policy is None:
        assert "does not like '***'" in str(run.error)
    await storage.aclose()
    return events, b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


async def test_a_failed_run_keeps_and_tells_no_secret(tmp_path: Path) -> None:
    events, stored = await failing(tmp_path, None)

    assert any(isinstance(event, WorkflowFailedEvent | ExecutorFailedEvent) for event in events)
    assert not [event for event in events if VALUE in repr(event)]
    assert b"API_KEY" in stored
    assert VALUE.encode() not in stored


async def test_a_failure_along_an_error_edge_holds_no_secret(tmp_path: Path) -> None:
    events, stored = await failing(tmp_path, FailurePolicy(max_attempts=1))

    assert not [event for event in events if VALUE in repr(event)]
    assert VALUE.encode() not in stored


async def test_a_warning_holds_no_secret() -> None:
    @executor(id="sender")
    async def sender(secret: Secret, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message(secret.reveal())

    workflow = WorkflowBuilder(name="w").set_start_executor(sender).build()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await workflow.run(Secret("API_KEY"))
    assert VALUE not in " ".join(str(warning.message) for warning in caught)
