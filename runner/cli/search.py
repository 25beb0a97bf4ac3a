"""`runner calls search`: calls by words in their documents, answers, errors and source names."""

from collections.abc import Sequence
from typing import Any

import click

from runner.cli.callfilters import filter_options, wanted_calls
from runner.cli.commands import Command, json_option
from runner.cli.session import Session, pass_session
from runner.cli.shapes.search import HitShape, SearchShape
from runner.cli.tables import Column, say_table
from runner.cli.terminal import say_json, talk
from runner.cli.wording import cost_of_call, several, short_time
from runner.ledger import Ledger
from runner.ledger.foundcalls import found_calls
from runner.search.search import CATCH_UP_MAX_S, Found
from runner.search.search import search as find


@click.command(
    "search",
    cls=Command,
    example=(
        "runner calls search acme --batch june",
        "runner calls search '\"payment terms\"' invo* --error any --since 7d",
    ),
)
@click.argument("words", nargs=-1, required=True)
@filter_options
@click.option(
    "--catch-up-s",
    type=click.FloatRange(0, 3_600),
    default=CATCH_UP_MAX_S,
    show_default=True,
    help="How long new calls are taken into the index first.",
)
@json_option
@pass_session
def search(
    session: Session,
    /,
    *,
    words: tuple[str, ...],
    catch_up_s: float,
    as_json: bool,
    **filters: Any,
) -> None:
    """Find calls by words: in the document, the answer's values, the error, or a source's name.

    WORDS must all stand in one of these: a word, "a phrase" in double quotes, or the beginning of a
    word with * behind it. Case and accents do not matter. The newest calls come first.
    """
    typed = " ".join(words)
    with session.ledger() as ledger:
        wanted = wanted_calls(ledger, filters)
        found = find(ledger, session.settings.home, typed, wanted, catch_up_max_s=catch_up_s)
        shape = SearchShape.of(typed, found, _shapes(ledger, found))
        marked = [None if hit.snippet is None else hit.snippet.marked for hit in found.hits]
    if as_json:
        say_json(shape)
    elif shape.calls:
        _say_hits(shape.calls, marked)
    else:
        talk("no call has these words")
    _tell_lag(shape)


def _shapes(ledger: Ledger, found: Found) -> tuple[HitShape, ...]:
    with ledger.snapshot() as connection:
        calls = found_calls(connection, ((hit.document_id, hit.attempt_id) for hit in found.hits))
    return tuple(HitShape.of(hit, calls[hit.document_id, hit.attempt_id]) for hit in found.hits)


def _say_hits(shapes: Sequence[HitShape], marked: Sequence[str | None]) -> None:
    columns = (
        *(Column("call"), Column("document"), Column("batch"), Column("at"), Column("state")),
        *(Column("fault"), Column("cost", right=True), Column("in"), Column("words", shrinks=True)),
    )
    say_table(
        columns,
        [
            (
                *(one.attempt_id or "none", one.document_id, one.batch, short_time(one.at)),
                *(one.state, one.fault, cost_of_call(one.cost_usd, one.ambiguous_usd)),
                *(one.where, words or "(a very long text)"),
            )
            for one, words in zip(shapes, marked, strict=True)
        ],
    )


def _tell_lag(shape: SearchShape) -> None:
    if shape.behind or not (shape.complete or shape.read_back_to):
        missing = several(shape.behind, "call") if shape.behind else "a few ends of calls or names"
        talk(
            f"the index is {missing} behind: a worker goes on with it, or --catch-up-s 60 takes in "
            "first what is new"
        )
    if shape.read_back_to is not None:
        talk(
            f"only calls since {short_time(shape.read_back_to)} were read: --until, --batch and "
            "the other filters narrow the search"
        )
