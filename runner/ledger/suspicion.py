"""Outcomes whose cause is not the document's: they pause its batch, or the key it is called by."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, update

from runner.lanes import Lane
from runner.ledger.keypauses import pause_key
from runner.ledger.pausing import pause_batch
from runner.ledger.tables import batch, document
from runner.model import (
    OPEN_STATES,
    Again,
    Dead,
    Done,
    Failure,
    Fault,
    Outcome,
    Pauses,
    Unconfirmed,
)

ALIKE_PAUSES_AT = 3  # distinct documents in succession; see the failure table in ARCHITECTURE.md


@dataclass(frozen=True, slots=True)
class Ended:
    """The outcome of one document of a batch."""

    document_id: str
    batch_id: str
    outcome: Outcome
    lane: Lane | None = None  # who was, or would have been, asked


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A fault that points at a batch's configuration, and whom it hit with no success between."""

    fault: str | None = None
    documents: tuple[str, ...] = ()  # distinct, at most ALIKE_PAUSES_AT

    @classmethod
    def of_batch(cls, row: Any) -> "Suspicion":
        """What the columns of a batch say."""
        return cls(row.alike_fault, tuple(json.loads(row.alike_documents_json or "[]")))

    def grown(self, fault: Fault, document_id: str) -> "Suspicion":
        """After one more document failed with this fault."""
        known = self.documents if self.fault == fault else ()
        distinct = dict.fromkeys((*known, document_id))
        return Suspicion(fault, tuple(distinct)[-ALIKE_PAUSES_AT:])


def note_configuration_faults(
    connection: Connection,
    ended: Sequence[Ended],
    suspicions: Mapping[str, Suspicion],
    *,
    now_us: int,
) -> None:
    """Pause what the outcomes point at, batches or keys; a success clears the suspicion.

    `suspicions` are those that stood in each batch before these outcomes, which are taken in order.
    """
    present = dict(suspicions)
    for one in ended:
        match one.outcome:
            case Done() | Unconfirmed():
                present[one.batch_id] = Suspicion()
            case Again(pauses=Pauses() as pauses, failure=failure):
                _pause(connection, one, pauses, failure, now_us=now_us)
            case (
                Again(alike_pauses=True, failure=failure) | Dead(alike_pauses=True, failure=failure)
            ):
                suspicion = present[one.batch_id].grown(failure.fault, one.document_id)
                present[one.batch_id] = suspicion
                if _is_enough(connection, one, suspicion):
                    why = (
                        f"{len(suspicion.documents)} documents in succession failed alike "
                        f"({failure.fault}): {failure.message}"
                    )
                    pause_batch(connection, one.batch_id, why, now_us=now_us)
            case _:
                continue
    for batch_id, suspicion in present.items():
        if suspicion != suspicions[batch_id]:
            _write(connection, batch_id, suspicion)


def _pause(
    connection: Connection, one: Ended, pauses: Pauses, failure: Failure, *, now_us: int
) -> None:
    if pauses is Pauses.BATCH or one.lane is None:
        pause_batch(connection, one.batch_id, failure.message, now_us=now_us)
    else:
        pause_key(
            connection,
            one.batch_id,
            lane=one.lane,
            pauses=pauses,
            failure=failure,
            now_us=now_us,
        )


def _is_enough(connection: Connection, one: Ended, suspicion: Suspicion) -> bool:
    still_open = _open_documents(connection, one.batch_id)
    if not still_open:
        return False  # nothing is left that a pause could spare
    # A batch with fewer open documents would never see that many fail in succession. A dead one is
    # open no more: it must not make its neighbours look like the last ones.
    again = isinstance(one.outcome, Again)
    needed = min(ALIKE_PAUSES_AT, still_open) if again else ALIKE_PAUSES_AT
    return len(suspicion.documents) >= needed


def _write(connection: Connection, batch_id: str, suspicion: Suspicion) -> None:
    documents = json.dumps(suspicion.documents) if suspicion.documents else None
    connection.execute(
        update(batch)
        .where(batch.c.id == batch_id)
        .values(alike_fault=suspicion.fault, alike_documents_json=documents)
    )


def _open_documents(connection: Connection, batch_id: str) -> int:
    """How many documents of a batch have not ended, counted up to ALIKE_PAUSES_AT."""
    some = (
        select(document.c.id)
        .where(document.c.batch_id == batch_id, document.c.state.in_(OPEN_STATES))
        .limit(ALIKE_PAUSES_AT)
        .subquery()
    )
    return int(connection.execute(select(func.count()).select_from(some)).scalar_one())
