"""A streamed answer put together again: whatever its pieces, and whatever is wrong with them."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.completion import read_answer
from runner.model import Fault, RawAnswer
from runner.stream import LINE_MAX_BYTES, Stream
from tests.test_provider import KEY, Server, a_call, serving, settings_for

TEXT = '{"total": "12.50 €", "note": "a\\nb"}'
USAGE = {"prompt_tokens": 7, "completion_tokens": 5}


def event(**changes: Any) -> bytes:
    """One event of a completion."""
    chunk = {"id": "c1", "object": "chat.completion.chunk", "model": "served", "choices": []}
    return b"data: " + json.dumps(chunk | changes).encode() + b"\n\n"


def delta(text: str | None = None, *, finish_reason: str | None = None, **more: Any) -> bytes:
    """The event of a part of the text."""
    part = more if text is None else {"content": text, **more}
    return event(choices=[{"index": 0, "delta": part, "finish_reason": finish_reason}])


def events(text: str = TEXT) -> list[bytes]:
    """A whole stream, three signs an event."""
    parts = [delta(text[start : start + 3]) for start in range(0, len(text), 3)]
    end = [delta(finish_reason="stop"), event(usage=USAGE, service_tier="flex")]
    return [delta("", role="assistant"), *parts, *end, b"data: [DONE]\n\n"]


def heard(*pieces: bytes) -> tuple[Stream, bytes]:
    """A stream that came in these pieces, and what it comes to."""
    stream = Stream()
    stream.begin()
    for piece in pieces:
        stream.hear(piece)
    return stream, stream.end(b"".join(pieces))


@given(st.lists(st.integers(0, 3_000), max_size=30), st.sampled_from([b"\n", b"\r\n"]))
def test_however_it_is_cut_into_pieces_it_is_the_same_completion(
    cuts: list[int], line_end: bytes
) -> None:
    whole = (b": keep alive\n\n" + b"".join(events())).replace(b"\n", line_end)
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    pieces = [whole[start:end] for start, end in pairwise(places)]
    stream, body = heard(*pieces)
    assert stream.text == TEXT
    assert stream.first_us is not None
    reading = read_answer(RawAnswer(200, body))
    assert reading.failure is None
    assert reading.completion is not None
    assert reading.completion.text == TEXT
    assert (reading.completion.finish_reason, reading.completion.model) == ("stop", "served")
    used = reading.completion.usage
    assert (used.input_tokens, used.output_tokens, used.service_tier) == (7, 5, "flex")


def test_it_is_complete_once_usage_and_the_reason_of_its_end_have_come() -> None:
    stream = Stream()
    complete = []
    for piece in events():
        stream.hear(piece)
        complete.append(stream.is_complete)
    assert complete == [False] * (len(complete) - 2) + [True, True]


def test_the_last_word_is_told_so_that_nobody_waits_for_a_line_that_is_kept_open() -> None:
    stream = Stream()
    assert [stream.hear(piece) for piece in events()] == [True] * (len(events()) - 1) + [False]


@pytest.mark.parametrize(
    ("pieces", "fault"),
    [
        (events()[:5], Fault.NOT_A_COMPLETION),  # ended in good order, before its answer did
        ([*events()[:5], b"data: {broken\n\n", *events()[5:]], Fault.NOT_A_COMPLETION),
        ([*events()[:5], b'data: "text"\n\n', *events()[5:]], Fault.NOT_A_COMPLETION),
        ([event(usage=USAGE), b"data: [DONE]\n\n"], Fault.NOT_A_COMPLETION),
        ([delta(TEXT[:9]), delta(finish_reason="length"), *events()[-2:]], Fault.TRUNCATED),
        ([delta(refusal="I'd "), delta(refusal="rather not"), *events()[-3:]], Fault.REFUSED),
        ([delta("{"), delta(finish_reason="content_filter"), *events()[-2:]], Fault.FILTERED),
    ],
)
def test_what_is_wrong_with_a_stream_is_read_as_of_a_whole_answer(
    pieces: list[bytes], fault: Fault
) -> None:
    _, body = heard(*pieces)
    failure = read_answer(RawAnswer(200, body)).failure
    assert failure is not None
    assert failure.fault is fault


def test_a_stream_without_usage_is_a_completion_that_does_not_say_what_it_used() -> None:
    _, body = heard(*(piece for piece in events() if b"prompt_tokens" not in piece))
    reading = read_answer(RawAnswer(200, body))
    assert reading.failure is None
    assert reading.completion is not None
    assert not reading.completion.usage_reported


def test_a_last_event_without_its_blank_line_counts() -> None:
    _, body = heard(delta(TEXT), delta(finish_reason="stop").removesuffix(b"\n\n"))
    assert read_answer(RawAnswer(200, body)).failure is None


def test_an_error_among_the_events_is_the_answer_in_its_own_words() -> None:
    _, body = heard(*events()[:4], b'data: {"error": {"message": "out of slots"}}\n\n')
    failure = read_answer(RawAnswer(200, body)).failure
    assert failure is not None
    assert (failure.fault, "out of slots" in failure.message) == (Fault.NOT_A_COMPLETION, True)


@pytest.mark.parametrize("body", [b'{"choices": []}', b"<html>data: x</html>", b"", b" \n{}\n"])
def test_an_answer_that_is_no_stream_stays_as_it_is(body: bytes) -> None:
    stream, found = heard(body)
    assert (found, stream.text, stream.first_us) == (body, "", None)


def test_an_endless_line_is_not_kept() -> None:
    stream = Stream()
    for _ in range(3):
        stream.hear(b"data: " + b"x" * LINE_MAX_BYTES)
    assert len(stream._rest) <= LINE_MAX_BYTES


# ------------------------------------------------------------ through the provider


async def stalling(pieces: list[bytes], server: Server) -> bytes:
    """What comes of a server that sends these pieces and then keeps the line open."""
    from runner.provider import OpenAIProvider  # noqa: PLC0415 - the one test of it here

    stream = Stream()
    asked = OpenAIProvider(settings_for(server.url), env={"THE_KEY": KEY}, stream=stream)
    try:
        got = await asked.call(a_call(deadline_s=5.0))
    finally:
        await asked.aclose()
    assert isinstance(got, RawAnswer), got
    assert stream.is_complete
    return got.body


async def test_a_line_kept_open_is_not_waited_for_and_a_key_in_pieces_is_blotted_out() -> None:
    pieces = [delta(KEY[:9]), delta(KEY[9:]), *events()[-3:]]

    async def reply(writer: Any) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for piece in pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()  # and no end

    async with serving(reply) as server:
        body = await stalling(pieces, server)
    completion = read_answer(RawAnswer(200, body)).completion
    assert completion is not None
    assert completion.text == "[key]"
