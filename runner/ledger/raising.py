"""Alerts that are raised under a key: each is told once, whoever raises it and however often.

One that stands for something that lasts, such as a provider that is out, may be raised anew after
it has been quiet for a while.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from runner.ledger.dialect import insert_new
from runner.ledger.events import note
from runner.ledger.tables import alert

MESSAGE_CHARS_MAX = 1_000

BREAKER_OPEN = "breaker_open"
KEY_PAUSED = "key_paused"
OLD_DOCUMENT = "old_document"
MANY_DEAD = "many_dead"
DRIFT = "drift"
NIGHTLY_FALL = "nightly_fall"
NIGHTLY_FAILED = "nightly_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """What to tell; of all that are raised with one `key`, one is told."""

    kind: str
    key: str
    scope: str  # what it is about, such as `key:…`, `lane:…`, `job:invoice` or `queue`
    message: str
    batch_id: str | None = None


def raise_alert(
    connection: Connection, raised: Raised, *, now_us: int, quiet_us: int | None = None
) -> bool:
    """Let the leader tell this, and note the event; whether that is news.

    It is none while the key was raised before, or within `quiet_us` where that is given.
    """
    here = alert.c.key == raised.key
    message = raised.message[:MESSAGE_CHARS_MAX]
    values = {
        "kind": raised.kind,
        "scope": raised.scope,
        "batch_id": raised.batch_id,
        "message": message,
        "at_us": now_us,
        "waits": True,
    }
    known = connection.execute(select(alert.c.at_us).where(here).with_for_update()).first()
    if known is None:
        insert_new(connection, alert, [{"key": raised.key, **values}])
        # of two that raise it at once, the second one waits there and finds the first one's time
        first_us = connection.execute(select(alert.c.at_us).where(here)).scalar_one()
        is_news = bool(first_us == now_us)
    else:
        is_news = quiet_us is not None and known.at_us <= now_us - quiet_us
        if is_news:
            connection.execute(update(alert).where(here).values(values))
    if is_news:
        note(connection, raised.kind, message, batch_id=raised.batch_id, now_us=now_us)
    return is_news
