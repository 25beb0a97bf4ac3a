"""Print the queue depth as one JSON line, for cron or an autoscaler.

    .venv/bin/python scripts/queue_depth.py

`wanted_workers` is what would empty the queue with 100 documents at once a worker, at most 20.
"""

import asyncio
import json

from runner import Runner

SLOTS = 100
WORKERS_MAX = 20


async def main() -> None:
    """Read the ledger; needs neither Redis nor a worker."""
    async with Runner.open(processes=0) as runner:
        queue = await runner.depth()
    waiting = queue.states["queued"] + queue.states["ready"] - queue.delayed
    print(
        json.dumps(
            {
                "queued": queue.states["queued"],
                "ready": queue.states["ready"],
                "running": queue.states["running"],
                "delayed": queue.delayed,
                "oldest_age_s": queue.oldest_age_s,
                "workers": len(queue.workers),
                "wanted_workers": min(WORKERS_MAX, -(-max(0, waiting) // SLOTS)),
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
