"""Names of users' in executor classes: almost all are free; what cannot work is refused by name."""

import copy
import functools
import pickle  # noqa: TID251  # users move executors about by it
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Never

import pytest

from supersteps import (
    Executor,
    FunctionExecutor,
    HandlerDefinitionError,
    InMemoryCheckpointStorage,
    UnsavedStateWarning,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowExecutor,
    handler,
)
from tests.unit.support import Tally, built

RESERVED = {
    "id",
    "can_handle",
    "input_types",
    "output_types",
    "workflow_output_types",
    "on_checkpointing",
    "on_checkpoint_restored",
}


class Echo(Executor):
    @handler
    async def echo(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(text)


async def echoed(executor: Executor) -> list[Any]:
    """What a run with the executor yields, saved and resumed."""
    storage = InMemoryCheckpointStorage()
    workflow = built(WorkflowBuilder(name="w"), executor, storage=storage)
    result = await workflow.run("x")
    first = (await storage.list_checkpoints())[0]
    assert (await workflow.run_from_checkpoint(first)).get_outputs() == result.get_outputs()
    return result.get_outputs()


def names_of_the_library() -> list[str]:
    """Every name that executors and those of functions have, and earlier versions had."""
    made = FunctionExecutor(lambda_like, "f")
    names = {name for name in (*dir(Echo), *vars(Echo("e")), *vars(made)) if name[:2] != "__"}
    earlier = {"_table", "_find", "_specs", "_response_specs", "_all_specs", "specs", "state"}
    earlier |= {"response_specs", "find_handler", "find_response_handler", "response_types"}
    return sorted((names | earlier) - RESERVED - {"echo"})


def lambda_like(text: str) -> None:
    pass


@pytest.mark.parametrize("name", names_of_the_library())
async def test_names_are_free_for_attributes_and_methods(name: str) -> None:
    class Early(Echo):
        def __init__(self) -> None:
            setattr(self, name, "early")
            super().__init__(id="early")

    class Late(Echo):
        def __init__(self) -> None:
            super().__init__("late")
            setattr(self, name, [3])

    def method(self: Any, *_: Any) -> str:
        return "mine"

    WithMethod = type("WithMethod", (Echo,), {name: method})
    WithField = type("WithField", (Echo,), {name: 7})
    for executor in (Early(), Late(), WithMethod("m"), WithField("f")):
        assert await echoed(executor) == ["x"]
    assert getattr(WithMethod("m"), name)() == "mine"
    assert getattr(Early(), name) == "early"


@pytest.mark.parametrize(
    ("name", "member", "expected"),
    [
        ("id", property(lambda self: "x"), r"is set when it is created: pass it to super\(\)"),
        ("id", functools.cached_property(lambda self: "x"), "pass it to super"),
        ("id", lambda self: "x", "pass it to super"),
        ("can_handle", True, "is a method that the engine calls: give your attribute"),
        ("can_handle", property(lambda self: True), "is a method that the engine calls"),
        ("on_checkpointing", "never", "is a method that the engine calls"),
        ("on_checkpoint_restored", None, "is a method that the engine calls"),
        ("input_types", ["pdf", "docx"], "is reserved for a list of types: give your attribute"),
        ("output_types", "pdf", "is reserved for a list of types"),
        ("workflow_output_types", lambda self: [], "is reserved for a list of types"),
        ("__supersteps__", 7, "is reserved for the engine"),
    ],
)
def test_a_class_that_uses_a_reserved_name_for_something_else_is_refused(
    name: str, member: Any, expected: str
) -> None:
    with pytest.raises(HandlerDefinitionError, match=rf"executor class Mine: {name} .*{expected}"):
        type("Mine", (Echo,), {name: member})


NODE_NAMES = ["graph", "start", "may_ask", "_asks", "_specs_of", "allow_direct_output", "workflow"]


@pytest.mark.parametrize("name", NODE_NAMES)
async def test_names_are_free_in_the_node_of_a_sub_workflow(name: str) -> None:
    class Node(WorkflowExecutor):
        def __init__(self) -> None:
            inner = built(WorkflowBuilder(name="inner"), Echo("echo"))
            super().__init__(inner, "node", allow_direct_output=True)
            setattr(self, name, "mine")

    assert await echoed(Node()) == ["x"]
    assert getattr(Node(), name) == "mine"


def test_a_hook_is_no_handler() -> None:
    for hook in ("on_checkpointing", "on_checkpoint_restored"):
        with pytest.raises(HandlerDefinitionError, match=f"{hook} is a method .*, not a handler"):
            type("Mine", (Echo,), {hook: vars(Echo)["echo"]})


async def test_an_async_can_handle_is_refused() -> None:
    async def can_handle(self: Any, message: Any) -> bool:
        return False

    with pytest.raises(HandlerDefinitionError, match="can_handle is a coroutine function"):
        type("Mine", (Echo,), {"can_handle": can_handle})


def test_an_instance_that_uses_a_reserved_name_is_refused() -> None:
    class Types(Echo):
        def __init__(self) -> None:
            super().__init__("t")
            self.input_types = ["pdf"]  # type: ignore[misc]

    with pytest.raises(AttributeError, match=r"input_types of an executor lists types .* of Types"):
        Types()
    for name, value in (("can_handle", True), ("on_checkpointing", None)):
        executor = Echo("e")
        setattr(executor, name, value)
        with pytest.raises(
            HandlerDefinitionError, match=f"'e' has an attribute {name}, .* another"
        ):
            WorkflowBuilder().set_start_executor(executor)
    executor = Echo("e")
    executor.on_checkpointing = print  # type: ignore[assignment, method-assign]
    with pytest.raises(HandlerDefinitionError, match="define it in the class"):
        WorkflowBuilder().register_executor(lambda: executor, "e")


async def test_what_an_executor_takes_may_be_narrowed() -> None:
    class Short(Echo):
        def can_handle(self, message: Any) -> bool:
            return super().can_handle(message) and len(message) < 3

    class Start(Executor):
        @handler
        async def split(self, text: str, ctx: WorkflowContext[str]) -> None:
            for word in text.split():
                await ctx.send_message(word)

    start = Start("start")
    builder = WorkflowBuilder().add_edge(start, Short("short")).add_edge(start, Echo("echo"))
    assert sorted((await built(builder, start).run("a long")).get_outputs()) == ["a", "a", "long"]


async def test_a_class_may_say_what_its_types_are() -> None:
    class Declared(Echo):
        input_types = (str, int)  # type: ignore[assignment]

    class Computed(Echo):
        @property
        def output_types(self) -> list[Any]:
            return [bytes]

    for executor in (Declared("d"), Computed("c")):
        assert await echoed(executor) == ["x"]
    assert [*built(WorkflowBuilder(), Declared("d")).input_types] == [str, int]


# ------------------------------------------------------------------------------------------- the id


async def test_the_id_may_be_an_attribute_that_the_class_makes_itself() -> None:
    @dataclass
    class Named(Echo):
        id: str
        seen: list[str] = field(default_factory=list)

    @dataclass(frozen=True)
    class Frozen(Echo):
        name: str = "frozen"

        def __post_init__(self) -> None:
            super().__init__(self.name)

    class Kept(Echo):
        @property
        def id(self) -> str:
            return self._kept.lower()

        @id.setter
        def id(self, value: str) -> None:
            self._kept = value.upper()

    class Silent(Echo):
        def __init__(self) -> None:
            self.x = 1

    executors = (Named("n"), Frozen(), Kept("kept"), Silent())
    for executor, expected in zip(executors, ("n", "frozen", "kept", "Silent"), strict=True):
        assert await echoed(executor) == ["x"]
        assert list(built(WorkflowBuilder(), executor).graph.nodes) == [expected]


def test_an_id_that_a_class_keeps_for_itself_is_an_error() -> None:
    class Forgets(Echo):
        def __init__(self, id: str) -> None:
            self.x = 1

    for source in (Forgets("a"), lambda: Forgets("a")):
        with pytest.raises(
            HandlerDefinitionError, match=r"Forgets\.__init__ has a parameter `id` but does"
        ):
            WorkflowBuilder().set_start_executor(source)

    class Idle(Executor):
        def __init__(self) -> None:
            pass

    class Nameless(Echo):
        def __init__(self) -> None:
            self.id = ""

    with pytest.raises(HandlerDefinitionError, match="executor class Idle has no handlers"):
        WorkflowBuilder().set_start_executor(Idle())
    with pytest.raises(ValueError, match="executor id"):
        WorkflowBuilder().set_start_executor(Nameless())


async def test_further_arguments_of_the_base_class_have_no_effect() -> None:
    class Sample(Echo):
        def __init__(self, domains: list[str]) -> None:
            super().__init__(id="sample", approved_domains=domains, specs=[], type="Sample")
            self.domains = domains

    assert await echoed(Sample(["a"])) == ["x"]


# ------------------------------------------------------------------------------ values as executors


@dataclass
class Value(Tally):
    """Compares by value and has no hash, as dataclasses do; keeps attributes."""

    name: str = "value"
    total: int = 0
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        Executor.__init__(self, self.name)


class Twin(Tally):
    """Equal to every other one."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Twin)

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize("make", [lambda name: Value(name), lambda name: Twin(name)])
async def test_executors_that_compare_by_value_stay_apart(make: Callable[[str], Tally]) -> None:
    one, two = make("one"), make("two")
    builder = WorkflowBuilder(name="w").add_edge(one, one).add_edge(one, two).add_edge(two, two)
    storage = InMemoryCheckpointStorage()
    workflow = built(builder, one, storage=storage)
    assert (await workflow.run(2)).get_outputs() == [3, 1]

    assert (await workflow.run(2)).get_outputs() == [3, 1], "instances start afresh"
    states = (await storage.list_checkpoints())[-1].executor_states
    assert states == {"one": {"total": 3}, "two": {"total": 1}}


def test_executors_can_be_copied_and_pickled() -> None:
    executor = Upper3("u")
    WorkflowBuilder().set_start_executor(executor)
    for again in (
        copy.copy(executor),
        copy.deepcopy(executor),
        pickle.loads(pickle.dumps(executor)),
    ):
        assert (again.id, again.input_types) == ("u", [str])


class Upper3(Echo):
    pass


# -------------------------------------------------------------------------------------- overriding


def test_a_method_that_overrides_a_handler_has_to_be_one() -> None:
    with pytest.raises(
        HandlerDefinitionError,
        match=r"Child\.echo overrides the handler Echo\.echo and is not marked .*`echo = None`",
    ):

        class Child(Echo):
            async def echo(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
                pass

    class Mixin:
        def echo(self) -> None:
            pass

    with pytest.raises(HandlerDefinitionError, match=r"Mixin\.echo overrides the handler Echo"):
        type("Both", (Mixin, Echo), {})


# -------------------------------------------------------------------------------------- self.state


def test_a_dict_in_state_is_named_where_checkpoints_are_taken() -> None:
    class Keeper(Echo):
        def __init__(self) -> None:
            super().__init__("keeper")
            self.state = {"count": 0}

    with pytest.warns(UnsavedStateWarning, match=r"'keeper' keeps a dict in self\.state, which is"):
        built(WorkflowBuilder(), Keeper(), storage=InMemoryCheckpointStorage())
    built(WorkflowBuilder(), Keeper())  # nothing is saved anyway
