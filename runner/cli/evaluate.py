"""`runner eval`: a prompt version on the gold documents of its job, with a verdict for CI."""

from decimal import Decimal
from pathlib import Path

import click

from runner import batches
from runner.budget import usd_to_nusd
from runner.cli.commands import Command, json_option, leave
from runner.cli.evaluated import say_report
from runner.cli.exits import Exit
from runner.cli.interrupts import stop_on_eof
from runner.cli.money import Usd
from runner.cli.opening import open_again
from runner.cli.session import Session, pass_session
from runner.cli.shapes.evals import EvalShape
from runner.cli.summary import Told, tell_ending
from runner.cli.terminal import plain, say_json, talk
from runner.cli.watch import Ending, ReadAlready
from runner.cli.wording import several
from runner.cli.working import EXIT_OF, MAX_WAIT_S, Workers, interrupts_told, work_on
from runner.evalreport import Report, conclude
from runner.evals.verdicts import Floor, Verdict
from runner.evaluation import Asked, Evaluation, gold_sources, plan_evaluation
from runner.files import write_text
from runner.keys import new_id
from runner.ledger import Ledger
from runner.ledger.nights import Night
from runner.ledger.submission import Batch, find_batch
from runner.nights import conclude_night
from runner.pinned import PinnedJobs
from runner.pricing import refuse_unknown_prices

CONCURRENCY = 100
REPEATS_MAX = 20

_EXIT_OF_VERDICT = {
    Verdict.PASS: Exit.DONE,
    Verdict.BLOCK: Exit.FAILED,
    Verdict.INCONCLUSIVE: Exit.UNFINISHED,
}


@click.command(
    "eval",
    cls=Command,
    example=(
        "runner eval invoice",
        "runner eval invoice --prompt v2 --against v1 --repeats 3 --html eval.html",
        "runner eval invoice --model gpt-5-nano --against-model gpt-5-mini",
    ),
    exits=(*(Exit.DONE, Exit.FAILED, Exit.USAGE, Exit.UNFINISHED, Exit.PAUSED), Exit.INTERRUPTED),
)
@click.argument("job")
@click.option("--prompt", help="Version to evaluate, locked or not; the live one by default.")
@click.option("--against", help="Version to compare with; the live one by default.")
@click.option(
    "--model", "models", multiple=True, help="Model to ask; repeated, the ladder. The job's own."
)
@click.option(
    "--against-model",
    "against_models",
    multiple=True,
    help="The same for what is compared with; as --model by default.",
)
@click.option(
    "--repeats",
    type=click.IntRange(1, REPEATS_MAX),
    default=1,
    show_default=True,
    help="Ask every document so often: models differ from call to call.",
)
@click.option(
    "--min-accuracy",
    type=click.FloatRange(0, 1),
    help="Share of values that a version without a baseline must get right.",
)
@click.option(
    "--min-exact",
    type=click.FloatRange(0, 1),
    help="Share of documents that a version without a baseline must get right as a whole.",
)
@click.option("--budget-usd", type=Usd(), help="The most that the evaluation may spend.")
@click.option("--fresh", is_flag=True, help="Ask anew, though exactly this was evaluated before.")
@click.option("--simulate", is_flag=True, help="Ask the simulated provider: free, made-up answers.")
@click.option("--night", hidden=True, help="The night it is for: the fleet works, and gently.")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the report as a page, with the documents that went wrong side by side.",
)
@json_option
@pass_session
def evaluate(
    session: Session,
    /,
    *,
    job: str,
    prompt: str | None,
    against: str | None,
    models: tuple[str, ...],
    against_models: tuple[str, ...],
    repeats: int,
    min_accuracy: float | None,
    min_exact: float | None,
    budget_usd: Decimal | None,
    fresh: bool,
    simulate: bool,
    night: str | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Evaluate a prompt of JOB on its gold documents, and compare it with another version.

    The documents take the same road as any batch: limits, budgets, checks, grounding. Asking the
    same again costs nothing: what was answered is kept. Exit code 0 is PASS, 1 is BLOCK (surely
    worse), 3 is INCONCLUSIVE (this set cannot tell).
    """
    with interrupts_told(session):
        asked = Asked(
            job=job,
            prompt=prompt,
            against=against,
            models=models,
            against_models=against_models,
            repeats=repeats,
            simulate=simulate,
            budget_nusd=None if budget_usd is None else usd_to_nusd(budget_usd),
            fresh=f"night {night}" if night else new_id("e") if fresh else "",
            night=night or "",
        )
        evaluation = plan_evaluation(asked, PinnedJobs(session.settings.job_folders))
        if budget_usd is not None:
            for trial in evaluation.trials:
                refuse_unknown_prices(session.settings, trial.plan.models, limit="--budget-usd")
        if night:
            stop_on_eof()
        with session.ledger(create=True) as ledger:
            if night and conclude_night(ledger, Night(job=job, night=night)):
                return  # a worker that is gone had evaluated it
            submitted = _submit(ledger, evaluation)
            processes = 0 if night else 1
            ending = _work(session, ledger, list(submitted.values()), processes=processes)
            if ending is not Ending.FINISHED:
                leave(EXIT_OF[ending])
                return
            report = conclude(
                ledger,
                evaluation,
                submitted,
                run_id=new_id("e", clock_s=ledger.clock.s),
                floor=Floor(accuracy=min_accuracy, exact=min_exact),
            )
            if night:
                conclude_night(ledger, Night(job=job, night=night))
        _tell(report, html=html, as_json=as_json)
        leave(_EXIT_OF_VERDICT[report.judgement.verdict])


def _submit(ledger: Ledger, evaluation: Evaluation) -> dict[str, Batch]:
    """All batches before any work, so that both versions are asked in turn and fare alike."""
    texts = gold_sources(evaluation.cases)
    found: dict[str, Batch] = {}
    known = 0
    for trial in evaluation.trials:
        with ledger.snapshot() as connection:
            begun = find_batch(connection, trial.plan.name)
        open_again(ledger, trial.plan, known=begun)
        done = batches.submit(ledger, trial.plan, texts)
        found[trial.plan.name] = done.batch
        known += not done.accepted
    documents = several(len(evaluation.cases), "gold document")
    talk(f"{documents} in {several(len(found), 'batch', 'batches')}")
    if known:
        talk(f"{known} known already: what was answered costs nothing more (--fresh asks anew)")
    if evaluation.asked.simulate:
        talk("simulated: answers and costs are made up, no provider is called")
    return found


def _work(session: Session, ledger: Ledger, found: list[Batch], *, processes: int) -> Ending:
    """Work on the batches until the last one has ended; how it did, if not well, is told.

    Without processes of its own, other workers do it.
    """
    for batch in found:
        ending, why = work_on(
            ledger,
            batch,
            submission=ReadAlready(),
            workers=Workers(processes, CONCURRENCY, session.env, allow_unsafe_redis=False),
            max_wait_s=MAX_WAIT_S,
        )
        if ending is not Ending.FINISHED:
            standing = batches.standing(ledger, batch)
            tell_ending(
                ledger,
                Told(
                    ending=ending,
                    why=why,
                    standing=standing,
                    seconds=0.0,
                    out=None,
                    exported=None,
                    again=session.typed,
                ),
            )
            return ending
    return Ending.FINISHED


def _tell(report: Report, *, html: Path | None, as_json: bool) -> None:
    if html is not None:
        # jinja2 takes 60 ms to load, and only this asks for it
        from runner.pages.evaluation import evaluation_page  # noqa: PLC0415

        write_text(html, evaluation_page(report))
        talk(f"{plain(str(html))} has the documents side by side")
    if as_json:
        say_json(EvalShape.of(report))
    else:
        say_report(report)
