"""`runner prune`: drops the texts, requests and answers of documents that ended long ago."""

from collections.abc import Callable

import click

from runner.cli.commands import Command, json_option
from runner.cli.confirming import confirm, yes_option
from runner.cli.idle import somebody_works
from runner.cli.session import Session, pass_session
from runner.cli.shapes.retention import PrunedBodiesShape
from runner.cli.terminal import say, say_json, talk
from runner.cli.wording import age_us, iso, several, short_time, size
from runner.ledger import Ledger
from runner.ledger.pruning import Age, Prunable, prunable
from runner.ledger.space import Space, rewrite, space
from runner.retention import Pruned
from runner.retention import prune as prune_bodies

TELL_EVERY = 10_000  # documents


@click.command(
    cls=Command,
    example=(
        "runner prune --bodies-older-than 90d --dry-run",
        "runner prune --bodies-older-than 90d --yes",
    ),
)
@click.option(
    "--bodies-older-than",
    "older_than",
    metavar="AGE",
    required=True,
    help="Of documents that ended longer ago than this: 90d, 12h, 30m or 1d12h.",
)
@click.option(
    "--dead-too",
    is_flag=True,
    help="Also of dead letters, reviews and audits that wait: they cannot be sent again then.",
)
@click.option(
    "--vacuum/--no-vacuum",
    default=None,
    help="Write the ledger anew to give space to the disk; by default when no worker is running.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be dropped; drop nothing.")
@yes_option
@json_option
@pass_session
def prune(
    session: Session,
    /,
    *,
    older_than: str,
    dead_too: bool,
    vacuum: bool | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Drop the texts, requests and answers of documents that ended long ago.

    Rows, costs, records and errors stay. What a younger document shares stays for it. Workers may
    go on meanwhile; only while the ledger is written anew (--vacuum) they wait.
    """
    with session.ledger() as ledger:
        age = Age(
            before_us=ledger.clock.us() - age_us(older_than, option="--bodies-older-than"),
            dead_too=dead_too,
        )
        with ledger.snapshot() as connection:
            planned = prunable(connection, age)
        talk(_plan_words(planned, age))
        if dry_run:
            shape = _shape(
                age,
                Pruned(planned.documents, planned.calls, stored_bytes=planned.stored_bytes),
                space(ledger),
                dry_run=True,
            )
        else:
            if planned.documents:
                confirm("drop them for good?", yes=yes)
            shape = _prune(session, ledger, age, vacuum=vacuum)
    if as_json:
        say_json(shape)
    else:
        say(_words(shape))


def _prune(session: Session, ledger: Ledger, age: Age, *, vacuum: bool | None) -> PrunedBodiesShape:
    """Drop, then write the ledger anew if that was asked for, or if nobody would wait for it."""
    pruned = prune_bodies(ledger, session.settings.home, age, on_progress=_teller())
    before = space(ledger)
    wanted = not somebody_works(ledger) if vacuum is None else vacuum
    if wanted and (before is None or before.free_bytes):
        rewrite(ledger)
    after = space(ledger)
    return _shape(age, pruned, after, given_back=_less(before, after))


def _teller() -> Callable[[int], None]:
    """Tells of progress, now and then."""
    told = 0

    def tell(documents: int) -> None:
        nonlocal told
        if documents - told >= TELL_EVERY:
            told = documents
            talk(f"{several(documents, 'document')} so far")

    return tell


def _less(before: Space | None, after: Space | None) -> int:
    return 0 if before is None or after is None else before.file_bytes - after.file_bytes


def _shape(
    age: Age,
    pruned: Pruned,
    now: Space | None,
    *,
    given_back: int = 0,
    dry_run: bool = False,
) -> PrunedBodiesShape:
    return PrunedBodiesShape(
        dry_run=dry_run,
        before=iso(age.before_us),
        documents=pruned.documents,
        calls=pruned.calls,
        removed_bytes=pruned.stored_bytes,
        given_back_bytes=given_back,
        free_bytes=0 if now is None else now.free_bytes,
    )


def _plan_words(planned: Prunable, age: Age) -> str:
    spared = "" if age.dead_too else "; dead letters and what waits for a person are spared"
    return (
        f"{several(planned.documents, 'document')} with {several(planned.calls, 'call')} ended "
        f"before {short_time(iso(age.before_us))}: {size(planned.stored_bytes)} of texts, requests "
        f"and answers that nothing else needs{spared}"
    )


def _words(shape: PrunedBodiesShape) -> str:
    if shape.dry_run:
        return "dry run: nothing was dropped"
    rest = ""
    if shape.free_bytes:
        rest = f"; {size(shape.free_bytes)} inside the ledger are free for what comes next"
        rest += "" if shape.given_back_bytes else " (--vacuum gives them to the disk)"
    return (
        f"dropped {size(shape.removed_bytes)} of {several(shape.documents, 'document')}, gave "
        f"{size(shape.given_back_bytes)} back to the disk{rest}"
    )
