"""The few figures at the head of the overview, as text: the page has them, and looks renew them."""

from collections.abc import Mapping

from runner.ledger.money import Day, larger_limit_nusd
from runner.ledger.standing import QueueStanding
from runner.model import DocumentState
from runner.pages.numbers import count, usd
from runner.wording import duration


def figures(queue: QueueStanding, day: Day, *, day_limit_nusd: int | None) -> Mapping[str, str]:
    """Each figure by its name; what may have been paid today counts as spent."""
    limit_nusd = larger_limit_nusd(day.limit_nusd, day_limit_nusd)
    told = {state.value: count(queue.states[state]) for state in DocumentState}
    return told | {
        "delayed": count(queue.delayed),
        "oldest": "none" if queue.oldest_age_s is None else duration(queue.oldest_age_s),
        "today": usd(day.settled_nusd + day.ambiguous_nusd),
        "today_limit": "no limit" if limit_nusd is None else f"of {usd(limit_nusd)}",
        "held": usd(day.held_nusd),
        "workers": count(len(queue.workers)),
        "in_flight": count(sum(worker.in_flight for worker in queue.workers)),
    }
