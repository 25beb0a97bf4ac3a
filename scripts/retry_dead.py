"""Retry the dead letters of one reason, in cron for example, and say which.

    .venv/bin/python scripts/retry_dead.py server_error [BATCH]

Two of these at once retry once. Without a reason nothing is retried: reasons are listed.
"""

import asyncio
import sys
from collections import Counter

from runner import Runner
from runner.ledger.deadletters import DeadFilter


async def main(reason: str | None = None, batch_name: str | None = None) -> None:
    """Print what was retried, or what could be."""
    async with Runner.open(processes=0) as runner:
        batch_id = (await runner.batch(batch_name)).id if batch_name else None
        if reason is None:
            letters = await runner.dead(DeadFilter(batch_id=batch_id))
            for name, count in Counter(letter.reason for letter in letters).most_common():
                print(f"{count:6}  {name}")
            return
        for document_id in await runner.retry(DeadFilter(batch_id=batch_id, reason=reason)):
            print(document_id)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
