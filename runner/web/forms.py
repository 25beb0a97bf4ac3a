"""Forms: read with a limit of bytes and of time, and what was filled in."""

from collections.abc import AsyncIterator, Sequence
from urllib.parse import parse_qsl

import anyio
from starlette.types import Receive

BODY_MAX_BYTES = 1_000_000
BODY_MAX_S = 10.0
FIELDS_MAX = 5_000
TYPE = "application/x-www-form-urlencoded"


class FormError(Exception):
    """A form that is not taken: the status of the answer, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Form:
    """What was filled in; a field may come several times."""

    def __init__(self, pairs: Sequence[tuple[str, str]] = ()) -> None:
        self.pairs = tuple(pairs)

    def one(self, name: str) -> str:
        """The last value of this field, without blanks around it; empty when there is none."""
        return next((value for key, value in reversed(self.pairs) if key == name), "").strip()

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of this field that is not empty, each once."""
        return tuple(dict.fromkeys(value for key, value in self.pairs if key == name and value))


async def read_form(receive: Receive, *, content_type: str) -> Form:
    """The form of a request. Raises FormError when it is too large, too slow, or no form."""
    if content_type.partition(";")[0].strip().lower() != TYPE:
        raise FormError(415, "a form is expected")
    body = bytearray()
    try:
        with anyio.fail_after(BODY_MAX_S):
            async for chunk in _chunks(receive):
                body += chunk
                if len(body) > BODY_MAX_BYTES:
                    raise FormError(413, f"the form is larger than {BODY_MAX_BYTES:,} bytes")
    except TimeoutError:
        raise FormError(408, f"the form did not arrive within {BODY_MAX_S:g} s") from None
    try:
        text = body.decode()
        return Form(
            parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict")
        )
    except ValueError:
        raise FormError(400, "the form cannot be read") from None


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise FormError(400, "the form ended early")
        more = message.get("more_body", False)
        yield message.get("body", b"")
