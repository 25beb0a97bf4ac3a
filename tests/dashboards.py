"""A real `runner web` process over a ledger that a test fills, and who asks it things."""

import http.client
import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from runner.keys import new_id
from runner.ledger.submission import Batch
from runner.model import Dead, Done, Evidence, Failure, Fault, FieldError, How, Outcome, Review
from runner.pinned import PinnedJobs
from tests.command_lines import RUNNER, clean_env
from tests.jobfolders import make_job
from tests.ledgers import World, open_world

KEY = "test-key-that-no-page-may-show"
PRICES = "".join(
    f'[models."{name}"]\ninput_usd_per_mtok = 1.0\noutput_usd_per_mtok = 4.0\n'
    for name in ("small", "large")
)
WRONG = Review(
    "check_failed",
    Failure(Fault.CHECK_FAILED, "must not be below 0", (FieldError("total", "is below 0"),)),
    data_json='{"total":-5}',
)
RIGHT = Done('{"total":5}', evidence=(Evidence("total", 0, 5, How.EXACT),))


def dead_of(fault: Fault = Fault.BAD_REQUEST, message: str = "HTTP 400: no") -> Dead:
    """A document that ends without a record."""
    return Dead(fault.value, Failure(fault, message))


class Home(World):
    """A world with batches of the tiny job, as a home that the dashboard shows."""

    folder: Path

    @property
    def env(self) -> dict[str, str]:
        """The environment of the dashboard."""
        return clean_env(
            RUNNER_HOME=str(self.folder / "home"),
            RUNNER_JOBS=str(self.folder / "jobs"),
            RUNNER_CONFIG=str(self.folder / "runner.toml"),
            OPENAI_API_KEY=KEY,
            LOGNAME="ann",
        )

    def named(self, name: str = "june") -> Batch:
        """A batch of the tiny job."""
        pinned = PinnedJobs([self.folder / "jobs"]).live("tiny", version=None, models=())
        return self.batch(name, job="tiny", prompt_id=pinned.prompt_id, models=pinned.models)

    def through(
        self, *texts: str, outcome: Outcome = RIGHT, name: str = "june", signature: str = "went so"
    ) -> list[str]:
        """New documents of a batch through one turn; their ids."""
        batch = self.named(name)
        self.sql("DELETE FROM leader")
        worker = self.worker()
        self.add(batch, *texts, first_position=len(self.rows(batch)))
        ids = [lease.ticket.document_id for lease in self.turn(worker, outcome)]
        with self.ledger.transaction() as connection:
            for one in ids:
                connection.exec_driver_sql(
                    "UPDATE document SET signature = ? WHERE id = ? AND signature IS NOT NULL",
                    (signature, one),
                )
        self.sql("UPDATE worker SET state = 'stopped'")
        return ids

    def new_call(self) -> str:
        """The id of a call that begins now."""
        return new_id("a", clock_s=lambda: self.tick() / 1e6)

    def where(self) -> dict[str, str]:
        """Where each document is."""
        with self.ledger.snapshot() as connection:
            return dict(connection.exec_driver_sql("SELECT id, state FROM document").all())


@contextmanager
def open_home(folder: Path) -> Iterator[Home]:
    """A home with the tiny job and prices for its models."""
    make_job(folder / "jobs")
    (folder / "runner.toml").write_text(PRICES, encoding="utf-8")
    with open_world(folder) as found:
        home = Home(found.ledger)
        home.folder = folder
        yield home


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]  # lower-case names
    cookies: tuple[str, ...]
    text: str

    @property
    def words(self) -> str:
        """The page as text, roughly."""
        bare = re.sub(r"<(script|style).*?</\1>", " ", self.text, flags=re.DOTALL)
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", bare)).split())

    def values(self, name: str) -> list[str]:
        """The values of the form fields of this name."""
        found = re.findall(rf'name="{re.escape(name)}" value="([^"]*)"', self.text)
        return [unescape(one) for one in found]


@dataclass
class Visitor:
    """Who asks a dashboard; signed in, and with the headers that a browser sends, unless told."""

    port: int
    cookie: str = ""
    csrf: str = ""
    more: dict[str, str] = field(default_factory=dict)

    def ask(
        self, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str]
    ) -> Answer:
        """Send exactly this."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body=body, headers=headers)
            found = connection.getresponse()
            pairs = [(name.lower(), value) for name, value in found.getheaders()]
            cookies = tuple(value for name, value in pairs if name == "set-cookie")
            return Answer(found.status, dict(pairs), cookies, found.read().decode())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        """Look at a page."""
        sent = {"Cookie": self.cookie, "Accept": "text/html", **self.more, **headers}
        return self.ask("GET", path, headers=sent)

    def post(self, path: str, fields: Sequence[tuple[str, str]] = (), **headers: str) -> Answer:
        """Send a form as a page of the dashboard does."""
        body = urlencode([*fields, ("csrf", self.csrf)]).encode()
        sent = {
            "Cookie": self.cookie,
            "Origin": f"http://127.0.0.1:{self.port}",
            "Sec-Fetch-Site": "same-origin",
            "Content-Type": "application/x-www-form-urlencoded",
            **self.more,
            **headers,
        }
        return self.ask("POST", path, body=body, headers=sent)

    def follow(self, answer: Answer) -> Answer:
        """The page that an answer sends on to."""
        assert answer.status == 303, (answer.status, answer.words)
        return self.get(answer.headers["location"])


@dataclass
class Dashboard:
    """A running dashboard."""

    process: "subprocess.Popen[str]"
    told: dict[str, Any]  # what it printed

    @property
    def url(self) -> str:
        """Where it is, without its token."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.told["port"])

    @property
    def token(self) -> str:
        """What signs in."""
        return str(urlsplit(self.told["url"]).query).removeprefix("token=")

    def stranger(self) -> Visitor:
        """Somebody who has not signed in."""
        return Visitor(self.port)

    def visitor(self) -> Visitor:
        """Somebody who has signed in and looked at a page with a form."""
        guest = self.stranger()
        guest.cookie = guest.get(f"/?token={self.token}").cookies[0].partition(";")[0]
        page = guest.get("/batches")
        guest.csrf = page.values("csrf")[0]
        return guest


@contextmanager
def dashboard(home: Home, *arguments: str, **env: str) -> Iterator[Dashboard]:
    """A dashboard of this home, on any free port."""
    process = subprocess.Popen(
        [*RUNNER, "web", "--port", "0", "--json", *arguments],
        env=home.env | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        assert line, process.communicate()[1]
        yield Dashboard(process, json.loads(line))
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate()
