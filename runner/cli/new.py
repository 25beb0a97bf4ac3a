"""`runner new`: the skeleton of a new job."""

import os
from pathlib import Path

import click

from runner.cli.commands import Command, json_option
from runner.cli.session import Session, pass_session
from runner.cli.shapes.home import NewShape
from runner.cli.terminal import say, say_json, talk
from runner.registry import PACKAGE
from runner.skeleton import create_job


@click.command(cls=Command, example=("runner new receipt", "runner new receipt --folder ~/my-jobs"))
@click.argument("name")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the job's folder goes; the first folder of RUNNER_JOBS, else ./jobs by default.",
)
@json_option
@pass_session
def new(session: Session, /, *, name: str, folder: Path | None, as_json: bool) -> None:
    """Write the skeleton of a new job: schema, prompt, checks, a sample, and its lock.

    It runs as it is and extracts a title and a date; edit it from there.
    """
    folders = session.settings.job_folders
    place = folder or (folders[0] if folders else Path(PACKAGE))
    files = create_job(name, place)
    shown = tuple(os.path.relpath(file) for file in files)
    if as_json:
        say_json(NewShape(job=name, files=shown))
        return
    for file in shown:
        say(file)
    talk(f"try it: `runner run {name} {os.path.relpath(place / name / 'samples')} --simulate`")
    if place.absolute() not in folders and not (place / "__init__.py").is_file():
        talk(f"first, so that it is found: export RUNNER_JOBS={place.absolute()}")
