"""The same figures from everything that shows them, as one table that must not contradict itself.

Names begin with whose figure it is: `all` documents of the queue, calls that are `real`, `today`,
or a batch by its name. Money is in nano-dollars, where a page rounds it the page's text.
"""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from runner.budget import format_usd
from runner.testing.book import Entry
from tests.dashboards import Visitor
from tests.roads import Road

STATES = ("queued", "ready", "running", "done", "review", "dead", "cancelled")
TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
GOOD = "good"
# what each fault that the provider plants is in our books; what is mended on the spot is none
CALLED = {
    None: GOOD,
    "fenced_json": GOOD,
    "server_error_500": "server_error",
    "bad_request_400": "bad_request",
    "invalid_json": "invalid_json",
    "refusal": "refused",
    "invented_value": "not_grounded",
    "drop_before_answer": "ambiguous",
}


@dataclass
class Table:
    """Figures by name, each with what every source says of it."""

    rows: dict[str, dict[str, object]] = field(default_factory=dict)

    def say(self, source: str, whose: str, figures: Mapping[str, object]) -> None:
        """Note what a source says."""
        for name, value in figures.items():
            self.rows.setdefault(f"{whose} {name}", {})[source] = value

    def check(self) -> None:
        """Fail with every figure that two sources tell differently, and any that only one tells."""
        torn = {name: row for name, row in self.rows.items() if len(set(row.values())) > 1}
        assert torn == {}, "\n".join(f"{name}: {row}" for name, row in torn.items())
        alone = {name: row for name, row in self.rows.items() if len(row) == 1}
        assert alone == {}, "void: there is nothing to compare these with"


def nusd(usd: object) -> int:
    """Nano-dollars of an amount as JSON has it."""
    exact = Decimal(str(usd)).scaleb(9)
    assert exact == int(exact), f"{usd} is no whole nano-dollar"
    return int(exact)


def of_states(told: Mapping[str, Any]) -> dict[str, int]:
    """Documents by state."""
    return {state: int(told[state]) for state in STATES}


def of_money(told: Mapping[str, Any], *names: str) -> dict[str, int]:
    """Amounts in nano-dollars."""
    return {name: nusd(told[f"{name}_usd"]) for name in names}


def of_outcomes(outcomes: Mapping[str, int]) -> dict[str, int]:
    """Calls by how they ended."""
    return {f"calls that ended {name}": count for name, count in outcomes.items()}


def number(shown: str) -> int:
    """A number as a page shows it."""
    return int(shown.replace(",", ""))


# ---------------------------------------------------------------- commands


def say_status(table: Table, road: Road) -> list[dict[str, Any]]:
    """`status`, of the queue and of each batch, and `batch list`, which is returned."""
    status = road.json("status")
    listed: list[dict[str, Any]] = road.json("batch", "list")["batches"]
    table.say("status", "all", of_states(status["queue"]))
    table.say("status", "today", of_money(status["today"], "cost", "ambiguous", "held"))
    spent = nusd(status["today"]["cost_usd"]) + nusd(status["today"]["ambiguous_usd"])
    table.say("status", "today", {"spent, rounded": format_usd(spent)})
    summed = {state: sum(one[state] for one in listed) for state in STATES}
    table.say("batch list, summed", "all", summed)
    money: Counter[str] = Counter(calls=sum(one["calls"] for one in listed))
    for one in listed:
        money.update(of_money(one, "cost", "ambiguous", "held"))
    table.say("batch list, summed", "real", money)
    for row in listed:
        (one,) = road.json("status", row["batch"])["batches"]
        for source, told in (("status BATCH", one), ("batch list", row)):
            figures = of_states(told) | of_money(told, "cost", "ambiguous", "held")
            spent = nusd(told["cost_usd"]) + nusd(told["ambiguous_usd"])
            rounded = {"spent, rounded": format_usd(spent), "calls": told["calls"]}
            table.say(source, row["batch"], figures | rounded)
    say_status_of_people(table, road)
    return listed


def say_status_of_people(table: Table, road: Road) -> None:
    """The table of batches that `status` shows to a person."""
    lines = road.ask("status").out.splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("batch "))
    for line in itertools.takewhile(str.strip, lines[head + 1 :]):
        done, accepted = re.findall(r" ([\d,]+)/([\d,]+) ", line)[0]
        spent = re.findall(r"([\d.]+ USD)", line)[0]
        figures = {"done": number(done), "spent, rounded": spent}
        table.say("status, for people", line.split()[0], figures)
        assert number(accepted) > 0


def say_audit(table: Table, road: Road, batch: str) -> None:
    """`audit` of a batch."""
    found = road.json("audit", batch)
    assert found["balanced"], found["problems"]
    money = {"cost": "settled", "ambiguous": "ambiguous", "held": "held"}
    figures = {name: nusd(found[f"{told}_usd"]) for name, told in money.items()}
    table.say("audit", batch, {**figures, "calls": found["attempts"]})


def say_report(table: Table, road: Road, *, retried: Mapping[str, int]) -> None:
    """`report` of everything, divided in every way, and of each batch.

    It tells how a document ended each time: one that was retried has been dead besides.
    """
    found = road.json("report")
    total, errors = found["total"], found["total"]["errors"]
    outcomes = {**errors, GOOD: total["calls"] - sum(errors.values())}
    table.say("report", "real", of_outcomes(outcomes))
    names = ("calls", *TOKENS)
    table.say("report", "real", {name: total[name] for name in ("retries", "repaired", *names)})
    table.say("report", "real", of_money(total, "cost", "ambiguous"))
    for by in ("day", "job", "prompt", "model", "batch"):
        groups = road.json("report", "--by", by)["groups"]
        summed = {name: sum(one["figures"][name] for one in groups) for name in names}
        table.say(f"report --by {by}, summed", "real", summed)
        if by == "prompt":
            canary = [one["figures"]["calls"] for one in groups if " v2 " in one["name"]]
            table.say("report --by prompt", "canary", {"calls": sum(canary)})
    for batch, died_before in retried.items():
        total = road.json("report", batch)["total"]
        ended = {state: total[state] for state in ("done", "review", "cancelled")}
        table.say("report BATCH", batch, {**ended, "dead": total["dead"] - died_before})
        table.say("report BATCH", batch, of_money(total, "cost", "ambiguous"))
        table.say("report BATCH", batch, {"calls": total["calls"]})


def say_results(table: Table, road: Road, batch: str) -> None:
    """The lines of `results` of a batch, all of whose documents have ended."""
    path = road.folder / f"{batch}.jsonl"
    road.json("results", batch, "--out", str(path))
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    counted = Counter(line["status"] for line in lines)
    figures = {state: counted[state] for state in ("done", "review", "dead")}
    table.say("results", batch, figures | {"calls": sum(line["attempts"] for line in lines)})
    table.say("results", batch, {"cost": sum(nusd(line["cost_usd"]) for line in lines)})
    table.say("results", "real", {"repaired": sum("repaired" in line["flags"] for line in lines)})


def say_calls(table: Table, road: Road, *, canary: str) -> None:
    """`calls list`, added up."""
    calls = road.json("calls", "list", "--limit", "1000")["calls"]
    table.say("calls list", "real", of_outcomes(Counter(one["fault"] or GOOD for one in calls)))
    figures = {name: sum(one[name] or 0 for one in calls) for name in TOKENS}
    figures |= {"calls": len(calls), "retries": sum(one["number"] > 1 for one in calls)}
    for name in ("cost", "ambiguous"):
        figures[name] = sum(nusd(one[f"{name}_usd"] or 0) for one in calls)
    took_us = [round(1e6 * (one["total_s"] or 0)) for one in calls]
    figures["time of all calls, us"] = sum(took_us)
    figures["times of answers"] = sum(one["response_s"] is not None for one in calls)
    table.say("calls list", "real", figures)
    table.say("calls list", "canary", {"calls": sum(one["prompt"] == canary for one in calls)})


# ---------------------------------------------------------------- the provider


def say_book(table: Table, entries: list[Entry]) -> None:
    """The provider's own book. What it billed and nobody could read is ambiguous in ours."""
    told = [entry for entry in entries if entry.usage_sent]
    table.say("the provider", "real", of_outcomes(Counter(CALLED[one.fault] for one in entries)))
    figures = {
        "calls": len(entries),
        "retries": sum(entry.nth > 1 for entry in entries),
        "repaired": sum(entry.fault == "fenced_json" for entry in entries),
        "cost": sum(entry.cost_nusd for entry in told),
        "input_tokens": sum(entry.prompt_tokens for entry in told),
        "cached_tokens": sum(entry.cached_tokens for entry in told),
        "output_tokens": sum(entry.completion_tokens for entry in told),
        "reasoning_tokens": sum(entry.reasoning_tokens for entry in told),
    }
    table.say("the provider", "real", figures)
    table.say("the provider", "today", {"cost": figures["cost"]})


# ---------------------------------------------------------------- the dashboard


class Samples(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """The samples of one scrape by name and labels, as the client library reads them."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self.names: set[str] = set()
        for family in text_string_to_metric_families(answer.decode()):
            self.names.add(family.name + "_total" * (family.type == "counter"))
            if family.type == "histogram":
                self.names.update(f"{family.name}_{end}" for end in ("bucket", "sum", "count"))
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self, f"{key} twice"
                self[key] = sample.value

    def of(self, name: str, **labels: str) -> float:
        """The sum over the samples with at least these labels."""
        wanted = labels.items()
        found = [n for (one, own), n in self.items() if one == name and wanted <= own]
        return sum(found)

    def labelled(self, name: str, label: str, **labels: str) -> set[str]:
        """The values that a label has in the samples with at least these labels."""
        wanted = labels.items()
        own = [dict(own) for (one, own) in self if one == name and wanted <= own]
        return {one[label] for one in own}


def say_metrics(table: Table, source: str, answer: bytes) -> None:
    """A scrape of /metrics."""
    seen = Samples(answer)
    table.say(source, "all", {s: int(seen.of("runner_documents", state=s)) for s in STATES})
    calls = "runner_calls_total"
    ended = {
        outcome: int(seen.of(calls, outcome=outcome)) for outcome in seen.labelled(calls, "outcome")
    }
    table.say(source, "real", of_outcomes(ended) | {"calls": int(seen.of(calls))})
    tokens = {name: name.removesuffix("_tokens") for name in TOKENS}
    counted = {
        name: int(seen.of("runner_tokens_total", kind=kind)) for name, kind in tokens.items()
    }
    table.say(source, "real", counted)
    kinds = {"cost": "settled", "ambiguous": "ambiguous", "held": "held"}
    for name, kind in kinds.items():
        table.say(source, "today", {name: round(seen.of("runner_day_usd", kind=kind) * 1e9)})
        if kind != "held":
            spent = seen.of("runner_cost_usd_total", kind=kind)
            table.say(source, "real", {name: round(spent * 1e9)})
    times = {
        "time of all calls, us": round(1e6 * seen.of("runner_step_seconds_sum", step="total")),
        "times of answers": int(seen.of("runner_step_seconds_count", step="response")),
    }
    table.say(source, "real", times)
    table.say(source, "real", {"held": round(seen.of("runner_held_usd") * 1e9)})
    for batch in seen.labelled("runner_batch_documents", "batch"):  # that has not ended
        own = {"batch": batch}
        states = {s: int(seen.of("runner_batch_documents", state=s, **own)) for s in STATES}
        money = {
            n: round(seen.of("runner_batch_usd", kind=k, **own) * 1e9) for n, k in kinds.items()
        }
        table.say(source, batch, states | money)


def say_overview(table: Table, board: Visitor) -> None:
    """The dashboard's first page."""
    page = board.get("/").text
    shown = dict(re.findall(r'data-figure="(\w+)">([^<]*)<', page))
    table.say("overview", "all", {s: number(shown[s]) for s in STATES if s in shown})
    table.say("overview", "today", {"spent, rounded": shown["today"]})
    (section,) = re.findall(r'<section id="endings".*?</section>', page, re.DOTALL)
    row = r'<tr><td>(?:<a[^>]*>)?([^<]*)(?:</a>)?</td><td class="n">([\d,]+)<'
    ended = re.findall(row, section)
    outcomes = {GOOD if name == "with a record" else name: number(n) for name, n in ended}
    table.say("overview", "real", of_outcomes(outcomes))


def say_batch_pages(table: Table, board: Visitor, batches: Iterable[Mapping[str, Any]]) -> None:
    """The dashboard's list of batches, and the page of each."""
    rows = board.get("/batches").text.split("<tr>")
    tile = r'<div class="tile"><span>(?:<a[^>]*>)?(\w+)(?:</a>)?</span><strong>([\d,]+)<'
    for one in batches:
        name = one["batch"]
        page = board.get(f"/batches/{one['batch_id']}").text
        table.say("batch page", name, {s: number(count) for s, count in re.findall(tile, page)})
        (calls,) = re.findall(r"<dt>calls</dt><dd><a[^>]*>([\d,]+)<", page)
        (spent,) = re.findall(r"<dt>spent</dt><dd>([\d.,]+ USD)", page)
        table.say("batch page", name, {"calls": number(calls), "spent, rounded": spent})
        (row,) = (row for row in rows if f">{name}</a>" in row)
        done, accepted = re.findall(r'<td class="n">([\d,]+)<span class="soft">/([\d,]+)<', row)[0]
        assert number(accepted) == one["accepted"]
        (spent,) = re.findall(r'<td class="n">([\d.,]+ USD)', row)
        table.say("batches page", name, {"done": number(done), "spent, rounded": spent})
