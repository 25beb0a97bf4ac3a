"""`runner doctor`: tells whether this machine, with these settings, can do the work."""

from collections.abc import Iterator

import click

from runner.cli import checks, checks_of_models, checks_of_redis
from runner.cli.commands import Command, json_option, leave
from runner.cli.exits import Exit
from runner.cli.session import Session, pass_session
from runner.cli.shapes.home import CheckShape, DoctorShape
from runner.cli.terminal import plain, say, say_json


@click.command(cls=Command, example=("runner doctor", "runner doctor --online"))
@click.option("--online", is_flag=True, help="Also ask each provider for its list of models; free.")
@json_option
@pass_session
def doctor(session: Session, /, *, online: bool, as_json: bool) -> None:
    """Check Python, home, ledger, Redis, jobs, prompts, models, keys and prices.

    A line each: ok, warn or fail, and what to do. No key is ever printed. Exit code 1 when a check
    fails; warnings do not count.
    """
    found = []
    for check in _all(session, online=online):
        found.append(check)
        if not as_json:
            say(f"{check.verdict:<4}  {check.name:<18}  {plain(check.message)}")
    ok = all(check.verdict != "fail" for check in found)
    if as_json:
        say_json(DoctorShape(ok=ok, checks=tuple(found)))
    leave(Exit.DONE if ok else Exit.FAILED)


def _all(session: Session, *, online: bool) -> Iterator[CheckShape]:
    settings = session.settings
    yield checks.python()
    yield checks.packages()
    yield from checks.home(settings.home)
    yield checks.disk(settings.home)
    yield checks.ledger(session)
    yield from checks_of_redis.redis(settings)
    yield from checks_of_models.jobs(settings)
    yield from checks_of_models.models(settings, env=session.env, online=online)
