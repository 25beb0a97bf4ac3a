"""The dashboard in a real browser: clicks, keys, plots, readable by all, and nothing that runs."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from runner.ledger.evaluations import CaseRow, Dearest, RunRow, write_run
from runner.model import Done, Evidence, Failure, Fault, FieldError, How, Review
from tests.chromium import Tab, chromium, needs_chromium
from tests.dashboards import WRONG, Dashboard, Home, dashboard, dead_of, open_home
from tests.hostile_strings import HOSTILE
from tests.ledgers import POSTGRES_URL

pytestmark = [
    needs_chromium,
    pytest.mark.skipif(
        POSTGRES_URL is not None, reason="the dashboard finds its ledger by the home folder"
    ),
]
AXE = Path(__file__).parent / "static" / "axe" / "axe.min.js"
ALL_HOSTILE = "\n".join(HOSTILE)


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
        "error": "/batches/none",
    }


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
        if name == "error":
            hostile_tab.complaints.clear()  # the browser notes that the page is not there
    await hostile_tab.open(board.url + pages["done"])
    shown = await hostile_tab.run("document.querySelector('pre.text').textContent")
    readable = [text for text in HOSTILE if "\x00" not in text and "\r" not in text]
    assert [text for text in readable if text not in shown] == [], "each is there as it is"


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


@pytest.mark.slow
async def test_every_page_can_be_read_by_all_in_light_and_dark_and_on_a_phone(
    hostile: tuple[Dashboard, dict[str, str]], hostile_tab: Tab
) -> None:
    board, pages = hostile
    axe = AXE.read_text(encoding="utf-8")
    for name, path in pages.items():
        await hostile_tab.look_like(width=390)
        await hostile_tab.open(board.url + path)
        over = await hostile_tab.run("document.documentElement.scrollWidth - window.innerWidth")
        assert over <= 0, f"{name} is wider than a phone"
        await hostile_tab.run(f"{axe};1")
        assert await violations(hostile_tab) == [], name
        await hostile_tab.look_like(dark=True)
        contrast = {"runOnly": ["color-contrast"]}
        assert await violations(hostile_tab, **contrast) == [], name
    missing = [one for one in hostile_tab.complaints if pages["error"] in one]
    assert missing == hostile_tab.complaints
    hostile_tab.complaints.clear()
