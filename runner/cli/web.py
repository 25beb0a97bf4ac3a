"""`runner web`: the dashboard, for browsers on this machine."""

import webbrowser

import click

from runner.cli.commands import Command, json_option
from runner.cli.session import Session, pass_session
from runner.cli.shapes.web import WebShape
from runner.cli.terminal import say, say_json, talk
from runner.errors import UsageError

PORT = 8484
TOKEN_ENV = "RUNNER_WEB_TOKEN"  # noqa: S105 - where a token is, not one
TOKEN_CHARS_MIN = 16


@click.command(cls=Command, example=("runner web", "runner web --port 9000 --open"))
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=PORT,
    show_default=True,
    help="Where to listen; 0 is any port that is free.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help=f"Listen for other machines too; needs a token of your own in {TOKEN_ENV}.",
)
@click.option("--open", "opens", is_flag=True, help="Open it in the browser of this machine.")
@json_option
@pass_session
def web(session: Session, /, *, port: int, host: str, opens: bool, as_json: bool) -> None:
    """Show the queue, batches, dead letters, reviews, calls and evaluations in a browser.

    Prints the address that signs in; it holds a token that is new at each start, or the one in
    RUNNER_WEB_TOKEN. Ctrl-C ends it; workers do not notice.
    """
    # the server takes 0.3 s to load, and only this asks for it
    from runner.config import is_loopback  # noqa: PLC0415 - see above
    from runner.web.access import Access  # noqa: PLC0415 - see above
    from runner.web.app import build  # noqa: PLC0415 - see above
    from runner.web.serving import listen, serve  # noqa: PLC0415 - see above

    token = _token(session, needed=not is_loopback(host), host=host)
    listener = listen(host, port)
    port = listener.getsockname()[1]
    access = Access.to(host, port, token=token)
    with session.ledger(create=True) as ledger:
        app, live = build(ledger, session.settings, access)
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{port}/?token={access.token}"
        if as_json:
            home = str(session.settings.home)
            say_json(WebShape(url=url, host=host, port=port, home=home))
        else:
            say(url)
            talk("the dashboard is there until Ctrl-C")
        if not is_loopback(host):
            talk("what it shows travels unencrypted: put it behind a proxy that speaks https")
        if opens:
            webbrowser.open(url)
        serve(app, live, listener)


def _token(session: Session, *, needed: bool, host: str) -> str | None:
    """The token of the environment. Raises UsageError when it is missing or easily guessed."""
    token = session.env.get(TOKEN_ENV, "").strip()
    if not token and needed:
        raise UsageError(
            f"--host {host} lets other machines in, and they must show a token: put one of "
            f"{TOKEN_CHARS_MIN} characters or more into {TOKEN_ENV}; `ssh -L {PORT}:localhost:"
            f"{PORT}` reaches the dashboard of another machine without --host"
        )
    if token and len(token) < TOKEN_CHARS_MIN:
        raise UsageError(f"{TOKEN_ENV} is shorter than {TOKEN_CHARS_MIN} characters: guessed soon")
    return token or None
