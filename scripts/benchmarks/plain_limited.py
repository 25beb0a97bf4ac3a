"""What most people write for a limit: AsyncOpenAI, asyncio.gather, aiolimiter; nothing is kept.

Arguments: a JSON file, and which share of how many this process is. The file names `bodies` (of
requests), `requests` and `tokens` (that a window admits; null: any), `window_s`, and
`answer_tokens` (expected of each answer). Says "ready", waits for a line, and prints how many
documents it extracted.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from aiolimiter import AsyncLimiter
from openai import AsyncOpenAI

BYTES_PER_TOKEN = 4  # what everybody assumes


def limiter(limit: float | None, *, window_s: float, processes: int) -> AsyncLimiter | None:
    """This process's part of a limit."""
    return None if limit is None else AsyncLimiter(limit / processes, window_s)


async def main(asked: dict[str, Any], *, position: int, processes: int) -> int:
    """Extract this process's documents; how many came back whole."""
    client = AsyncOpenAI()
    window_s = asked["window_s"]
    requests = limiter(asked["requests"], window_s=window_s, processes=processes)
    tokens = limiter(asked["tokens"], window_s=window_s, processes=processes)

    async def extract(body: str) -> None:
        if requests is not None:
            await requests.acquire()
        if tokens is not None:
            estimate = len(body) / BYTES_PER_TOKEN + asked["answer_tokens"]
            await tokens.acquire(min(estimate, tokens.max_rate))  # more is an error
        completion = await client.chat.completions.create(**json.loads(body))
        json.loads(completion.choices[0].message.content)

    bodies = asked["bodies"][position::processes]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    ends = await asyncio.gather(*map(extract, bodies), return_exceptions=True)
    return sum(end is None for end in ends)


if __name__ == "__main__":
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    position, processes = map(int, sys.argv[2:])
    print(asyncio.run(main(settings, position=position, processes=processes)))
