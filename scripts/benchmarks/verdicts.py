"""Benchmark: what evaluations say of a prompt that changes nothing, and of one that is worse.

A provider errs silently (a value of another field) in a share of its answers, drawn anew for each
prompt and seed. Evaluations are real: `runner eval` over its own home, workers, gold documents.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from runner.testing.control import ProviderProcess
from scripts.benchmarks.goldjobs import make_gold_job
from scripts.benchmarks.homes import environment

VERDICT_CODES = (0, 1, 3)


def evaluate(env: Mapping[str, str]) -> dict[str, Any]:
    """One fresh evaluation of v2 against v1. Raises SystemExit with its words when it fails."""
    command = [sys.executable, "-m", "runner.cli", "eval", "bill", "--prompt", "v2", "--fresh"]
    done = subprocess.run(  # noqa: S603 - our own command line
        [*command, "--json"], env=dict(env), capture_output=True, text=True, check=False
    )
    if done.returncode not in VERDICT_CODES or not done.stdout:
        raise SystemExit(f"eval: {done.returncode}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--documents", type=int, default=50)
    parser.add_argument("--noise", type=float, default=0.1, help="share of answers that err")
    parser.add_argument("--worse", type=float, default=0.7, help="the same of the worse prompt")
    asked = parser.parse_args()
    table = Table(title=f"{asked.documents} gold documents, {asked.seeds} seeds")
    for title in ("v1 errs", "v2 errs", "pass", "inconclusive", "block"):
        table.add_column(title, justify="right")
    with tempfile.TemporaryDirectory(prefix="verdicts-") as place, ProviderProcess() as provider:
        folder = Path(place)
        make_gold_job(folder / "jobs", documents=asked.documents)
        env = environment(folder / "home", provider.base_url) | {
            "RUNNER_JOBS": str(folder / "jobs")
        }
        for rate in (asked.noise, asked.worse):
            verdicts: Counter[str] = Counter()
            rates = {"carefully": asked.noise, "neatly": rate}
            for seed in range(asked.seeds):
                rules = [
                    {"fault": "wrong_field", "instructions": word, "rate": share}
                    for word, share in rates.items()
                ]
                provider.control(clear=True, faults={"rules": rules, "seed": seed})
                verdicts[evaluate(env)["verdict"]] += 1
            counts = [str(verdicts[one]) for one in ("pass", "inconclusive", "block")]
            table.add_row(f"{asked.noise:.0%}", f"{rate:.0%}", *counts)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
