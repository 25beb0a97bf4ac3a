"""What `runner calls search` prints with `--json`."""

from decimal import Decimal
from typing import Self

from runner.budget import nusd_to_usd
from runner.cli.shapes.base import Shape, as_iso, in_usd
from runner.cli.wording import iso
from runner.keys import trace_id
from runner.ledger.foundcalls import FoundCall
from runner.search.finding import Hit
from runner.search.search import Found


class HitShape(Shape):
    """A call that has the words, and where; a document that ended without a call has no attempt."""

    attempt_id: str | None
    document_id: str
    batch: str
    batch_id: str
    job: str
    state: str  # of the document
    source: str  # its first one
    number: int | None
    model: str | None
    prompt: str | None
    fault: str | None
    cost_usd: Decimal | None
    ambiguous_usd: Decimal
    at: str
    where: str  # answer, message, source, text
    snippet: str | None  # null: too much text to look for the place
    marks: tuple[tuple[int, int], ...]  # the hits in the snippet: from, up to, in characters
    trace_id: str

    @classmethod
    def of(cls, hit: Hit, call: FoundCall) -> Self:
        """A hit with what the ledger says of its call."""
        snippet = hit.snippet
        return cls(
            attempt_id=hit.attempt_id,
            document_id=hit.document_id,
            batch=call.batch_name,
            batch_id=call.batch_id,
            job=call.job,
            state=call.state,
            source=call.source,
            number=call.number,
            model=call.model,
            prompt=call.prompt_id,
            fault=call.fault,
            cost_usd=in_usd(call.cost_nusd),
            ambiguous_usd=nusd_to_usd(call.ambiguous_nusd),
            at=iso(call.at_us),
            where=hit.where,
            snippet=None if snippet is None else snippet.text,
            marks=() if snippet is None else snippet.marks,
            trace_id=trace_id(hit.document_id),
        )


class SearchShape(Shape):
    """`calls search`: the newest hits first."""

    words: str
    calls: tuple[HitShape, ...]
    behind: int  # calls that are not in the index yet
    complete: bool  # else ends of calls, dead letters without one or names may be missing too
    read_back_to: str | None  # without an index: older calls were not read

    @classmethod
    def of(cls, words: str, found: Found, calls: tuple[HitShape, ...]) -> Self:
        """What was found."""
        return cls(
            words=words,
            calls=calls,
            behind=found.behind,
            complete=found.is_complete and found.read_back_to_us is None,
            read_back_to=as_iso(found.read_back_to_us),
        )
