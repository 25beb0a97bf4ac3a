"""The test provider's own ledger: one entry a request, with tokens, and cost by its own arithmetic.

Cost is (uncached input x input price + cached x cached price + output x output price), added up
exactly as fractions and rounded half to even to the nano-dollar, once a call.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Self, TextIO

NUSD_PER_USD = 1_000_000_000
TOKENS_PER_MTOK = 1_000_000


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one call; cached ones are part of prompt, reasoning ones part of completion."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Prices:
    """What a call is billed at, as whole numbers: nano-dollars a token are `rate / divisor`."""

    input_rate: int = 0
    cached_rate: int = 0
    output_rate: int = 0
    divisor: int = 1

    @classmethod
    def per_mtok(
        cls, *, input_usd: str = "0", cached_usd: str | None = None, output_usd: str = "0"
    ) -> Self:
        """Prices from decimal texts in US dollars per million tokens; cached defaults to input.

        Raises ValueError when a text is not a number or below 0.
        """
        usd = [Fraction(input_usd), Fraction(cached_usd or input_usd), Fraction(output_usd)]
        if min(usd) < 0:
            raise ValueError(f"a price is below 0: {input_usd}, {cached_usd}, {output_usd}")
        rates = [price * NUSD_PER_USD / TOKENS_PER_MTOK for price in usd]
        divisor = lcm(*(rate.denominator for rate in rates))
        input_rate, cached_rate, output_rate = (int(rate * divisor) for rate in rates)
        return cls(input_rate, cached_rate, output_rate, divisor)

    def cost_nusd(self, tokens: Tokens) -> int:
        """The price of one call in nano-dollars, rounded half to even."""
        exact = (
            (tokens.prompt - tokens.cached) * self.input_rate
            + tokens.cached * self.cached_rate
            + tokens.completion * self.output_rate
        )
        whole, rest = divmod(exact, self.divisor)
        above_half = 2 * rest > self.divisor or (2 * rest == self.divisor and whole % 2 == 1)
        return whole + above_half


@dataclass(frozen=True, slots=True)
class Entry:
    """One request to /v1/chat/completions as the provider saw it.

    `received_s`, `begun_s` and `finished_s` are the machine's monotonic clock, comparable between
    processes. `begun_s` is when its latency began: None while it waits for a place, and for good
    when it never had one. `finished_s` is None while the request is in flight. `cost_nusd` is what
    is billed: 0 unless `paid`. `answered`: the whole body went into an open connection.
    `usage_sent`: the client could read the token counts from what went out.
    """

    seq: int
    received_s: float
    attempt_id: str | None = None  # the X-Runner-Attempt header
    key_id: str | None = None  # 8 hexadecimal digits of the API key's SHA-256
    document_key: str | None = None
    nth: int = 0  # how often this document has now been seen, refused requests included
    model: str | None = None
    begun_s: float | None = None
    finished_s: float | None = None
    status: int | None = None  # None: no status line was sent
    fault: str | None = None  # the injected fault, by name
    altered: str | None = None  # the path of the value that a fault changed
    over_limit: bool = False  # refused by the rolling window
    admitted: bool = False  # let in: the key, the model and the limits had nothing against it
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nusd: int = 0
    answered: bool = False
    usage_sent: bool = False
    paid: bool = False

    def to_json(self) -> str:
        """One line of JSON, without the line's end."""
        return json.dumps({name: getattr(self, name) for name in _ENTRY_FIELDS})

    @classmethod
    def from_json(cls, line: str) -> Self:
        """The entry that `to_json` wrote."""
        return cls(**json.loads(line))


_ENTRY_FIELDS = tuple(part.name for part in fields(Entry))


@dataclass(frozen=True, slots=True)
class Summary:
    """The book added up; `by_status` counts "none" where no status line was sent.

    The two times are the monotonic clock's; None without a request, or before one has finished.
    """

    requests: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    peak_waiting: int = 0  # for a place
    documents: int = 0  # distinct
    documents_paid: int = 0  # distinct
    admitted: int = 0
    over_limit: int = 0
    first_received_s: float | None = None
    last_finished_s: float | None = None
    answered: int = 0
    paid: int = 0
    cost_nusd: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    by_status: Mapping[str, int] = field(default_factory=dict)
    by_fault: Mapping[str, int] = field(default_factory=dict)
    cpu_s: float = 0.0  # of the provider's process since its start

    @property
    def repeated_paid(self) -> int:
        """Paid calls beyond the first for their document."""
        return self.paid - self.documents_paid

    def to_json(self) -> str:
        """The summary as one JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The summary that `to_json` wrote."""
        return cls(**json.loads(text))


class Book:
    """All entries in the order of arrival; appended to `path`, if given, as each one finishes."""

    def __init__(self, *, path: Path | None = None) -> None:
        self._entries: dict[int, Entry] = {}
        self._open: set[int] = set()
        self._waiting: set[int] = set()
        self._peak_in_flight = 0
        self._peak_waiting = 0
        self._file: TextIO | None = path.open("a", encoding="utf-8", buffering=1) if path else None

    def open(self, entry: Entry) -> None:
        """Note a request as in flight."""
        self._entries[entry.seq] = entry
        self._open.add(entry.seq)
        self._peak_in_flight = max(self._peak_in_flight, len(self._open))

    def wait(self, seq: int) -> None:
        """Note that a request stands in line for a place."""
        if seq in self._open:
            self._waiting.add(seq)
            self._peak_waiting = max(self._peak_waiting, len(self._waiting))

    def begin(self, seq: int, *, begun_s: float) -> None:
        """Note that a request has a place."""
        if seq in self._open:
            self._waiting.discard(seq)
            self._entries[seq] = replace(self._entries[seq], begun_s=begun_s)

    def finish(self, seq: int, *, finished_s: float, answered: bool) -> None:
        """Note how a request ended; one that `clear` removed meanwhile stays removed."""
        if seq not in self._open:
            return
        self._open.remove(seq)
        self._waiting.discard(seq)
        entry = self._entries[seq]
        ended = replace(
            entry,
            finished_s=finished_s,
            answered=answered,
            usage_sent=entry.usage_sent and answered,
        )
        self._entries[seq] = ended
        if self._file:
            self._file.write(ended.to_json() + "\n")

    def entries(self) -> Iterable[Entry]:
        """Every entry, in the order of arrival."""
        return self._entries.values()

    def clear(self) -> None:
        """Forget every entry, also those in flight; the file keeps what it has."""
        self._entries.clear()
        self._open.clear()
        self._waiting.clear()
        self._peak_in_flight = self._peak_waiting = 0

    def close(self) -> None:
        """Close the file; nothing may be noted afterwards."""
        if self._file:
            self._file.close()

    def summary(self, *, cpu_s: float = 0.0) -> Summary:
        """Add up the book."""
        entries = list(self._entries.values())
        paid = [entry for entry in entries if entry.paid]
        finished = [entry.finished_s for entry in entries if entry.finished_s is not None]
        return Summary(
            requests=len(entries),
            in_flight=len(self._open),
            peak_in_flight=self._peak_in_flight,
            peak_waiting=self._peak_waiting,
            documents=len({entry.document_key for entry in entries} - {None}),
            documents_paid=len({entry.document_key for entry in paid}),
            admitted=sum(entry.admitted for entry in entries),
            over_limit=sum(entry.over_limit for entry in entries),
            first_received_s=min((entry.received_s for entry in entries), default=None),
            last_finished_s=max(finished, default=None),
            answered=sum(entry.answered for entry in entries),
            paid=len(paid),
            cost_nusd=sum(entry.cost_nusd for entry in entries),
            prompt_tokens=sum(entry.prompt_tokens for entry in entries),
            cached_tokens=sum(entry.cached_tokens for entry in entries),
            completion_tokens=sum(entry.completion_tokens for entry in entries),
            reasoning_tokens=sum(entry.reasoning_tokens for entry in entries),
            by_status=dict(Counter(str(entry.status or "none") for entry in entries)),
            by_fault=dict(Counter(entry.fault for entry in entries if entry.fault)),
            cpu_s=cpu_s,
        )
