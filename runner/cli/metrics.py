"""`runner metrics`: the metrics of this home's ledger for Prometheus, and what to do with them."""

import threading
import time
from importlib.resources import files

import click

from runner.cli.commands import Command, json_option
from runner.cli.interrupts import Interrupts
from runner.cli.session import Session, pass_session
from runner.cli.shapes.metrics import MetricsShape
from runner.cli.terminal import say, say_json, talk
from runner.config import is_loopback
from runner.errors import UsageError

PORT = 9465
TICK_S = 0.2


@click.command(
    cls=Command,
    example=("runner metrics", "runner metrics --alert-rules > runner-alerts.yml"),
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen at; this machine's."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=PORT,
    show_default=True,
    help="Port to listen at; 0 takes a free one.",
)
@click.option("--grafana", is_flag=True, help="Print a Grafana dashboard instead.")
@click.option("--alert-rules", is_flag=True, help="Print Prometheus alert rules instead.")
@json_option
@pass_session
def metrics(
    session: Session, *, host: str, port: int, grafana: bool, alert_rules: bool, as_json: bool
) -> None:
    """Serve metrics for Prometheus at /metrics until told to stop.

    All figures come from the ledger: workers keep no second book, and any number of these may run.
    The page has names of batches, models and servers, but no key and no text of a document. Whoever
    reaches the address may read it, so it is this machine's unless --host says otherwise.
    """
    if grafana or alert_rules:
        if as_json or (grafana and alert_rules):
            raise UsageError("--grafana and --alert-rules each stand alone")
        say(_shipped("grafana.json" if grafana else "alerts.yml"))
        return
    _serve(session, host=host, port=port, as_json=as_json)


def _shipped(name: str) -> str:
    return (files("runner.metrics") / name).read_text(encoding="utf-8").rstrip("\n")


def _serve(session: Session, *, host: str, port: int, as_json: bool) -> None:
    from runner.metrics import Metrics  # noqa: PLC0415 - printing rules need not load it
    from runner.metrics.serving import MetricsServer  # noqa: PLC0415 - as above

    interrupts = Interrupts()
    with session.ledger() as ledger, interrupts.heard():
        found = Metrics(ledger, session.settings)
        found.render()  # the first look is the long one: no scrape has to wait for it
        with MetricsServer(found.render, host=host, port=port) as server:
            if not is_loopback(host):
                talk(f"{host} is reached from other machines: whoever does may read the metrics")
            if as_json:
                say_json(MetricsShape(url=server.url))
            else:
                say(server.url)
            serving = threading.Thread(target=server.serve_forever, daemon=True)
            serving.start()
            while not interrupts.count and serving.is_alive():
                time.sleep(TICK_S)
            server.shutdown()
