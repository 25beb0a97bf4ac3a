"""What most people write: AsyncOpenAI, a semaphore, asyncio.gather. Arguments: documents, slots."""

import asyncio
import json
import sys
from pathlib import Path

from openai import AsyncOpenAI

from schemas.invoice import Invoice


async def main(documents: list[tuple[str, str]], slots: int) -> None:
    """Extract every document; fail when one is not extracted."""
    gate = asyncio.Semaphore(slots)
    client = AsyncOpenAI()

    async def extract(text: str) -> Invoice:
        async with gate:
            completion = await client.chat.completions.parse(
                model="gpt-5-mini",
                messages=[
                    {"role": "system", "content": "Extract the invoice."},
                    {"role": "user", "content": f"<document>\n{text}\n</document>"},
                ],
                response_format=Invoice,
            )
            parsed = completion.choices[0].message.parsed
            assert parsed is not None
            return parsed

    invoices = await asyncio.gather(*(extract(text) for _, text in documents))
    assert len(invoices) == len(documents)


asyncio.run(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), int(sys.argv[2])))
