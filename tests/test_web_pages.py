"""The dashboard's pages over HTTP: what each shows without scripts, and what its forms do."""

from collections.abc import Iterator

import pytest

from runner.ledger.evaluations import CaseRow, Dearest, RunRow, write_run
from runner.ledger.reviews import reviews_of
from runner.model import BatchState
from tests.dashboards import WRONG, Dashboard, Home, Visitor, dashboard, dead_of, open_home
from tests.ledgers import POSTGRES_URL

pytestmark = pytest.mark.skipif(
    POSTGRES_URL is not None, reason="the dashboard finds its ledger by the home folder"
)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Dashboard]]:
    """One dashboard for all tests here; each makes documents of its own."""
    with open_home(tmp_path_factory.mktemp("pages")) as home, dashboard(home) as running:
        yield home, running


@pytest.fixture
def home(board: tuple[Home, Dashboard]) -> Home:
    return board[0]


@pytest.fixture
def guest(board: tuple[Home, Dashboard]) -> Visitor:
    return board[1].visitor()


def test_the_overview_has_its_figures_and_batches_without_scripts(
    home: Home, guest: Visitor
) -> None:
    home.through("o1", "o2", name="overview")
    home.through("o3", outcome=dead_of(), name="overview")
    page = guest.get("/")
    assert page.status == 200
    assert '<strong data-figure="done">' in page.text
    assert page.text.count('role="img" aria-labelledby=') == 4, "the plots, as they stand"
    assert "overview tiny v1" in page.words
    assert "2 done, 1 dead" in page.text, "the bar says it in words"
    assert "No worker is running" in page.words
    (batch,) = (one for one in guest.get("/batches").text.split("<tr>") if ">overview<" in one)
    assert "/dead?batch=" in batch


def test_a_batch_is_paused_resumed_with_a_budget_and_cancelled(home: Home, guest: Visitor) -> None:
    batch = home.named("steered")
    home.add(batch, "s1", "s2")
    here = f"/batches/{batch.id}"
    said = guest.follow(guest.post(f"{here}/pause", [("why", "<b>wrong</b> prompt")]))
    assert "steered is paused: <b>wrong</b> prompt" in said.words
    assert "&lt;b&gt;wrong" in said.text
    assert home.found(batch).state is BatchState.PAUSED
    refused = guest.post(f"{here}/resume", [("budget_usd", "a lot")])
    assert (refused.status, "no amount" in refused.words) == (409, True)
    assert home.found(batch).state is BatchState.PAUSED
    assert (
        "steered goes on" in guest.follow(guest.post(f"{here}/resume", [("budget_usd", "8")])).words
    )
    assert "of 8.00 USD" in guest.get(here).words
    asked = guest.get(f"{here}/cancel")
    assert "2 documents not done would end" in asked.words
    assert home.found(batch).state is BatchState.ACTIVE, "asking cancels nothing"
    ended = guest.follow(guest.post(f"{here}/cancel"))
    assert "steered is cancelled: 2 documents ended" in ended.words
    assert guest.post(f"{here}/pause").status == 409


def test_a_notice_is_told_once_and_an_address_cannot_make_one_up(
    home: Home, guest: Visitor
) -> None:
    batch = home.named("told")
    sent = guest.post(f"/batches/{batch.id}/pause", [("why", "just so")])
    assert 'role="status"' in guest.follow(sent).text
    assert 'role="status"' not in guest.follow(sent).text
    assert "pay here" not in guest.get("/?notice=pay+here").text


def test_dead_letters_are_grouped_filtered_and_a_group_is_retried_at_the_price_that_was_shown(
    home: Home, guest: Visitor
) -> None:
    ids = home.through(
        "g1", "g2", outcome=dead_of(message="kaputt"), name="grouped", signature="alike"
    )
    others = home.through("g3", outcome=dead_of(), name="grouped", signature="other")
    batch = home.named("grouped")
    groups = guest.get(f"/dead?batch={batch.id}")
    assert "3 documents in 2 groups" in groups.words
    assert "alike" not in guest.get(f"/dead?batch={batch.id}&grep=HTTP").words
    assert "No dead letter like that" in guest.get("/dead?grep=nowhere").words
    price = guest.get(f"/dead/retry?batch={batch.id}&reason=bad_request&signature=alike")
    assert "expected cost" in price.words
    assert "Retry 2 documents" in price.words
    assert {home.where()[one] for one in (*ids, *others)} == {"dead"}, "the price moves nothing"
    fields = [(name, price.values(name)[-1]) for name in ("batch", "signature", "seen_us")]
    said = guest.follow(guest.post("/dead/retry", fields))
    assert "2 documents queued again; no worker is running" in said.words
    assert [home.where()[one] for one in (*ids, *others)] == ["queued", "queued", "dead"]
    again = guest.follow(guest.post("/dead/retry", fields))
    assert "nothing was queued" in again.words


def test_what_died_after_the_price_was_shown_is_not_retried_with_it(
    home: Home, guest: Visitor
) -> None:
    (early,) = home.through("p1", outcome=dead_of(), name="priced", signature="same")
    with home.ledger.snapshot() as connection:
        (seen_us,) = connection.exec_driver_sql(
            "SELECT finished_us FROM document WHERE id = ?", (early,)
        ).one()
    (late,) = home.through("p2", outcome=dead_of(), name="priced", signature="same")
    fields = [("batch", home.named("priced").id), ("seen_us", str(seen_us))]
    guest.post("/dead/retry", fields)
    assert (home.where()[early], home.where()[late]) == ("queued", "dead")


def test_chosen_dead_letters_are_retried_alone_with_another_model(
    home: Home, guest: Visitor
) -> None:
    first, second = home.through("c1", "c2", outcome=dead_of(), name="chosen")
    listed = guest.get(f"/dead/letters?batch={home.named('chosen').id}")
    assert set(listed.values("document")) == {first, second}
    assert "no dead letter is chosen" in guest.get("/dead/retry?chosen=1").words
    price = guest.get(f"/dead/retry?document={first}&models=large")
    assert "Retry 1 document" in price.words
    assert price.values("models")[-1] == "large"
    unknown = guest.get(f"/dead/retry?document={first}&prompt=v9")
    assert unknown.status == 200
    assert "v9 is not locked" in unknown.words
    assert 'id="retry"' not in unknown.text
    guest.post("/dead/retry", [("document", first), ("models", "large")])
    assert (home.where()[first], home.where()[second]) == ("queued", "dead")
    assert home.row(first).models_json == '["large"]'


def test_a_documents_page_has_text_evidence_calls_on_a_line_of_time_and_the_raw_answer(
    home: Home, guest: Visitor
) -> None:
    (document,) = home.through("5 apples <i>", name="looked-at")
    page = guest.get(f"/documents/{document}")
    assert '<mark id="at-total"' in page.text
    assert "&lt;i&gt;" in page.text
    assert 'class="bar"' in page.text
    with home.ledger.snapshot() as connection:
        (call,) = connection.exec_driver_sql(
            "SELECT id FROM attempt WHERE document_id = ?", (document,)
        ).one()
    assert f"/calls/{call}" in page.text
    shown = guest.get(f"/calls/{call}")
    assert "head" in shown.words, "the request as it was sent"
    assert "{}" in shown.words, "the raw answer"
    assert guest.get(f"/documents?find={document[:12]}").headers["location"].endswith(document)
    assert guest.get("/documents?find=5+apples+%3Ci%3E").status == 303
    assert "No document nothing" in guest.get("/documents?find=nothing").words


def test_calls_are_filtered_by_what_they_were(home: Home, guest: Visitor) -> None:
    home.through("f1", name="filtered")
    batch = home.named("filtered")
    assert guest.get(f"/calls?batch={batch.id}").text.count("/calls/a") == 1
    assert "No such call" in guest.get(f"/calls?batch={batch.id}&fault=refused").words
    assert "No such call" in guest.get(f"/calls?batch={batch.id}&model=none").words


def test_calls_are_searched_by_their_words(home: Home, guest: Visitor) -> None:
    (document,) = home.through("zebra <b>crossing</b> 7", name="searched")
    found = guest.get("/calls?words=crossing")
    assert f"/documents/{document}" in found.text
    assert "zebra &lt;b&gt;<mark>crossing</mark>&lt;/b&gt;" in found.text
    assert "No such call" in guest.get("/calls?words=unicorn").words
    assert "a quotation mark is open" in guest.get('/calls?words="zebra').words


def test_metrics_are_there_for_who_shows_the_token(board: tuple[Home, Dashboard]) -> None:
    _, running = board
    bearer = {"Authorization": f"Bearer {running.token}", "Accept": "text/plain"}
    assert "runner_" in running.stranger().get("/metrics", **bearer).text
    assert running.stranger().get("/metrics", Accept="text/plain").status == 401


def test_a_record_is_accepted_rejected_or_corrected_and_the_next_one_follows(
    home: Home, guest: Visitor
) -> None:
    first, second, third = home.through("7 r1", "8 r2", "9 r3", outcome=WRONG, name="reviewed")
    batch = home.named("reviewed").id
    page = guest.get(f"/review/{first}?batch={batch}")
    assert "1 of 3" in page.words
    assert "is below 0" in page.words
    assert f'href="/review/{second}?batch={batch}"' in page.text
    fields = [("attempt", page.values("attempt")[0]), ("after", second), ("batch", batch)]
    went = guest.post(f"/review/{first}", [*fields, ("decision", "accepted"), ("by", "bea")])
    assert went.headers["location"].startswith(f"/review/{second}?batch={batch}&notice=")
    wrong = guest.post(
        f"/review/{second}",
        [("decision", "corrected"), ("value:total", "minus"), ("data", '{\n  "total": -5\n}')],
    )
    assert wrong.status == 409
    assert 'value="minus"' in wrong.text, "what was typed is kept"
    right = [("decision", "corrected"), ("value:total", "8"), ("data", '{\n  "total": -5\n}')]
    assert guest.post(f"/review/{second}", right).status == 303
    noted = [("decision", "rejected"), ("note", "no invoice")]
    assert guest.post(f"/review/{third}", noted).status == 303
    states = home.where()
    assert [states[one] for one in (first, second, third)] == ["done", "done", "dead"]
    with home.ledger.snapshot() as connection:
        (accepted,) = reviews_of(connection, first)
        (rejected,) = reviews_of(connection, third)
    assert (accepted.reviewer, rejected.reviewer, rejected.note) == ("bea", "ann", "no invoice")
    late = guest.post(f"/review/{first}", [("decision", "rejected")])
    assert late.status == 409
    assert "accepted by bea" in late.words


def test_a_decision_on_another_record_than_was_looked_at_is_refused(
    home: Home, guest: Visitor
) -> None:
    (document,) = home.through("stale", outcome=WRONG, name="stale")
    answer = guest.post(
        f"/review/{document}", [("attempt", "a-of-before"), ("decision", "accepted")]
    )
    assert answer.status == 409
    assert "another record now" in answer.words
    assert guest.post(f"/review/{document}", [("decision", "burnt")]).status == 409
    assert home.where()[document] == "review"


def test_a_document_in_review_is_asked_for_again_at_a_price(home: Home, guest: Visitor) -> None:
    (document,) = home.through("again", outcome=WRONG, name="again")
    assert "expected cost" in guest.get(f"/review/{document}/again").words
    assert home.where()[document] == "review"
    assert guest.post(f"/review/{document}/again").status == 303
    assert home.where()[document] == "queued"


def test_an_evaluation_shows_its_verdict_fields_and_what_went_wrong(
    home: Home, guest: Visitor
) -> None:
    run = RunRow(
        id="e1",
        job="tiny",
        prompt_version="v1",
        prompt_id="p1",
        models=("small",),
        gold_digest="sha256:1",
        against_prompt_id="p0",
        verdict="block",
        summary={"reason": "worse than before", "against": "v0", "documents": 2, "exact": 0.5},
        dearest=Dearest(document_nusd=1_000, call_nusd=None),
        created_us=1_000_000,
    )
    leaves = {
        "p1": [("total", "total", "wrong", 5, 6)],
        "p0": [("total", "total", "match", 5, 5)],
    }
    cases = [
        CaseRow(
            prompt_id=prompt,
            case_id="case one",
            repeat=0,
            document_id="d1",
            state="done",
            leaves=told,
            cost_nusd=None,
            latency_us=None,
        )
        for prompt, told in leaves.items()
    ]
    with home.ledger.transaction() as connection:
        write_run(connection, run, cases)
    assert "BLOCK tiny v1" in guest.get("/evaluations").words
    page = guest.get("/evaluations/e1")
    assert "worse than before" in page.words
    assert "case one 1 wrong, 0 right" in page.words
    assert "total 5 6 wrong 5 match" in page.words
    assert guest.get("/evaluations/e2").status == 404


def test_prompt_versions_say_which_is_live_and_what_they_ask(home: Home, guest: Visitor) -> None:
    assert "tiny" in guest.get("/prompts").words
    job = guest.get("/prompts/tiny")
    assert "v1 live" in job.words
    version = guest.get("/prompts/tiny/v1")
    assert "{{ document }}" in version.words
    for path in ("/prompts/none", "/prompts/tiny/v9", "/prompts/..%2f..%2fetc/v1"):
        assert guest.get(path).status in (404, 409), path


@pytest.mark.parametrize(
    "path",
    [
        *("/batches/none", "/documents/none", "/calls/none", "/evaluations/none", "/nowhere"),
        *("/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/web/app.py"),
    ],
)
def test_what_is_not_there_is_said_to_be_not_there(guest: Visitor, path: str) -> None:
    answer = guest.get(path)
    assert answer.status == 404
    assert "def " not in answer.text


@pytest.mark.parametrize(
    "query",
    [
        *("page=-1", "page=9999999999999999999", "page=x", "since=never", "batch=' OR 1=1 --"),
        *("grep=%25", "grep=%00", "signature=", "seen_us=x", "document=" + "d" * 5_000),
    ],
)
def test_odd_questions_get_a_page(guest: Visitor, query: str) -> None:
    for path in ("/dead", "/dead/letters", "/dead/retry", "/calls", "/review"):
        assert guest.get(f"{path}?{query.replace(' ', '+')}").status == 200, path
