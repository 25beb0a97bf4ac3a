"""The end of a turn, written in bulk: its outcome, its record, its money and what it pauses.

Every write carries the lease token of the claim; a stale one changes no row and is answered False.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from runner.ledger.alerts import is_mostly_spent
from runner.ledger.documentrows import finish_documents
from runner.ledger.ends import Finish, fault_of, was_called
from runner.ledger.events import note
from runner.ledger.keypauses import Told, conclude_probes
from runner.ledger.records import write_records
from runner.ledger.settlements import settle_attempts
from runner.ledger.suspicion import Ended, Suspicion, note_configuration_faults
from runner.ledger.tables import batch, document
from runner.ledger.tallying import count_ends
from runner.model import DocumentState, Purpose


def finish(connection: Connection, finishes: Sequence[Finish]) -> list[bool]:
    """Write outcomes, records, money and pauses; False where the lease was lost meanwhile."""
    rows = {
        row.id: row
        for row in connection.execute(
            select(
                document,
                batch.c.state.label("batch_state"),
                batch.c.simulated,
                batch.c.purpose,
                batch.c.alike_fault,
                batch.c.alike_documents_json,
            )
            .join(batch, batch.c.id == document.c.batch_id)
            .where(document.c.id.in_([one.ticket.document_id for one in finishes]))
            .with_for_update()
        )
    }
    # by document: of two ends of one turn in one group, the first one counts
    kept: dict[str, Finish] = {}
    for one in finishes:
        if _holds(one, rows.get(one.ticket.document_id)):
            kept.setdefault(one.ticket.document_id, one)
    if kept:
        _write_ends(connection, list(kept.values()), rows)
    return [kept.get(one.ticket.document_id) is one for one in finishes]


def _write_ends(connection: Connection, kept: Sequence[Finish], rows: Mapping[str, Any]) -> None:
    attempts = settle_attempts(connection, kept, rows)
    states = finish_documents(connection, kept, rows, attempts)
    write_records(connection, kept, rows, attempts)
    count_ends(connection, kept, states=states, rows=rows, attempts=attempts)
    _alert_of_ceilings(connection, kept, rows)
    now_us = kept[0].now_us
    ended = [(rows[one.ticket.document_id], one) for one in kept]
    note_configuration_faults(
        connection,
        [
            Ended(row.id, row.batch_id, one.outcome, one.lane)
            for row, one in ended
            if row.purpose != Purpose.TRY  # it leaves nothing that a pause could spare
        ],
        {row.batch_id: Suspicion.of_batch(row) for row, _ in ended},
        now_us=now_us,
    )
    told = {row.id: Told(fault_of(one.outcome)[0], was_called(one), one.lane) for row, one in ended}
    conclude_probes(connection, told, now_us=now_us)


def _holds(one: Finish, row: Any) -> bool:
    if row is None or row.turn != one.ticket.turn:
        return False
    if one.lease_token is None:
        return bool(row.state == DocumentState.READY)
    return bool(row.state == DocumentState.RUNNING and row.lease_token == one.lease_token)


def _alert_of_ceilings(
    connection: Connection, kept: Sequence[Finish], rows: Mapping[str, Any]
) -> None:
    """Note the call with which a document has spent most of its ceiling: one in each life."""
    for one in kept:
        if one.ceiling_nusd is None or one.settlement is None:
            continue
        row, settlement = rows[one.ticket.document_id], one.settlement
        before_nusd = row.cost_nusd + row.ambiguous_nusd - row.spent_before_nusd
        spent_nusd = before_nusd + (settlement.cost_nusd or 0) + settlement.ambiguous_nusd
        if is_mostly_spent(spent_nusd, one.ceiling_nusd) and not is_mostly_spent(
            before_nusd, one.ceiling_nusd
        ):
            note(
                connection,
                "ceiling_alert",
                f"{spent_nusd / 1e9:.6f} of its ceiling of {one.ceiling_nusd / 1e9:.6f} USD spent",
                batch_id=row.batch_id,
                document_id=row.id,
                now_us=one.now_us,
            )
