"""A real calendar for tests in virtual time."""

from runner.config import ModelSettings
from runner.limiter import Calendar
from runner.limiter.calendar import Question, Reply
from tests.virtual_time import outside


class OutsideCalendar(Calendar):
    """A calendar that time waits for, and that believes it."""

    questions = 0

    async def ask(self, lane: str, limits: ModelSettings, question: Question) -> Reply:
        """See `Calendar.ask`."""
        self.questions += 1
        with outside():
            return await super().ask(lane, limits, question)

    async def tune(self, lane: str, *, epoch: int, limit: int, knee: str) -> bool:
        """See `Calendar.tune`."""
        with outside():
            return await super().tune(lane, epoch=epoch, limit=limit, knee=knee)
