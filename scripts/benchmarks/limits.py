"""Benchmark: how well a provider's limits are used, and how often it refuses.

The test provider enforces its limits over any rolling window, and its book is the judge. Each run
sends the same invoices through real `runner work` processes on one home; `plain` are the fewest and
the most processes of AsyncOpenAI + asyncio.gather + aiolimiter with their part of the limit each,
and the client's own retries.

- rpm: 3,000 requests a minute
- tpm: a limit of tokens that takes as long; one document has 3 % of a window's tokens
- largest: as tpm, but one document has nearly all tokens of a window. At an even pace the window
  must be empty before it and is full after it: that gap is part of the ideal
- true70: the provider admits 70 % of what it was said to, and tells no limits
- knee: no limits are known; the provider serves 16 at once, and the others wait in line there

use: admitted amount / (limit rate x time from first to last arrival); with places (knee): answers a
second / what its places serve. later use: of what arrived after the first window. time: first
arrival to last answer / ideal, where ideal = amount / limit rate + median latency. Times begin with
the provider's first arrival, so that the start of the processes is no part of them. Who fills the
first window in one burst has a window's amount before its time: in a run of few windows that alone
gives a use above 100 % and a time below 1. A run of the runner in which a document is missing is
void: exit 1.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import redis

from runner.ledger import Ledger
from runner.ledger.callfilters import CallFilter
from runner.ledger.calls import list_calls
from runner.servers.valkey import use_valkey
from runner.testing.answers import Answers
from runner.testing.chat_request import RequestReader
from runner.testing.control import ProviderProcess
from runner.testing.documents import generate_documents
from runner.testing.outcome import tokens_of
from scripts.benchmarks.homes import MODEL, check_all_done, environment, prepared, submit_all
from scripts.benchmarks.limit_figures import Figures, Yardstick, figures

RPM = 3_000
LATENCY_MS = 300.0
LATENCY_SIGMA = 0.3
DOCUMENT_BYTES_MAX = 12_000
LARGE_SHARE = 0.03  # of a window's tokens
LARGEST_SHARE = 0.9
TRUE_SHARE = 0.7
TRUE_WORKERS = 4
TRUE_WINDOWS = 3
PLACES = 16
KNEE_WORKERS = 4
SLOTS = 100
UNEVEN_SLOTS = 200
SECONDS_PER_MINUTE = 60
RUN_S_MAX = 600.0
QUICK = {"documents": 300, "window_s": 3.0, "workers": (1, 4)}
SCENARIOS = ("rpm", "tpm", "largest", "true70", "knee")

Documents = Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What the provider enforces, what the runner is told of it, and what is sent."""

    name: str
    documents: Documents
    provider: Mapping[str, Any]
    model: Mapping[str, float] = field(default_factory=dict)  # its table in runner.toml
    by: Yardstick
    answer_tokens: float = 0.0  # expected of an answer by who writes a plain script


@dataclass(frozen=True)
class Crew:
    """The processes of a run: how many documents each one takes at once."""

    load: str
    slots: tuple[int, ...]

    @classmethod
    def even(cls, processes: int) -> "Crew":
        """All alike."""
        return cls("even", (SLOTS,) * processes)

    @classmethod
    def uneven(cls, processes: int) -> "Crew":
        """One that could do all the work, and others that take a document at a time."""
        return cls("uneven", (UNEVEN_SLOTS, *(1,) * (processes - 1)))


# ------------------------------------------------------------ what is sent


def mixed_documents(count: int) -> list[tuple[str, str]]:
    """Invoices of about 1 to 12 kB."""
    made = generate_documents(4 * count, seed=1)
    fitting = (each for each in made if len(each[1].encode()) <= DOCUMENT_BYTES_MAX)
    return [each for _, each in zip(range(count), fitting, strict=False)]


def with_a_large_one(documents: Documents, *, tokens: float) -> list[tuple[str, str]]:
    """The documents, the middle one made so long that it needs about that many tokens.

    Needs: by the provider's count or by the runner's own estimate, whichever is more.
    """
    middle = len(documents) // 2
    name, text = documents[middle]
    paragraph = "\nThese terms are repeated so that the document is a very long one."
    short, longer = (_needed_tokens((name, text + paragraph * many)) for many in (0, 1_000))
    many = round(max(0.0, tokens - short) / (longer - short) * 1_000)
    return [*documents[:middle], (name, text + paragraph * many), *documents[middle + 1 :]]


def _needed_tokens(document: tuple[str, str]) -> int:
    (call,) = prepared([document])
    return max(call.expected_tokens, sum(counted_tokens([document])[0]))


def counted_tokens(documents: Documents) -> list[tuple[int, int]]:
    """Prompt and completion tokens of each document's call, as the provider will count them."""
    reader, answers = RequestReader(), Answers()
    counted = []
    for call in prepared(documents):
        request = reader.read(call.body)
        answer = answers.answer(
            document=request.document,
            cache_key=(request.document_key, request.output.key),
            shape=request.output.shape,
        )
        needed = tokens_of(request, answer_bytes=answer.text_bytes, reasoning_tokens=0)
        counted.append((needed.prompt, needed.completion))
    return counted


# ------------------------------------------------------------ scenarios


def scenario(name: str, *, count: int, window_s: float) -> Scenario:
    """One of SCENARIOS."""
    match name:
        case "rpm":
            return _rpm(mixed_documents(count), window_s)
        case "tpm":
            return _tpm(name, mixed_documents(count), window_s, share=LARGE_SHARE)
        case "largest":
            made = _tpm(name, mixed_documents(count), window_s, share=LARGEST_SHARE)
            return replace(made, by=replace(made.by, gap_s=LARGEST_SHARE * window_s))
        case "true70":
            return _true70(window_s)
        case _:
            return _knee(mixed_documents(count), window_s)


def _rpm(documents: Documents, window_s: float) -> Scenario:
    per_window = round(RPM * window_s / SECONDS_PER_MINUTE)
    return Scenario(
        name="rpm",
        documents=documents,
        provider={"rpm": per_window, "window_s": window_s},
        model={"rpm": RPM, "window_s": window_s},
        by=Yardstick(rate_per_s=RPM / SECONDS_PER_MINUTE, window_s=window_s),
    )


def _tpm(name: str, documents: Documents, window_s: float, *, share: float) -> Scenario:
    """Tokens of the ordinary documents pass at RPM documents a minute."""
    counted = counted_tokens(documents)
    rate_per_s = statistics.mean(map(sum, counted)) * RPM / SECONDS_PER_MINUTE
    per_window = round(rate_per_s * window_s)
    tpm = round(per_window * SECONDS_PER_MINUTE / window_s)
    return Scenario(
        name=name,
        documents=with_a_large_one(documents, tokens=share * per_window),
        provider={"tpm": per_window, "window_s": window_s},
        model={"tpm": tpm, "window_s": window_s},
        by=Yardstick(unit="tokens", rate_per_s=per_window / window_s, window_s=window_s),
        answer_tokens=statistics.mean(completion for _, completion in counted),
    )


def _true70(window_s: float) -> Scenario:
    per_window = round(TRUE_SHARE * RPM * window_s / SECONDS_PER_MINUTE)
    told = _rpm(mixed_documents(TRUE_WINDOWS * per_window), window_s)
    return replace(
        told,
        name="true70",
        provider={"rpm": per_window, "window_s": window_s, "limit_headers": False},
        by=replace(told.by, rate_per_s=per_window / window_s),
    )


def _knee(documents: Documents, window_s: float) -> Scenario:
    return Scenario(
        name="knee",
        documents=documents,
        provider={"serve_at_once": PLACES},
        by=Yardstick(window_s=window_s, places=PLACES),
    )


# ------------------------------------------------------------ runs


def run_runner(made: Scenario, crew: Crew, server: ProviderProcess, home: Path) -> Figures:
    """Submit first, then let the crew work until nothing is left."""
    home.mkdir()
    config = home / "runner.toml"
    lines = [f"{name} = {value}" for name, value in made.model.items()]
    config.write_text("\n".join([f'[models."{MODEL}"]', *lines, ""]), encoding="utf-8")
    env = environment(home, server.base_url, config=config)
    ledger = submit_all(made.documents, env)
    try:
        with use_valkey(home) as valkey:
            assert valkey.url is not None
            before = _redis_calls(valkey.url)
            _work(crew, env)
            redis_calls = _redis_calls(valkey.url) - before
        check_all_done(ledger, count=len(made.documents))
        measured = _measured(made, server, done=len(made.documents))
        largest_s, median_s = _waits_s(ledger)
    finally:
        ledger.close()
    return replace(
        measured,
        wait_largest_s=largest_s,
        wait_median_s=median_s,
        redis_calls=redis_calls / len(made.documents),
    )


def run_plain(made: Scenario, processes: int, server: ProviderProcess, folder: Path) -> Figures:
    """The plain processes, all started before the first one sends."""
    folder.mkdir()
    file = folder / "asked.json"
    asked = {
        "bodies": [call.body.decode() for call in prepared(made.documents)],
        "requests": made.provider.get("rpm"),
        "tokens": made.provider.get("tpm"),
        "window_s": made.by.window_s,
        "answer_tokens": made.answer_tokens,
    }
    file.write_text(json.dumps(asked), encoding="utf-8")
    env = environment(folder, server.base_url)
    command = [sys.executable, "-m", "scripts.benchmarks.plain_limited", str(file)]
    started = [
        subprocess.Popen(  # noqa: S603 - our own command line
            [*command, str(position), str(processes)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for position in range(processes)
    ]
    try:
        for process in started:
            assert process.stdout
            process.stdout.readline()  # it is ready
        for process in started:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        done = sum(int(process.communicate(timeout=RUN_S_MAX)[0]) for process in started)
    finally:
        for process in started:
            process.kill()
    return _measured(made, server, done=done)


def _work(crew: Crew, env: Mapping[str, str]) -> None:
    """Raises SystemExit when a worker fails or does not end."""
    command = [sys.executable, "-m", "runner.cli", "work", "--until-empty", "--concurrency"]
    started = [
        subprocess.Popen([*command, str(slots)], env=env)  # noqa: S603 - our own command line
        for slots in crew.slots
    ]
    try:
        codes = [process.wait(RUN_S_MAX) for process in started]
    except subprocess.TimeoutExpired as error:
        raise SystemExit(f"void: a worker was not done after {RUN_S_MAX:g} s") from error
    finally:
        for process in started:
            process.kill()
    if any(codes):
        raise SystemExit(f"void: workers ended with {codes}")


def _measured(made: Scenario, server: ProviderProcess, *, done: int) -> Figures:
    return figures(server.book(), made.by, done=done, peak_line=server.summary().peak_waiting)


def _redis_calls(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return sum(command["calls"] for command in client.info("commandstats").values())


def _waits_s(ledger: Ledger) -> tuple[float, float]:
    """How long the largest document and the median one waited for the limiter, at the longest."""
    with ledger.snapshot() as connection:
        calls = list_calls(connection, CallFilter(limit=1_000_000))
    tokens: dict[str, int] = {}
    waits_s: dict[str, float] = {}
    for call in calls:
        name = call.document_id
        tokens[name] = max(tokens.get(name, 0), call.input_tokens or 0)
        waits_s[name] = max(waits_s.get(name, 0.0), call.limiter_wait_us / 1e6)
    largest = max(tokens, key=lambda name: tokens[name])
    return waits_s[largest], statistics.median(waits_s.values())


# ------------------------------------------------------------ all of it


def rows(made: Scenario, options: argparse.Namespace) -> Iterator[tuple[str, Crew]]:
    """Who works on a scenario, in turn."""
    most = max(options.workers)
    if made.name == "true70":
        yield "runner", Crew.even(TRUE_WORKERS)
    elif made.name == "knee":
        yield "runner", Crew.even(KNEE_WORKERS)
    elif made.name == "largest":
        yield "runner", Crew.even(most)
    else:
        if options.load != "uneven":
            yield from (("runner", Crew.even(processes)) for processes in options.workers)
        if options.load != "even" and most > 1:
            yield "runner", Crew.uneven(most)
        if not options.without_plain:
            fewest_and_most = sorted({min(options.workers), most})
            yield from (("plain", Crew.even(processes)) for processes in fewest_and_most)


def run(
    made: Scenario, who: str, crew: Crew, server: ProviderProcess, folder: Path, *, seed: int
) -> Figures:
    """One run at a provider that remembers none before it."""
    nothing = {"rpm": None, "tpm": None, "limit_headers": True, "serve_at_once": None}
    server.control(clear=True, **nothing)  # empties the windows, too
    server.control(seed=seed, **made.provider)
    if who == "plain":
        return run_plain(made, len(crew.slots), server, folder)
    return run_runner(made, crew, server, folder)


def print_table(measured: Mapping[tuple[str, str, int, str], Sequence[Figures]]) -> None:
    """Print one line for each way of running, medians of its rounds."""
    print(
        f"{'scenario':9}{'who':7}{'processes':>9} {'load':7}{'done':>6}{'use':>8}{'later':>7}"
        f"{'time':>7}{'refused':>9}{'later':>7}{'share':>8}{'line':>6}"
        f"{'wait of':>9}{'median':>8}{'Redis':>7}"
    )
    print(
        f"{'':39}{'%':>7}{'use %':>7}{'/ideal':>7}{'1st win.':>9}{'':7}{'%':>8}{'peak':>6}"
        f"{'largest':>9}{'wait s':>8}{'/doc':>7}"
    )
    for (name, who, processes, load), runs in measured.items():
        one = Figures.median(runs)
        print(
            f"{name:9}{who:7}{processes:>9} {load:7}{one.done:>6.0f}"
            f"{_shown(one.use, scale=100, digits=1):>8}"
            f"{_shown(one.use_later, scale=100, digits=1):>7}{_shown(one.times_ideal, digits=3):>7}"
            f"{one.refused_first:>9.0f}{one.refused_after:>7.0f}"
            f"{100 * one.refused_after_share:>8.2f}{one.peak_line:>6.0f}"
            f"{_shown(one.wait_largest_s):>9}{_shown(one.wait_median_s):>8}"
            f"{_shown(one.redis_calls, digits=1):>7}"
        )


def _shown(value: float | None, *, scale: float = 1.0, digits: int = 2) -> str:
    return "" if value is None else f"{value * scale:.{digits}f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--documents", type=int, default=1_500)
    add("--workers", type=_numbers, default=(1, 2, 4, 8), metavar="1,2,4,8")
    add("--window-s", type=float, default=10.0)
    add("--load", choices=("both", "even", "uneven"), default="both", help="of rpm and tpm")
    add("--scenarios", type=_names, default=SCENARIOS, metavar=",".join(SCENARIOS))
    add("--rounds", type=int, default=1, help="medians are shown")
    add("--without-plain", action="store_true", help="the runner alone")
    add(
        "--quick",
        action="store_true",
        help="300 documents, windows of 3 s, 1 and 4 processes: three minutes, rougher figures",
    )
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK)
    return options


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(SCENARIOS):
        raise argparse.ArgumentTypeError(f"no scenario is called {', '.join(sorted(unknown))}")
    return names


def main() -> None:
    """Run every scenario in turn, as often as asked, and print the table."""
    options = _options()
    made = [
        scenario(name, count=options.documents, window_s=options.window_s)
        for name in options.scenarios
    ]
    measured: dict[tuple[str, str, int, str], list[Figures]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="bench") as folder,
        ProviderProcess(latency_ms=LATENCY_MS, latency_sigma=LATENCY_SIGMA) as server,
    ):
        homes = (Path(folder) / f"h{number}" for number in range(1_000_000))
        for seed in range(options.rounds):
            for each in made:
                for who, crew in rows(each, options):
                    key = (each.name, who, len(crew.slots), crew.load)
                    sys.stderr.write(f"{' '.join(map(str, key))} ...\n")
                    got = run(each, who, crew, server, next(homes), seed=seed)
                    measured.setdefault(key, []).append(got)
    print(
        f"{options.documents} documents of 1 to 12 kB, rolling window of {options.window_s:g} s, "
        f"{RPM} a minute, latency {LATENCY_MS:g} ms, {options.rounds} rounds"
    )
    print_table(measured)


if __name__ == "__main__":
    main()
