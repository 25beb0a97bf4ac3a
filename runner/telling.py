"""Two ways to tell a person's machinery something: start a command, or post to a webhook.

Each is tried a bounded number of times for a bounded time, and says in words what went wrong. What
is told is one line of JSON. A webhook's address may hold a secret: only its host is ever named.
"""

import asyncio
import os
import shlex
import signal
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

COMMAND_MAX_S = 10.0
POST_MAX_S = 10.0
AGAIN_STATUSES = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
OUR_FAULT = range(300, 500)  # and no redirection is followed


async def run_command(command: str, line: bytes) -> str | None:
    """Start the command and let it read the line; what went wrong, if anything did."""
    try:
        process = await asyncio.create_subprocess_exec(
            *shlex.split(command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is for the runner, and what it started ends with it
        )
    except OSError as error:
        return f"cannot be started: {error.strerror}"
    try:
        await asyncio.wait_for(process.communicate(line), COMMAND_MAX_S)
    except TimeoutError:
        return f"took longer than {COMMAND_MAX_S:g} s and was stopped"
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return None if process.returncode == 0 else f"ended with exit code {process.returncode}"


class _NoRedirect(HTTPRedirectHandler):
    """What is told goes to the address that was configured and to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


async def post(url: str, line: bytes) -> tuple[str | None, bool]:
    """Post the line; what went wrong, if anything did, and whether another try may help."""
    return await asyncio.to_thread(_post, url, line)


def _post(url: str, line: bytes) -> tuple[str | None, bool]:
    request = Request(  # noqa: S310 - https or loopback: the settings see to that
        url, data=line, headers={"content-type": "application/json", "user-agent": "runner"}
    )
    try:
        with build_opener(_NoRedirect).open(request, timeout=POST_MAX_S):
            return None, False
    except HTTPError as error:
        error.close()
        again = error.code in AGAIN_STATUSES or error.code not in OUR_FAULT
        return f"answered HTTP {error.code}", again
    except OSError as error:  # URLError and TLS among them
        reason = getattr(error, "reason", error)
        return f"cannot be reached: {getattr(reason, 'strerror', None) or reason}", True
    except HTTPException as error:
        return f"did not answer in HTTP ({type(error).__name__})", True


def host_of(url: str) -> str:
    """The part of an address that may be shown."""
    return urlsplit(url).netloc.rpartition("@")[2]
