"""What a process has to report of a lane: corrections of the calendar, and how calls ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from runner.limiter.alone import REFUSED_S
from runner.limiter.calendar import Correction, Heard, Kind, Report
from runner.limiter.grants import Ended, Ending, Grant


@dataclass(slots=True)
class Notes:
    """What is to be reported next."""

    corrections: list[Correction] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    done: int = 0
    work: int = 0

    def report(self, seq: int) -> Report:
        """All of it under one number."""
        return Report(
            seq=seq,
            corrections=self.corrections,
            heard=self.heard,
            done=self.done,
            work=self.work,
        )

    @property
    def tell_of_a_refusal(self) -> bool:
        """Whether there is a pause that the calendar has not heard of."""
        return any(one.kind in (Kind.REFUSED, Kind.SLOW) for one in self.heard)

    def __bool__(self) -> bool:
        return bool(self.corrections or self.heard or self.done)

    def take_back(self, start_us: int, *, tokens: int) -> None:
        """What was to start then does not."""
        self.corrections.append(Correction(start_us, -1, -tokens))

    def move(self, grant: Grant, *, from_us: int, to_us: int) -> None:
        """A call begins at another moment than it was given."""
        self.take_back(from_us, tokens=grant.tokens)
        self.corrections.append(Correction(to_us, 1, grant.tokens))

    def correct(self, start_us: int, grant: Grant, ending: Ending) -> None:
        """Count a call at what it used; what may count at the provider stays as expected."""
        match ending.how:
            case Ended.TAKEN_BACK | Ended.NO_CONNECTION | Ended.REFUSED | Ended.SLOW_DOWN:
                self.take_back(start_us, tokens=grant.tokens)
            case Ended.ANSWERED if ending.used_tokens is not None:
                more = ending.used_tokens - grant.tokens
                if more:
                    self.corrections.append(Correction(start_us, 0, more))
            case _:
                pass

    def hear(self, start_us: int, grant: Grant, ending: Ending) -> None:
        """Note what the end of a call says of its lane."""
        match ending.how:
            case Ended.ANSWERED:
                self.heard.append(Heard(Kind.OK, start_us))
                self.done += 1
                self.work += ending.used_tokens or grant.tokens
            case Ended.FAILED | Ended.NO_CONNECTION:
                self.heard.append(Heard(Kind.FAILED, start_us))
            case Ended.REFUSED | Ended.SLOW_DOWN:
                kind = Kind.REFUSED if ending.how is Ended.REFUSED else Kind.SLOW
                self.heard.append(Heard(kind, start_us, round(pause_s(ending) * 1e6)))
            case Ended.TAKEN_BACK | Ended.CUT_OFF:
                pass


def pause_s(ending: Ending) -> float:
    """How long nothing starts after a refusal."""
    return REFUSED_S if ending.retry_after_s is None else ending.retry_after_s


def told_limits(headers: Mapping[str, str]) -> dict[str, int]:
    """Requests and tokens a minute, as the provider says; what makes no sense is not there."""
    told: dict[str, int] = {}
    for name in ("requests", "tokens"):
        value = headers.get(f"x-ratelimit-limit-{name}", "").strip()
        if value.isascii() and value.isdigit() and int(value[:12]) > 0:
            told[name] = int(value[:12])
    return told
