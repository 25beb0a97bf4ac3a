"""The dashboard in a real browser: clicks, keys, plots, readable by all, and nothing that runs."""

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.routing import Route

from runner.ledger.evaluations import CaseRow, Dearest, RunRow, write_run
from runner.ledger.lanes import note_lanes, write_use
from runner.model import Done, Evidence, Failure, Fault, FieldError, How, Review
from runner.web.app import routes
from tests.chromium import Tab, chromium, needs_chromium
from tests.dashboards import WRONG, Dashboard, Home, dashboard, dead_of, open_home
from tests.hostile_strings import HOSTILE
from tests.ledgers import POSTGRES_URL, lane_of
from tests.test_limitwatch import QUIET

pytestmark = [
    needs_chromium,
    pytest.mark.skipif(
        POSTGRES_URL is not None, reason="the dashboard finds its ledger by the home folder"
    ),
]
AXE = Path(__file__).parent / "static" / "axe" / "axe.min.js"
ALL_HOSTILE = "\n".join(HOSTILE)
# addresses that answer a look and are no page: figures for machines, a style sheet, a way on
NO_PAGES = {"/live", "/metrics", "/static/page.css"}
ERRORS = ("no such batch", "no such page")
# a text on pages that show where it comes from: a job's description, a search's words and so on
SHOWN = dict.fromkeys(
    ("overview", "review", "reviews", "calls", "call", "words", "prompts", "job", "evaluation"),
    "window.owned=1;alert(1)",
)
EMPTY = {
    "overview": "/",
    "batches": "/batches",
    "dead": "/dead",
    "letters": "/dead/letters",
    "retry": "/dead/retry",
    "reviews": "/review",
    "calls": "/calls",
    "words": "/calls?words=nothing",
    "documents": "/documents?find=nothing",
    "evaluations": "/evaluations",
    "prompts": "/prompts",
    "job": "/prompts/tiny",
    "no such batch": "/batches/none",
    "no such page": "/nowhere",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with open_home(tmp_path_factory.mktemp("browser")) as made:
        yield made


@pytest.fixture(scope="module")
def board(home: Home) -> Iterator[Dashboard]:
    with dashboard(home) as running:
        yield running


@pytest.fixture
async def tab(board: Dashboard, tmp_path: Path) -> AsyncIterator[Tab]:
    """A page that has signed in; whatever it complains of fails the test."""
    async with chromium(tmp_path / "profile") as browser:
        made = await browser.tab()
        await made.open(board.told["url"])
        yield made
        assert made.complaints == []
        assert made.dialogs == []


async def test_dead_letters_are_retried_by_clicking(home: Home, board: Dashboard, tab: Tab) -> None:
    first, second = home.through("c1", "c2", outcome=dead_of(), name="clicked", signature="click")
    await tab.open(f"{board.url}/dead?batch={home.named('clicked').id}")
    await tab.click("table a[href*='/dead/letters']")
    await tab.until("document.querySelectorAll('input[name=document]').length === 2")
    await tab.click(f"input[value='{first}']")
    await tab.click("#chosen button")
    await tab.until("document.querySelector('#retry') !== null")
    assert "expected cost" in await tab.text()
    assert home.where()[first] == "dead"
    await tab.click("#retry")
    await tab.until("document.querySelector('[role=status]') !== null")
    assert "1 document queued again" in await tab.text()
    assert (home.where()[first], home.where()[second]) == ("queued", "dead")


async def test_the_plots_are_drawn_and_their_figures_follow_the_ledger(
    home: Home, board: Dashboard, tab: Tab
) -> None:
    await tab.open(f"{board.url}/")
    await tab.until("document.querySelectorAll('.live canvas').length === 4")
    await tab.until("document.getElementById('live-state').textContent === 'live'")
    before = await tab.run("document.querySelector('[data-figure=done]').textContent")
    home.through("l1", "l2", name="live")
    await tab.until(f"document.querySelector('[data-figure=done]').textContent !== {before!r}")
    await tab.until("document.querySelector('#batches').textContent.includes('live')")


async def test_reviews_are_decided_with_keys(home: Home, board: Dashboard, tab: Tab) -> None:
    ids = home.through(*(f"{number} k" for number in range(4)), outcome=WRONG, name="keys")
    batch = home.named("keys").id
    at = "location.pathname"
    await tab.open(f"{board.url}/review/{ids[0]}?batch={batch}")
    await tab.press("j")
    await tab.until(f"{at} === '/review/{ids[1]}' && document.readyState === 'complete'")
    await tab.press("k")
    await tab.until(f"{at} === '/review/{ids[0]}' && document.readyState === 'complete'")
    await tab.press("a")
    await tab.until(f"{at} === '/review/{ids[1]}' && document.readyState === 'complete'")
    assert home.where()[ids[0]] == "done"
    await tab.press("c")
    assert await tab.run("document.activeElement.name") == "value:total"
    await tab.run("document.activeElement.value = ''")
    for key in ("1", "Enter"):
        await tab.press(key)
    await tab.until(f"{at} === '/review/{ids[2]}' && document.readyState === 'complete'")
    assert home.where()[ids[1]] == "done"
    await tab.press("r")
    assert await tab.run("document.activeElement.name") == "note"
    await tab.press("a")
    assert await tab.run("document.activeElement.value") == "a", "a letter in a field is a letter"
    assert home.where()[ids[2]] == "review"
    await tab.press("Enter")
    await tab.until(f"{at} === '/review/{ids[3]}'")
    assert home.where()[ids[2]] == "dead"


async def test_all_can_be_read_and_done_without_scripts(
    home: Home, board: Dashboard, tab: Tab
) -> None:
    (document,) = home.through("n1", outcome=dead_of(), name="plain")
    await tab.look_like(script=False)
    await tab.open(f"{board.url}/")
    assert "plain" in await tab.text()
    await tab.open(f"{board.url}/dead/retry?document={document}")
    await tab.click("#retry")
    await tab.until("document.querySelector('[role=status]') !== null")
    assert home.where()[document] == "queued"


def fill_with_hostile_texts(home: Home) -> dict[str, str]:
    """Hostile texts wherever one comes from outside; pages that show them, by name."""
    record = json.dumps(dict(zip(HOSTILE, HOSTILE, strict=True)))
    places = [
        Evidence(text, ALL_HOSTILE.index(text), ALL_HOSTILE.index(text) + len(text), How.EXACT)
        for text in HOSTILE
        if text
    ]
    errors = tuple(FieldError(text, text) for text in HOSTILE)
    failure = Failure(Fault.CHECK_FAILED, ALL_HOSTILE, errors)
    name = HOSTILE[0]
    doubtful = Review("check_failed", failure, data_json=record, flags=HOSTILE[:5])
    (review,) = home.through(ALL_HOSTILE, outcome=doubtful, name=name)
    home.sql(
        "UPDATE record SET evidence_json = :e WHERE document_id = :d", d=review, e=_rows(places)
    )
    (done,) = home.through(
        ALL_HOSTILE + "!", outcome=Done(record, evidence=tuple(places)), name=name
    )
    ids = home.through(*(f"{text} dead" for text in HOSTILE), outcome=dead_of(), name=name)
    for document, text in zip(ids, HOSTILE, strict=True):
        home.sql(
            "UPDATE document SET message = :text, signature = :signature WHERE id = :id",
            id=document,
            text=text,
            signature=text[:160],
        )
    home.sql("UPDATE worker SET state = 'working', note = :note", note=ALL_HOSTILE)
    home.sql("UPDATE attempt SET model = :m, message = :m", m=ALL_HOSTILE[:3_000])
    home.sql("UPDATE record SET model = :m", m=ALL_HOSTILE[:3_000])
    home.sql("UPDATE source SET name = :n WHERE document_id = :d", n=ALL_HOSTILE, d=review)
    code = home.folder / "jobs" / "tiny" / "__init__.py"
    described = code.read_text(encoding="utf-8").replace('"One number."', repr(ALL_HOSTILE))
    code.write_text(described, encoding="utf-8")
    _pause_and_review(home, review)
    batch = home.named(name)
    home.sql(
        "UPDATE batch SET state = 'paused', pause_reason = :why WHERE id = :id",
        id=batch.id,
        why=ALL_HOSTILE,
    )
    home.sql(
        "INSERT INTO event (at_us, kind, batch_id, document_id, message) "
        "VALUES (1, 'x', :b, :d, :m)",
        b=batch.id,
        d=done,
        m=ALL_HOSTILE,
    )
    with home.ledger.transaction() as connection:
        write_run(connection, _hostile_run(), [_hostile_case(done)])
        (call,) = connection.exec_driver_sql("SELECT max(id) FROM attempt").one()
    return {
        "overview": "/",
        "batches": "/batches",
        "batch": f"/batches/{batch.id}",
        "cancel": f"/batches/{batch.id}/cancel",
        "dead": "/dead",
        "letters": "/dead/letters",
        "retry": f"/dead/retry?reason=bad_request&batch={batch.id}",
        "done": f"/documents/{done}",
        "reviews": "/review",
        "review": f"/review/{review}",
        "again": f"/review/{review}/again",
        "calls": "/calls",
        "call": f"/calls/{call}",
        "evaluations": "/evaluations",
        "evaluation": "/evaluations/hostile",
        "prompts": "/prompts",
        "job": "/prompts/tiny",
        "prompt": "/prompts/tiny/v1",
        "documents": f"/documents?find={quote(ALL_HOSTILE[:500])}",
        "words": "/calls?words=owned",
        "sign in": "/login",
        "no such batch": "/batches/none",
        "no such page": "/nowhere",
    }


def _pause_and_review(home: Home, document: str) -> None:
    """What a key, a limit and a person are called, and said."""
    home.sql(
        "INSERT INTO key_pause (scope, name, fault, reason, since_us) "
        "VALUES ('key:y', :m, :m, :m, 1)",
        m=ALL_HOSTILE,
    )
    home.sql(
        "INSERT INTO review (document_id, batch_id, decision, stratum, was_wrong, model, "
        "prompt_id, reviewer, note, at_us) SELECT document_id, batch_id, 'again', 'flagged', "
        "false, :m, :m, :m, :m, 1 FROM record WHERE document_id = :d",
        d=document,
        m=ALL_HOSTILE[:3_000],
    )
    use = QUIET.model_copy(update={"breaker_open": True})
    with home.ledger.transaction() as connection:
        lane = replace(lane_of(), model=ALL_HOSTILE, server=HOSTILE[2], key_name=HOSTILE[3])
        note_lanes(connection, [lane], now_us=home.now_us)
        write_use(connection, {lane.id: use.model_dump_json()}, now_us=home.now_us)


def _rows(places: list[Evidence]) -> str:
    return json.dumps([[one.path, one.start, one.end, one.how] for one in places])


def _hostile_run() -> RunRow:
    return RunRow(
        id="hostile",
        job=HOSTILE[1][:100],
        prompt_version="v1",
        prompt_id="p1",
        models=(ALL_HOSTILE,),
        gold_digest="sha256:1",
        against_prompt_id=None,
        verdict="pass",
        summary={"reason": ALL_HOSTILE, "against": HOSTILE[3]},
        dearest=Dearest(document_nusd=None, call_nusd=None),
        created_us=1,
    )


def _hostile_case(document: str) -> CaseRow:
    return CaseRow(
        prompt_id="p1",
        case_id=HOSTILE[5],
        repeat=0,
        document_id=document,
        state="done",
        leaves=[(text, text, "wrong", text, {text: text}) for text in HOSTILE],
        cost_nusd=None,
        latency_us=None,
    )


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Dashboard, dict[str, str]]]:
    with open_home(tmp_path_factory.mktemp("hostile")) as made:
        pages = fill_with_hostile_texts(made)
        with dashboard(made) as running:
            yield running, pages


@pytest.fixture
async def hostile_tab(
    hostile: tuple[Dashboard, dict[str, str]], tmp_path: Path
) -> AsyncIterator[Tab]:
    """As `tab`, where every text is hostile."""
    async with chromium(tmp_path / "profile") as browser:
        made = await browser.tab()
        await made.open(hostile[0].told["url"])
        yield made
        assert made.dialogs == []
        assert made.complaints == []


RAN = (
    "window.owned !== undefined || "
    "performance.getEntriesByType('resource').some(one => one.name.includes('owned'))"
)


async def test_a_hundred_hostile_texts_are_shown_and_none_runs(
    hostile: tuple[Dashboard, dict[str, str]], hostile_tab: Tab
) -> None:
    board, pages = hostile
    for name, path in pages.items():
        await hostile_tab.open(board.url + path)
        assert await hostile_tab.run(RAN) is False, name
        elements = (
            "script:not([src^='/static/']), iframe, img, object, embed, base, style, template"
        )
        assert await hostile_tab.run(f'document.querySelectorAll("{elements}").length') == 0, name
        assert await hostile_tab.run("document.querySelector('nav') !== null"), name
        if name in ERRORS:
            hostile_tab.complaints.clear()  # the browser notes that the page is not there
    await hostile_tab.open(board.url + pages["done"])
    shown = await hostile_tab.run("document.querySelector('pre.text').textContent")
    readable = [text for text in HOSTILE if "\x00" not in text and "\r" not in text]
    assert [text for text in readable if text not in shown] == [], "each is there as it is"
    for name, sign in SHOWN.items():
        await hostile_tab.open(board.url + pages[name])
        assert sign in await hostile_tab.run("document.querySelector('main').textContent"), name


@pytest.mark.slow
async def test_hostile_texts_in_addresses_are_shown_and_none_runs(
    hostile: tuple[Dashboard, dict[str, str]], hostile_tab: Tab
) -> None:
    board, _ = hostile
    for place, text in enumerate(HOSTILE):
        part = quote(text[:500], safe="")
        path = (
            f"/dead?grep={part}&reason={part}&batch={part}",
            f"/dead/letters?signature={part}&reason={part}",
            f"/dead/retry?document={part}&models={part}&prompt={part}",
            f"/documents?find={part}",
            f"/calls?model={part}&document={part}&fault={part}",
            f"/review?batch={part}&notice={part}",
            f"/documents/{part}",
        )[place % 7]
        await hostile_tab.open(board.url + path)
        assert await hostile_tab.run(RAN) is False, path
        # a page that is not there is logged as such by the browser, and nothing else is
        assert [one for one in hostile_tab.complaints if "status of 4" not in one] == [], path
        hostile_tab.complaints.clear()


async def violations(tab: Tab, **options: object) -> list[str]:
    """What axe finds wrong with the page that is open."""
    told: list[str] = await tab.run(
        f"axe.run(document, {json.dumps({'resultTypes': ['violations'], **options})}).then("
        "told => told.violations.map(one => "
        "`${one.id}: ${one.nodes.map(node => node.html.slice(0, 120)).slice(0, 3)}`))"
    )
    return told


def templates_of(pages: Iterable[str]) -> set[str]:
    """Which of the application's addresses these are."""
    paths = [page.partition("?")[0] for page in pages]
    return {
        route.path
        for route in routes()
        if isinstance(route, Route) and any(route.path_regex.match(path) for path in paths)
    }


def pages_of_the_application() -> set[str]:
    """Every address that answers with a page."""
    found = {
        route.path
        for route in routes()
        if isinstance(route, Route) and "GET" in (route.methods or ())
    }
    return found - NO_PAGES


async def assert_readable(tab: Tab, board: Dashboard, pages: Mapping[str, str]) -> None:
    """Nobody is kept from reading any of these, in light and dark and on a phone."""
    axe = AXE.read_text(encoding="utf-8")
    for name, path in pages.items():
        await tab.look_like(width=390)
        await tab.open(board.url + path)
        over = await tab.run("document.documentElement.scrollWidth - window.innerWidth")
        assert over <= 0, f"{name} is wider than a phone"
        await tab.run(f"{axe};1")
        assert await violations(tab) == [], name
        await tab.look_like(dark=True)
        assert await violations(tab, runOnly=["color-contrast", "target-size"]) == [], name
        # the browser itself logs that an error page is none
        assert [one for one in tab.complaints if "the server responded with" not in one] == [], name
        assert len(tab.complaints) <= (name in ERRORS), name
        tab.complaints.clear()


@pytest.mark.slow
async def test_every_page_can_be_read_by_all_in_light_and_dark_and_on_a_phone(
    hostile: tuple[Dashboard, dict[str, str]], hostile_tab: Tab
) -> None:
    board, pages = hostile
    assert templates_of(pages.values()) >= pages_of_the_application()
    await assert_readable(hostile_tab, board, pages)


@pytest.mark.slow
async def test_pages_with_nothing_on_them_can_be_read_by_all(tmp_path: Path) -> None:
    with open_home(tmp_path) as home, dashboard(home) as board:
        async with chromium(tmp_path / "profile") as browser:
            tab = await browser.tab()
            await tab.open(board.told["url"])
            await assert_readable(tab, board, EMPTY)


@pytest.mark.slow
async def test_the_page_that_asks_for_the_token_can_be_read_by_strangers(
    board: Dashboard, tmp_path: Path
) -> None:
    async with chromium(tmp_path / "profile") as browser:
        tab = await browser.tab()
        await assert_readable(tab, board, {"sign in": "/login", "wrong": "/login?wrong=1"})
        assert await tab.run("document.querySelector('nav a[href=\"/calls\"]')") is None
