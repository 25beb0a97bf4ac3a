"""Submit the rows of a database query as one batch; safe to repeat, it adds only new rows.

    .venv/bin/python scripts/submit_batch.py app.db "SELECT id, body FROM mails" ticket november

Arguments: SQLite file, query giving (id, text), job, batch name. Workers do the rest.
"""

import asyncio
import sqlite3
import sys
from contextlib import closing

from runner import Runner


async def main(database: str, query: str, job: str, batch_name: str) -> None:
    """Stream the cursor into the batch and print how it stands."""
    # the cursor is read in the submitting thread
    connected = sqlite3.connect(f"file:{database}?mode=ro", uri=True, check_same_thread=False)
    with closing(connected) as connection:
        rows = ((str(row_id), text) for row_id, text in connection.execute(query))
        async with Runner.open(processes=0) as runner:
            batch = await runner.submit(job, rows, batch=batch_name)
            print((await batch.summary()).model_dump_json())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
