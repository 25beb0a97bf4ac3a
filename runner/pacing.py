"""Paces calls: expects their tokens, waits for their start, tells the limiter how they ended."""

from dataclasses import dataclass, replace

from runner.completion import Reading
from runner.lanes import Lane
from runner.limiter import CUT_OFF, TAKEN_BACK, Ended, Ending, Grant, Limiter, Postponed
from runner.meter import Request, TokenMeter
from runner.model import PROVIDER_FAULTS, Failure, Fault, RawAnswer, Unanswered
from runner.prepare import Prepared

_ENDED_BY = {
    Fault.RATE_LIMITED: Ended.REFUSED,
    Fault.RAMPED_TOO_FAST: Ended.SLOW_DOWN,
    **dict.fromkeys(PROVIDER_FAULTS, Ended.FAILED),
    Fault.NOT_SENT: Ended.NO_CONNECTION,
}


@dataclass(frozen=True, slots=True)
class Paced:
    """A call that may start at its grant's moment; ends with `hear`, `hear_nothing` or `drop`."""

    grant: Grant
    request: Request


class Pacer:
    """One process's way to the limiter."""

    def __init__(self, limiter: Limiter, *, meter: TokenMeter | None = None) -> None:
        self._limiter = limiter
        self._meter = meter or TokenMeter()

    async def acquire(
        self, lane: Lane, prepared: Prepared, *, job: str, retry: bool
    ) -> Paced | Postponed:
        """Wait until the call may soon start; see `Limiter.acquire`. Raises OverLimitError."""
        request = Request(
            job=job,
            model=prepared.model,
            body_bytes=len(prepared.body),
            input_tokens=prepared.input_tokens,
            exact=prepared.input_exact,
            output_max_tokens=prepared.max_output_tokens,
        )
        expected = self._meter.expect(request)
        granted = await self._limiter.acquire(
            lane, tokens=expected.tokens, spare=expected.spare, retry=retry
        )
        return granted if isinstance(granted, Postponed) else Paced(granted, request)

    async def until_start(self, paced: Paced) -> None:
        """Wait for the exact moment of its start."""
        await self._limiter.until_start(paced.grant)

    async def hear(self, paced: Paced, answer: RawAnswer, reading: Reading) -> Reading:
        """An answer came; its reading, with the failure marked when the provider is out."""
        self._learn(paced.request, reading)
        self._limiter.end(paced.grant, _ending(answer, reading))
        if reading.failure is None:
            return reading
        return replace(reading, failure=await self._marked(paced.grant.lane, reading.failure))

    async def hear_nothing(self, paced: Paced, unanswered: Unanswered) -> Failure:
        """No answer came; the failure, marked when the provider is out."""
        failure = Failure(unanswered.fault, unanswered.message)
        self._limiter.end(paced.grant, Ending(how=_ENDED_BY[unanswered.fault]))
        return await self._marked(paced.grant.lane, failure)

    def drop(self, paced: Paced, *, sent: bool) -> None:
        """The call was cut off by ourselves; changes nothing when its end is known already."""
        self._limiter.end(paced.grant, CUT_OFF if sent else TAKEN_BACK)

    async def _marked(self, lane: Lane, failure: Failure) -> Failure:
        if failure.fault not in PROVIDER_FAULTS:
            return failure
        return replace(failure, outage=await self._limiter.is_out(lane))

    def _learn(self, request: Request, reading: Reading) -> None:
        completion = reading.completion
        if completion is not None and completion.usage_reported:
            self._meter.learn(
                request,
                input_tokens=completion.usage.input_tokens,
                output_tokens=completion.usage.output_tokens,
            )


def _ending(answer: RawAnswer, reading: Reading) -> Ending:
    """What an answer says of its lane."""
    completion, failure = reading.completion, reading.failure
    used = None
    if completion is not None and completion.usage_reported:
        used = completion.usage.input_tokens + completion.usage.output_tokens
    return Ending(
        how=_ENDED_BY.get(failure.fault, Ended.ANSWERED) if failure else Ended.ANSWERED,
        sent_s=answer.sent_s,
        used_tokens=used,
        retry_after_s=failure.retry_after_s if failure else None,
        told=answer.headers,
    )
