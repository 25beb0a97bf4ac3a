"""Which version a prompt id was called by when documents were submitted or evaluated with it."""

from sqlalchemy import Connection, select

from runner.canary import Canary
from runner.ledger.secondreads import read_second_pin
from runner.ledger.tables import batch, eval_run


def prompt_versions(connection: Connection) -> dict[str, str]:
    """The version of every prompt id that a batch pins, or that was evaluated."""
    evaluated = select(eval_run.c.prompt_id, eval_run.c.prompt_version).distinct()
    found = {row.prompt_id: row.prompt_version for row in connection.execute(evaluated)}
    pinned = select(
        batch.c.prompt_id, batch.c.prompt_version, batch.c.canary_json, batch.c.second_read_json
    ).distinct()
    for row in connection.execute(pinned):
        found[row.prompt_id] = row.prompt_version
        if row.canary_json is not None:
            canary = Canary.model_validate_json(row.canary_json)
            found[canary.prompt_id] = canary.version
        if (second := read_second_pin(row.second_read_json)) is not None:
            found[second.prompt_id] = second.prompt_version
    return found
