"""Turns a pile of documents into validated, costed, traceable records through an LLM API.

from runner import Runner

async with Runner.open() as runner:
    batch = await runner.submit("invoice", ["invoices/"])
    await batch.wait()
    async for record in batch.records():
        ...
"""

from typing import Any

__all__ = ["Runner"]


def __getattr__(name: str) -> Any:
    # the Python face loads half the program; `import runner.model` alone should not
    if name == "Runner":
        from runner.api import Runner  # noqa: PLC0415 - see above

        return Runner
    raise AttributeError(f"module 'runner' has no attribute {name!r}")
