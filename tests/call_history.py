"""A home whose calls say something: for tests of searching, pruning and erasing."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zstandard
from sqlalchemy import text

from runner.ledger.callfilters import CallFilter
from runner.ledger.sweeping import REMOVED
from runner.ledger.tables import metadata
from runner.ledger.workers import WorkerRow
from runner.model import Dead, Done, Failure, Fault, Outcome
from runner.search.search import Found, search
from tests.command_lines import Ended, call
from tests.ledgers import Lease, World, open_world

INVALID = Dead("schema_invalid", Failure(Fault.SCHEMA_INVALID, 'total: not a decimal; got "abc"'))

CATCH_UP_S = 60.0  # however busy the machine is
SEARCH = ("calls", "search", "--catch-up-s", f"{CATCH_UP_S}")


class Calls(World):
    """A world whose calls say something."""

    home: Path
    me: WorkerRow

    def says(self, text: str, data: Any, outcome: Outcome | None = None) -> Lease:
        """Submit a document, answer its call with this data, and end it."""
        batch = self.batch()
        self.add(batch, text, first_position=self.now_us)
        lease = self.call_for()
        self.store(lease, completion(data))
        self.finish(lease, outcome or Done(json.dumps(data)))
        return lease

    def command(self, *arguments: str) -> Ended:
        """Call a command over this home."""
        return call(*arguments, home=self.home)

    def json(self, *arguments: str) -> Any:
        """What a command prints with --json; it must end well."""
        ended = self.command(*arguments, "--json")
        assert ended.code == 0, ended.err
        return ended.json()

    def lost_bodies(self) -> list[str]:
        """References to bodies that are not there."""
        with self.ledger.snapshot() as connection:
            return [
                f"{table}.{column} of {row.id}"
                for table, column in (
                    ("document", "text_digest"),
                    ("attempt", "request_head_digest"),
                    ("attempt", "request_tail_digest"),
                    ("attempt", "answer_digest"),
                )
                for row in connection.execute(
                    text(
                        f"SELECT id FROM {table} WHERE {column} IS NOT NULL "
                        f"AND {column} <> :removed AND {column} NOT IN (SELECT digest FROM blob)"
                    ),
                    {"removed": REMOVED},
                )
            ]

    def everything(self) -> str:
        """All that the ledger says, bodies unpacked."""
        said: list[str] = []
        with self.ledger.snapshot() as connection:
            for table in metadata.sorted_tables:
                for row in connection.execute(table.select()).mappings():
                    said += map(str, row.values())
                    if table.name == "blob":
                        said.append(zstandard.decompress(row["zstd"]).decode("utf-8", "replace"))
        return "\n".join(said)

    def call_for(self) -> Lease:
        """Begin the call of the one document that waits."""
        (ticket,) = self.feed(self.me)
        return self.claim(ticket, self.me)

    def find(self, words: str, **wanted: Any) -> Found:
        """Search as the command does."""
        return search(
            self.ledger, self.home, words, CallFilter(**wanted), catch_up_max_s=CATCH_UP_S
        )

    def ids(self, words: str, **wanted: Any) -> list[str | None]:
        """Attempt ids, newest first."""
        return [hit.attempt_id for hit in self.find(words, **wanted).hits]


def completion(data: Any) -> bytes:
    """An answer whose content is this data, or these words."""
    content = data if isinstance(data, str) else json.dumps(data)
    message = {"role": "assistant", "content": content}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    return json.dumps({"id": "chatcmpl-1", "choices": choices, "usage": usage}).encode()


@contextmanager
def open_calls(folder: Path) -> Iterator[Calls]:
    """A home with a worker that leads; at its end it balances and no body it needs is gone."""
    with open_world(folder) as found:
        calls = Calls(found.ledger)
        calls.home = folder / "home"
        calls.home.mkdir(exist_ok=True)
        calls.me = calls.worker()
        yield calls
        assert calls.lost_bodies() == []
