"""Which types can be saved: dataclasses and the like that annotations reach, and any other with
`codec.register`.

python -m examples.own_types
"""

import asyncio
import tempfile
from dataclasses import dataclass
from typing import Never

from supersteps import FileCheckpointStorage, Workflow, WorkflowBuilder, WorkflowContext, executor
from supersteps.checkpoints import Codec
from supersteps.errors import CheckpointEncodeError


class Weight:
    """A class of a kind that the codec does not know: it cannot tell what its state is."""

    def __init__(self, text: str) -> None:
        number, unit = text.split()
        self.grams = float(number) * {"g": 1, "kg": 1000}[unit]

    def __str__(self) -> str:
        return f"{self.grams:g} g"

    def __repr__(self) -> str:
        return f"Weight({str(self)!r})"


@dataclass(frozen=True)
class Ingredient:
    """Found by the annotation of a handler; no registration needed."""

    name: str
    weight: Weight


@executor
async def halve(recipe: list[Ingredient], ctx: WorkflowContext[list[Ingredient]]) -> None:
    await ctx.send_message(
        [Ingredient(item.name, Weight(f"{item.weight.grams / 2} g")) for item in recipe]
    )


@executor
async def serve(recipe: list[Ingredient], ctx: WorkflowContext[Never, str]) -> None:
    await ctx.yield_output(", ".join(f"{item.weight} of {item.name}" for item in recipe))


def build() -> Workflow:
    return WorkflowBuilder(name="kitchen").add_edge(halve, serve).set_start_executor(halve).build()


async def main() -> None:
    recipe = [Ingredient("flour", Weight("1 kg")), Ingredient("butter", Weight("250 g"))]
    with tempfile.TemporaryDirectory() as folder:
        try:
            await build().run(recipe, checkpoint_storage=FileCheckpointStorage(folder))
        except CheckpointEncodeError as error:
            print("refused:", error)

        codec = Codec()
        codec.register(
            Weight, encode=str, decode=Weight, name="weight"
        )  # the name that files have for it
        storage = FileCheckpointStorage(folder, codec=codec)
        result = await build().run(recipe, checkpoint_storage=storage)
        print("output:", result.get_outputs()[0])

        first = (await storage.list_checkpoints(workflow_id="kitchen"))[0]
        print("the input, as it was saved:", first.messages["Workflow"][0]["data"])
        await storage.aclose()


if __name__ == "__main__":
    asyncio.run(main())
