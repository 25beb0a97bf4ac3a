"""The `runner` command: its table of subcommands and the options that all of them share.

Each command lives in a module of its own that is imported when it is called: help is quick, and
`runner work` does not load what only `runner doctor` needs.
"""

from pathlib import Path

import click

from runner.cli.commands import TopGroup
from runner.cli.session import Session

__all__ = ["command_line", "main"]

_TABLE = {
    "run": ("runner.cli.run", "run", "Do a whole job: submit, work, wait, export, sum up."),
    "try": ("runner.cli.trying", "try_", "One document, asked for once, field by field."),
    "submit": ("runner.cli.submit", "submit", "Put documents into the queue, and nothing else."),
    "work": ("runner.cli.work", "work", "Work on the queue until told to stop."),
    "status": ("runner.cli.status", "status", "Queue depth, progress, spend and workers."),
    "report": ("runner.cli.report", "report", "Cost, tokens, times, errors and quality by day."),
    "metrics": ("runner.cli.metrics", "metrics", "Metrics for Prometheus, and rules for them."),
    "results": ("runner.cli.results", "results", "Write a batch's results to a file."),
    "show": ("runner.cli.show", "show", "Everything about one document."),
    "dead": ("runner.cli.dead", "dead", "Dead letters: list, show, retry, purge, export."),
    "review": (
        "runner.cli.review",
        "review",
        "Records that wait for a person: list, decide, sample, estimate.",
    ),
    "batch": ("runner.cli.batch", "batch", "Batches: list, pause, resume, cancel."),
    "calls": ("runner.cli.calls", "calls", "Provider calls: list, show, search, trace."),
    "prune": ("runner.cli.prune", "prune", "Drop the bodies of documents that ended long ago."),
    "erase": ("runner.cli.erase", "erase", "Remove a content's text and answers everywhere."),
    "web": ("runner.cli.web", "web", "The dashboard, for browsers on this machine."),
    "audit": ("runner.cli.audit", "audit", "Check that all documents and money add up."),
    "doctor": ("runner.cli.doctor", "doctor", "Check that this machine and its settings can run."),
    "new": ("runner.cli.new", "new", "Write the skeleton of a new job."),
    "revalidate": (
        "runner.cli.revalidate",
        "revalidate_batch",
        "Stored answers through the present schema and checks, free.",
    ),
    "compare": ("runner.cli.compare", "compare", "Differences of two batches, field by field."),
    "eval": ("runner.cli.evaluate", "evaluate", "Evaluate a prompt on gold documents."),
    "prompt": ("runner.cli.prompt", "prompt", "Prompt versions: list, show, lock."),
}


@click.group(cls=TopGroup, table=_TABLE, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Settings file; RUNNER_CONFIG, else ./runner.toml by default.",
)
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    help="Where the ledger lives; RUNNER_HOME, else ./.runner by default.",
)
@click.pass_context
def command_line(ctx: click.Context, config: Path | None, home: Path | None) -> None:
    """Turn a pile of documents into validated, costed, traceable records through an LLM API.

    Data goes to stdout, talk to stderr; every command has --json, and help with an example.
    """
    ctx.obj = Session(config=config, home=home, typed=ctx.obj)


def main() -> None:
    """Run the command line of this process; ends it with the exit code."""
    command_line.main()
