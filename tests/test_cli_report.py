"""`runner report`: what it prints of a real run, and what it refuses."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.cli.exits import Exit
from runner.cli.shapes.reports import ReportShape
from runner.ledger.money import DAY_US
from runner.ledger.tallies import FAULT, Count, More, Tally, TallyKey, count_in
from tests.command_lines import Ended, call
from tests.ledgers import POSTGRES_URL, World, open_world

# ------------------------------------------------------------ over a made-up ledger


class Home(World):
    """A world whose ledger the command opens."""

    folder: Path

    def call(self, *arguments: str) -> Ended:
        """Call a command over this world."""
        return call(*arguments, home=self.folder / "home")


pytestmark_made_up = pytest.mark.skipif(
    POSTGRES_URL is not None, reason="the command finds its ledger by the home folder"
)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with open_world(tmp_path) as world:
        home = Home(world.ledger)
        home.folder = tmp_path
        home.now_us = world.ledger.clock.us()
        yield home
        home.sql("DELETE FROM tally")


def fill(home: Home, *, days: int = 12, invalid: int = 30, name: str = "june") -> None:
    """Days of 100 documents, the last two of them bad."""
    batch = home.batch(name)
    for back in range(days):
        more = More(Tally())
        more.tally.counts.update(
            {
                Count.CALLS: 100,
                Count.ANSWERS: 100,
                Count.DONE: 100,
                Count.COST_NUSD: 1_234_567_890,
                FAULT + "schema_invalid": invalid if back < 2 else 2,
            }
        )
        key = TallyKey.at(
            home.now_us - back * DAY_US, batch_id=batch.id, prompt_id="p1", model="small"
        )
        with home.ledger.transaction() as connection:
            count_in(connection, {key: more})


@pytestmark_made_up
def test_a_person_reads_tables_of_days_quality_errors_and_what_drifts(home: Home) -> None:
    fill(home)
    ended = home.call("report", "--since", "30d")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0].startswith("all jobs, ")
    (whole,) = [line.split() for line in lines if line.startswith("all ") and "USD" in line]
    assert whole[:4] == ["all", "1,200", "1,200", "1,200"]
    assert "14.81" in whole
    (drift,) = [line for line in lines if line.startswith("invalid ")]
    assert "2.0 % of 700  30.0 % of 200" in drift
    assert "invoice v1 p1" in drift
    shape = home.call("report", "--json")
    assert ReportShape.model_validate_json(shape.out).drift[0].alarm_since is not None


@pytestmark_made_up
def test_without_a_rise_one_line_says_so_and_without_calls_another(home: Home) -> None:
    fill(home, invalid=2)
    assert "drift: none of 8 rates has risen" in home.call("report").err
    nothing = home.call("report", "--job", "ticket")
    assert "no call ended in these days" in nothing.err
    assert nothing.code == 0


@pytestmark_made_up
def test_a_page_is_written_whole_beside_the_tables(home: Home) -> None:
    fill(home)
    path = home.folder / "report.html"
    ended = home.call("report", "--html", str(path), "--by", "model")
    assert ended.code == 0, ended.err
    page = path.read_text()
    assert page.startswith("<!doctype html>")
    assert "since 20" in page
    figures = page.split("<figure")[1:]
    assert len(figures) == 6
    for figure in figures:
        keys = re.findall(r'class="key tone(\d)"', figure)
        assert len(set(keys)) == len(keys), "two rows of one plot look alike"
    assert home.call("report", "--html", str(home.folder / "no" / "x.html")).code == Exit.USAGE


@pytestmark_made_up
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("nobody",), "no batch 'nobody': did you mean"),
        (("june", "--job", "invoice"), "give BATCH or --job, not both"),
        (("--since", "2026-11-02", "--until", "2026-11-01"), "is after the last day, 2026-11-01"),
        (("--until", "soon"), "--until 'soon' is no time"),
    ],
    ids=str,
)
def test_what_cannot_be_reported_is_refused_by_name(
    home: Home, arguments: tuple[str, ...], why: str
) -> None:
    home.batch("nobodys")
    home.batch("june")
    ended = home.call("report", *arguments)
    assert ended.code == Exit.USAGE
    assert why in ended.err


@pytestmark_made_up
def test_many_groups_are_cut_for_a_person_and_not_in_json(home: Home) -> None:
    for number in range(61):
        fill(home, days=1, name=f"batch {number}")
    ended = home.call("report", "--by", "batch")
    assert "1 more are not shown" in ended.err
    shape: Any = ReportShape.model_validate_json(home.call("report", "--by", "batch", "--json").out)
    assert len(shape.groups) == 61
