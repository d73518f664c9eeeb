"""What a program's libraries hand it is saved and comes back, wherever a value can be."""

import contextlib
import functools
import io
import re
import sys
import threading
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Never

import msgspec
import pydantic
import pytest

from supersteps import (
    CheckpointDecodeError,
    CheckpointEncodeError,
    Executor,
    InMemoryCheckpointStorage,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowExecutor,
    handler,
    response_handler,
)
from supersteps.checkpoint.codec.codec import Codec
from tests.unit.values_of_libraries import (
    CHECKED,
    VALUES,
    ChatMessage,
    Color,
    Paint,
    Stock,
    numpy,
    same,
)


@pytest.mark.parametrize("name", VALUES)
def test_what_is_saved_is_what_comes_back(name: str) -> None:
    annotation, value = VALUES[name]
    data = Codec([annotation, Any]).encode(value)
    codec = Codec([annotation])  # that of another process

    assert same(value, codec.decode(data))
    assert same(value, codec.copy(value))
    assert codec.encode(codec.decode(data)) == data
    assert codec.encode(codec.copy(value)) == data
    assert Codec().encode(Codec().decode(data, raw=True)) == data


@pytest.mark.parametrize("name", VALUES)
async def test_a_value_goes_wherever_values_go(name: str) -> None:
    annotation, value = VALUES[name]
    storage = InMemoryCheckpointStorage()

    class Asker(Executor):
        @handler
        async def ask(  # each test has handlers of its own
            self,
            given: annotation,  # type: ignore[valid-type]
            ctx: WorkflowContext[list[annotation]],  # type: ignore[valid-type]
        ) -> None:
            await ctx.set_shared_state("shared", value)
            await ctx.append_shared_state("list", value)
            await ctx.set_state({"own": value})
            await ctx.request_info(value, annotation)

        @response_handler
        async def answered(
            self,
            question: annotation,  # type: ignore[valid-type]
            answer: annotation,  # type: ignore[valid-type]
            ctx: WorkflowContext[list[annotation]],  # type: ignore[valid-type]
        ) -> None:
            own = await ctx.get_state() or {}
            await ctx.send_message([question, answer, own["own"]])

    class Inner(Executor):
        @handler
        async def take(
            self,
            given: list[annotation],  # type: ignore[valid-type]
            ctx: WorkflowContext[Never, Any],
        ) -> None:
            await ctx.yield_output(given)

    class Out(Executor):
        @handler
        async def take(self, given: list[Any], ctx: WorkflowContext[Never, Any]) -> None:
            shared = await ctx.get_shared_state("shared")
            (listed,) = await ctx.get_shared_state("list")
            await ctx.yield_output([*given, shared, listed])

    def workflow() -> Any:
        asker, out = Asker("asker"), Out("out")
        inside = WorkflowBuilder(name="inside").set_start_executor(Inner("inner")).build()
        node = WorkflowExecutor(inside, "node")
        builder = WorkflowBuilder(name="w").add_edge(asker, node).add_edge(node, out)
        return builder.set_start_executor(asker).with_checkpointing(storage).build()

    first = await workflow().run(value, run_id="run")
    (question,) = first.get_request_info_events()
    assert same(value, question.data)
    # Another object stands for another process.
    result = await workflow().run_from_checkpoint(
        "run-000001", responses={question.request_id: value}
    )
    (found,) = result.get_outputs()
    assert [same(value, item) for item in found] == [True] * 5


# ---------------------------------------------------------------------------------- what is refused


class Opaque:
    """A class of a library, of no kind that anybody could take apart."""


class Settings(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    key: Any = None
    opaque: Opaque | None = None
    loaded: pydantic.ImportString[Any] = None


class Forgetful:
    """Gives a dict that does not hold all of it."""

    def __init__(self, x: int = 0) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Forgetful) and self.x == other.x

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Any:
        return cls(**state)


class Strict(ChatMessage):
    @classmethod
    def from_dict(cls, state: dict[str, Any], /, **_more: Any) -> Any:
        raise RuntimeError("not today")


class Table:
    """Compares cell by cell, as the tables of pandas do."""

    def __eq__(self, other: object) -> Any:
        return numpy.array([True, False])

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Any:
        return cls()


class Fieldless(msgspec.Struct):
    def __post_init__(self) -> None:
        pass


@dataclass
class Holder:
    item: Any = None


def holding_itself() -> Holder:
    made = Holder()
    made.me = made  # type: ignore[attr-defined]
    return made


def holding_a_lock() -> Holder:
    made = Holder()
    made.lock = threading.Lock()  # type: ignore[attr-defined]
    return made


def printing() -> re.Pattern[str]:
    with contextlib.redirect_stdout(None):
        return re.compile("a", re.DEBUG)


REFUSED: dict[str, tuple[Any, str]] = {
    "secret": (Settings(key=pydantic.SecretStr("x")), r"\.key: it is a SecretStr.*codec\.register"),
    "secret bytes": (pydantic.SecretBytes(b"x"), r"supersteps\.Secret\(name\)"),
    "secret of anything": ([pydantic.Secret[int](3)], r"\[0\]: it is a Secret.*not saved"),
    "unknown leaf": (Settings(opaque=Opaque()), r"\.opaque: .*Opaque cannot be saved"),
    "imported object": (Settings(loaded=functools.wraps), r"\.loaded: "),
    "default_factory": (defaultdict(lambda: 1), r"default_factory .*setdefault"),
    "object array": (numpy.array([Opaque()]), "dtype 'object'.*tolist"),
    "record array": (numpy.zeros(2, "i4,f8"), "dtype"),
    "long double": (numpy.longdouble(1), "dtype"),
    "large array": (numpy.zeros(17 * 2**20, "u1"), "17,825,792 bytes.*send the path"),
    "matrix": (numpy.ma.array([1]), "MaskedArray cannot be saved"),
    "forgetful": (Forgetful(3), r"from_dict does not return an equal value"),
    "from_dict that raises": (Strict("user", "hi"), r"from_dict raised RuntimeError: not today"),
    "Struct without fields": (Fieldless(), "__post_init__"),
    "pattern that prints": (printing(), "re.DEBUG"),
    "attribute of itself": (holding_itself(), r"value\.me: the value contains itself"),
    "attribute": (holding_a_lock(), r"value\.lock: values of type _thread\.lock cannot be saved"),
    "generator": ((n for n in (1, 2)), "convert it to a list"),
    "function": ([len], r"\[0\]: .*send a name"),
    "method": ([1].append, "keep them in the executor"),
    "view": ({"a": 1}.keys(), r"list\(value\)"),
    "error": (ValueError("no"), "send its text"),
    "stream": (io.BytesIO(b""), "the path of the file"),
    "table": (Table(), r"(?s)does not return.*codec\.register\(Table"),
    "nothing known": (Opaque(), r"(?s)codec\.register\(Opaque.*codec=codec\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_saved_is_refused_with_its_place_and_the_remedy(name: str) -> None:
    value, words = REFUSED[name]
    codec = Codec([Settings, Forgetful, Strict, Holder, Fieldless, Table])
    with pytest.raises(CheckpointEncodeError, match=words) as caught:
        codec.encode(value)
    assert str(caught.value).startswith("value")


def test_hooks_of_classes_are_not_run_by_loading() -> None:
    codec = Codec([Paint, Stock])
    paint, stock = Paint(color=Color("red")), Stock("tea", 1)
    checked = len(CHECKED)
    assert codec.decode(codec.encode(paint)).color.name == "red"
    assert codec.decode(codec.encode(stock)).left == 0
    assert codec.copy(stock).left == 0
    assert len(CHECKED) == checked
    assert Stock.__subclasses__() == []


@pytest.mark.parametrize(
    "data",
    [
        '{"$":"Pattern","v":["(",0]}',
        '{"$":"Pattern","v":["a",128]}',
        '{"$":"Pattern","v":"a"}',
        '{"$":"range","v":[1,2]}',
        '{"$":"range","v":[1,2,0]}',
        '{"$":"slice","v":[]}',
        '{"$":"IPv4Address","v":"1.2.3"}',
        '{"$":"IPv4Network","v":"1.2.3.4/8"}',
        '{"$":"defaultdict","of":"os:system","v":[]}',
        '{"$":"defaultdict","of":["builtins:list"],"v":[]}',
        '{"$":"defaultdict","v":[[1]]}',
        '{"$":"SimpleNamespace","v":[[1,2]]}',
        '{"$":"array","typecode":"u","v":[1]}',
        '{"$":"array","typecode":"B","v":[256]}',
        '{"$":"Ellipsis","v":1}',
        '{"$":"type","v":"os:system"}',
        '{"$":"type","v":"subprocess:Popen"}',
        '{"$":"type","v":1}',
        '{"$":"type"}',
        '{"$":"datetime","v":"2024-01-01","of":"pandas"}',
        '{"$":"timezone","v":[[0,0,0]],"of":1}',
        '{"$":"numpy:load","$value":"x"}',
        '{"$":"numpy:memmap","$value":"x"}',
        '{"$":"numpy:float64","$value":[1]}',
        '{"$":"numpy:float64","$value":"x"}',
        '{"$":"numpy:datetime64","$value":1,"dtype":"O"}',
        '{"$":"numpy:ndarray","dtype":"O","shape":[1],"v":"AAAAAAAAAAA="}',
        '{"$":"numpy:ndarray","dtype":"<f8","shape":[1000000000],"v":""}',
        '{"$":"numpy:ndarray","dtype":"<f8","shape":[-1],"v":"AAAAAAAAAAA="}',
        '{"$":"numpy:ndarray","dtype":"<f8","shape":[1],"v":"AAAAAAAAAAA=","order":"X"}',
        '{"$":"numpy:ndarray","dtype":"<f8","shape":[1],"v":[1]}',
        '{"$":"pydantic.networks:HttpUrl","$value":"nowhere"}',
        '{"$":"pydantic.networks:HttpUrl","$value":1}',
        '{"$":"pydantic.networks:import_email_validator","$value":""}',
        '{"$":"pydantic.types:ByteSize","$value":"1"}',
        '{"$":"pydantic.types:SecretStr","$value":"x"}',
        '{"$":"freezegun.api:FakeDatetime","$value":"x"}',
        f'{{"$":"{__name__}:Holder","item":1,"$attributes":[1]}}',
        f'{{"$":"{__name__}:Holder","item":1,"$attributes":{{"__orig_class__":1}}}}',
        f'{{"$":"{__name__}:Holder","$unset":["more"]}}',
        f'{{"$":"{__name__}:Settings","$serialized":{{"loaded":"os.system"}}}}',
        f'{{"$":"{__name__}:Settings","$serialized":{{"more":"os.system"}}}}',
        f'{{"$":"{__name__}:Settings","$unset":[1]}}',
        f'{{"$":"{__name__}:Forgetful","$value":[]}}',
        f'{{"$":"{__name__}:Forgetful","$value":{{"y":1}}}}',
        f'{{"$":"{__name__}:Strict","$value":{{}}}}',
    ],
)
def test_hostile_data_is_refused(data: str) -> None:
    codec = Codec([Settings, Forgetful, Strict, Holder])
    with pytest.raises(CheckpointDecodeError, match=r"^message 7"):
        codec.decode(data.encode(), "message 7")


def test_a_field_that_became_one_later_takes_the_attribute_of_before() -> None:
    codec = Codec([Holder])
    data = f'{{"$":"{__name__}:Holder","$attributes":{{"item":1,"more":2}}}}'.encode()
    back = codec.decode(data)
    assert (back.item, back.more) == (1, 2)


def test_values_of_a_library_that_is_not_installed_can_be_inspected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = Codec().encode({"loss": numpy.float32(0.5), "at": VALUES["field AwareDatetime"][1].f})
    for module in ("numpy", "pydantic_core"):
        monkeypatch.setitem(sys.modules, module, None)
    back = Codec().decode(data, raw=True)
    assert back["loss"].value == 0.5
    assert back["at"].isoformat() == "2025-01-01T00:00:00+02:00"
    with pytest.raises(CheckpointDecodeError, match="numpy:float32"):
        Codec().decode(data)
