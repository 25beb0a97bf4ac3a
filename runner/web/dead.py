"""Dead letters: grouped by what went wrong, looked through, and retried, the price shown first."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlencode

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from runner import batches
from runner.errors import UsageError
from runner.ledger import Ledger
from runner.ledger.deadletters import DeadFilter, DeadGroup, group_dead, list_dead
from runner.ledger.standing import all_batches
from runner.ledger.submission import Batch, find_batch
from runner.ledger.workers import living
from runner.model import BatchState
from runner.pinned import PinnedJobs
from runner.pricing import Estimate, price_retry
from runner.web.ages import AGES_S, since_us
from runner.web.desk import desk_of, done, form_of, look, page, work
from runner.web.forms import Form
from runner.wording import several

PAGE = 100
PAGES_MAX = 10_000
BATCHES_MAX = 200  # to choose from


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which dead letters a person means, as an address or a form says it; empty: whichever."""

    batch: str = ""
    reason: str = ""
    signature: str | None = None  # a group's may be empty
    grep: str = ""
    since: str = ""
    seen_us: str = ""  # those that had died by then
    documents: tuple[str, ...] = ()

    @classmethod
    def of(cls, form: Form) -> Self:
        """What these fields ask for."""
        names = {name for name, _ in form.pairs}
        return cls(
            batch=form.one("batch"),
            reason=form.one("reason"),
            signature=form.one("signature") if "signature" in names else None,
            grep=form.one("grep"),
            since=form.one("since"),
            seen_us=form.one("seen_us"),
            documents=form.all("document"),
        )

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The same as fields again."""
        pairs = [(name, getattr(self, name)) for name in ("batch", "reason", "grep", "since")]
        fields = [(name, value) for name, value in (*pairs, ("seen_us", self.seen_us)) if value]
        if self.signature is not None:
            fields.append(("signature", self.signature))
        return [*fields, *(("document", one) for one in self.documents)]

    @property
    def query(self) -> str:
        """The same as the end of an address."""
        return urlencode(self.fields)

    def wanted(self, *, now_us: int, limit: int | None = None, skip: int = 0) -> DeadFilter:
        """The same for the ledger."""
        return DeadFilter(
            batch_id=self.batch or None,
            reason=self.reason or None,
            signature=self.signature,
            grep=self.grep or None,
            since_us=since_us(self.since, now_us=now_us),
            until_us=int(self.seen_us) if self.seen_us.isdecimal() else None,
            document_ids=self.documents,
            limit=limit,
            skip=skip,
        )


def _asked(request: Request) -> Asked:
    return Asked.of(Form(request.query_params.multi_items()))


async def groups(request: Request) -> Response:
    """Dead letters by what went wrong, the largest group first."""
    asked, now_us = _asked(request), desk_of(request).ledger.clock.us()

    def read(connection: Connection) -> tuple[list[DeadGroup], list[Batch]]:
        wanted = asked.wanted(now_us=now_us)
        return group_dead(connection, wanted), all_batches(connection, limit=BATCHES_MAX)

    found, some = await look(request, read)
    return page(request, "dead.html", asked=asked, groups=found, batches=some, ages=list(AGES_S))


async def letters(request: Request) -> Response:
    """Dead letters one by one, the newest first."""
    asked, now_us = _asked(request), desk_of(request).ledger.clock.us()
    typed = request.query_params.get("page", "0")
    number = min(int(typed), PAGES_MAX) if typed.isdecimal() else 0
    # one more than is shown tells whether there is another page
    wanted = asked.wanted(now_us=now_us, limit=PAGE + 1, skip=number * PAGE)
    found = await look(request, lambda connection: list_dead(connection, wanted))
    return page(
        request,
        "letters.html",
        asked=asked,
        letters=found[:PAGE],
        number=number,
        has_more=len(found) > PAGE,
    )


async def ask_to_retry(request: Request) -> Response:
    """What a retry would cost, and the button that does it."""
    desk, params = desk_of(request), request.query_params
    now_us = desk.ledger.clock.us()
    asked = Asked.of(Form([*params.multi_items(), ("seen_us", str(now_us))]))
    if "chosen" in params and not asked.documents:
        raise UsageError("no dead letter is chosen: mark some in the list, or retry all of them")
    prompt, models = params.get("prompt", "").strip(), _models(params.get("models", ""))

    def price() -> Estimate:
        with desk.ledger.snapshot() as connection:
            found = list_dead(connection, asked.wanted(now_us=now_us))
        return price_retry(desk.settings, desk.ledger, found, prompt=prompt or None, models=models)

    trouble, estimate = "", None
    try:
        estimate = await work(price)
    except UsageError as error:  # of the prompt or the model that was asked for
        trouble = str(error)
    return page(
        request,
        "retry.html",
        asked=asked,
        estimate=estimate,
        trouble=trouble,
        prompt=prompt,
        models=", ".join(models),
        known_models=sorted(desk.settings.models),
    )


async def retry(request: Request) -> Response:
    """Queue dead letters again, once however many ask."""
    desk, form = desk_of(request), form_of(request)
    wanted = Asked.of(form).wanted(now_us=desk.ledger.clock.us())

    def do() -> str:
        with desk.ledger.snapshot() as connection:
            batch_ids = {letter.batch_id for letter in list_dead(connection, wanted)}
        retried = batches.retry(
            desk.ledger,
            wanted,
            jobs=PinnedJobs(desk.settings.job_folders),
            prompt=form.one("prompt") or None,
            models=_models(form.one("models")),
        )
        if not retried:
            return "nothing was queued: these have no text to send, or were queued again before"
        words = f"{several(len(retried), 'document')} queued again"
        return words + _hindrances(desk.ledger, batch_ids)

    return done(request, "/dead", await work(do))


def _models(typed: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in typed.split(",") if one.strip())


def _hindrances(ledger: Ledger, batch_ids: Iterable[str]) -> str:
    """Why documents of these batches will wait all the same, if they will."""
    with ledger.snapshot() as connection:
        words = "" if living(connection) else "; no worker is running"
        found = [find_batch(connection, one) for one in sorted(batch_ids)]
    paused = [one.name for one in found if one is not None and one.state is BatchState.PAUSED]
    return words + (f"; paused: {', '.join(paused)}" if paused else "")
