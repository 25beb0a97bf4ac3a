"""Identifiers and every Redis key of the runner, born here and nowhere else.

Redis keys (all hold ids, numbers or JSON of ids; never text of a document):

| key | type | TTL | written by |
|---|---|---|---|
| `arq:queue:<ledger>` | zset id → score | none | feeder, worker; arq removes finished ids |
| `arq:job:<ledger>:<document>:<turn>` | string, JSON payload | 24 h | feeder; arq deletes |
| `arq:in-progress:<ledger>:<document>:<turn>` | string | job timeout + 10 s | arq |
| `arq:retry:<ledger>:<document>:<turn>` | string | 1 day | arq |
| `arq:queue:<ledger>:health-check` | string | seconds | arq |
| `lane:<ledger>:<lane>` | hash, a calendar's state | 24 h unused | `calendar.lua`, `tune.lua` |
| `lane:<ledger>:<lane>:slots` | hash slot → what starts in it | 24 h unused | `calendar.lua` |
| `lane:<ledger>:<lane>:crew` | hash process → its share | 24 h unused | `calendar.lua` |
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [first + second for first in _BASE32 for second in _BASE32]
_SHIFTS = tuple(range(110, -1, -10))
_random = Random()  # noqa: S311 - identifiers, not secrets; seeded by the operating system


def content_digest(content: bytes) -> bytes:
    """SHA-256 of `content`, 32 bytes: the name of a blob."""
    return hashlib.sha256(content).digest()


def _short(prefix: str, *parts: bytes) -> str:
    return prefix + _base32(_digest_of(*parts).digest())


def _digest_of(*parts: bytes) -> "hashlib.blake2b":
    digest = hashlib.blake2b(digest_size=15)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest


def _base32(digest: bytes) -> str:
    """15 bytes in base 32, as `base64.b32encode` gives them but in lower case; thrice as fast."""
    whole = int.from_bytes(digest, "big")
    return "".join([_PAIRS[whole >> shift & 1023] for shift in _SHIFTS])


def document_ids(batch_id: str) -> Callable[[bytes], str]:
    """What tells the id of a content in one batch: `d` and 24 base-32 characters."""
    of_batch = _digest_of(batch_id.encode())

    def document_id(content: bytes) -> str:
        digest = of_batch.copy()
        digest.update(len(content).to_bytes(8, "big"))
        digest.update(content)
        return "d" + _base32(digest.digest())

    return document_id


def batch_key(*parts: str) -> str:
    """The idempotency key of a submission: equal parts (job, inputs, options) give an equal key."""
    return _short("k", *(part.encode() for part in parts))


def alert_key(kind: str, *about: str) -> str:
    """The key of an alert of this kind about these things."""
    return f"{kind}:{_short('', *(part.encode() for part in about))}"


def key_id(*, url: str, key: str) -> str:
    """The id of an API key at one base URL; it does not tell the key."""
    return _short("y", url.encode(), key.encode())


def lane_id(*, url: str, key: str, model: str) -> str:
    """The id of one model at one base URL with one key; it does not tell the key."""
    return _short("n", url.encode(), key.encode(), model.encode())


def part_of_hundred(name: str, *, salt: str) -> float:
    """Where this name falls in 0 ≤ x < 100: always the same, evenly spread, apart for each salt."""
    digest = hashlib.blake2b(name.encode(), digest_size=7, person=salt.encode()[:16]).digest()
    return int.from_bytes(digest, "big") / 2**56 * 100


def trace_id(document: str) -> str:
    """The W3C trace id (32 hexadecimal digits) that links every call of a document."""
    return hashlib.blake2b(document.encode(), digest_size=16).hexdigest()


def _ulid(now_ms: int, rng: Random) -> str:
    return _encode((now_ms << 80) | rng.getrandbits(80))


def _encode(value: int) -> str:
    return "".join(_CROCKFORD[(value >> shift) & 31] for shift in range(125, -1, -5))


def new_id(prefix: str, *, clock_s: Callable[[], float] = time.time, rng: Random = _random) -> str:
    """A new id: the prefix and a lower-case ULID (sorts by time of birth)."""
    return prefix + _ulid(int(clock_s() * 1000), rng)


def first_id(prefix: str, *, at_us: int) -> str:
    """No id with this prefix that was made at `at_us` or later sorts before this one."""
    return prefix + _encode(max(0, at_us // 1000) << 80)


def queue_name(ledger_id: str) -> str:
    """The arq queue of one ledger."""
    return f"arq:queue:{ledger_id}"


def calendar_keys(ledger_id: str, lane: str) -> tuple[str, str, str]:
    """The keys of one lane's calendar: its state, its slots, its crew."""
    state = f"lane:{ledger_id}:{lane}"
    return state, f"{state}:slots", f"{state}:crew"


@dataclass(frozen=True, slots=True)
class Ticket:
    """A document's place on the road: valid while the ledger's turn equals this one."""

    document_id: str
    turn: int

    def arq_id(self, ledger_id: str) -> str:
        """The arq job id of this ticket."""
        return f"{ledger_id}:{self.document_id}:{self.turn}"

    @classmethod
    def from_arq_id(cls, arq_id: str) -> "Ticket":
        """The ticket behind an arq job id; raises ValueError when it is none of ours."""
        _, document, turn = arq_id.split(":")
        return cls(document, int(turn))
