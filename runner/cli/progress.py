"""What a person sees while a run goes on: a live line on a terminal, plain lines elsewhere."""

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from runner.budget import format_usd
from runner.cli.terminal import console, plain, talk
from runner.cli.wording import duration
from runner.log import Level, is_json, log, pass_on

if TYPE_CHECKING:
    from rich.console import ConsoleRenderable

SPEED_WINDOW_S = 15.0
PLAIN_EVERY_S = 5.0
REDRAW_EVERY_S = 0.1


class Speed:
    """Documents per second over the last `SPEED_WINDOW_S` seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def note(self, ended: int, *, now_s: float) -> None:
        """Note how many documents have ended by now."""
        self._samples.append((now_s, ended))
        while len(self._samples) > 2 and self._samples[1][0] <= now_s - SPEED_WINDOW_S:  # noqa: PLR2004 - the two ends of the window
            self._samples.popleft()

    @property
    def per_s(self) -> float | None:
        """The speed; None until there is something to tell it by."""
        if not self._samples:
            return None
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_s - first_s) if last_s - first_s >= 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How a run stands at one moment; counts are documents of its batch."""

    batch: str
    accepted: int
    ended: int
    dead: int = 0
    review: int = 0
    in_flight: int = 0
    per_s: float | None = None
    reading: bool = False  # not all inputs have been read
    spent_nusd: int | None = None  # None: not known yet, or a price is unknown
    limit_nusd: int | None = None
    why: str = ""  # why it waits, when it waits

    @property
    def eta_s(self) -> float | None:
        """Seconds until all have ended at the present speed; None while nobody can know."""
        left = self.accepted - self.ended
        if not self.per_s or self.reading or not left:
            return None
        return left / self.per_s


def words(now: Progress) -> list[str]:
    """The parts of a progress line, the most wanted first."""
    parts = [f"{now.ended:,}/{now.accepted:,}{'+' if now.reading else ''}"]
    if now.dead:
        parts.append(f"{now.dead:,} dead")
    if now.review:
        parts.append(f"{now.review:,} to review")
    parts.append(f"{now.in_flight:,} in flight")
    if now.per_s:
        parts.append(f"{now.per_s:.1f}/s")
    if now.eta_s is not None:
        parts.append(f"ETA {duration(max(1, round(now.eta_s)))}")
    if now.spent_nusd is not None:
        of = f" of {format_usd(now.limit_nusd)}" if now.limit_nusd is not None else ""
        parts.append(format_usd(now.spent_nusd) + of)
    return parts


class Board(Protocol):
    """Where progress is shown."""

    def show(self, now: Progress) -> None:
        """Show how it stands; called several times a second."""

    def note(self, line: str) -> None:
        """Show a line that stays."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def make_board() -> Board:
    """The board that fits what stderr is."""
    if is_json():
        return LogBoard()
    return LiveBoard() if sys.stderr.isatty() else PlainBoard()


class PlainBoard:
    """A line every few seconds, and only when something changed: for logs and pipes."""

    def __init__(
        self,
        *,
        clock_s: Callable[[], float] = time.monotonic,
        write: Callable[[str], None] = talk,
    ) -> None:
        self._clock_s = clock_s
        self._write = write
        self._last = ""
        self._next_s = clock_s() + PLAIN_EVERY_S

    def show(self, now: Progress) -> None:
        """Write a line when it is time and there is news."""
        if self._clock_s() < self._next_s:
            return
        self._next_s = self._clock_s() + PLAIN_EVERY_S
        news = f"{now.ended} {now.accepted} {now.dead} {now.review} {now.why}"
        if news == self._last:
            return
        self._last = news
        why = f"; waiting: {plain(now.why, chars_max=200)}" if now.why else ""
        self._write(f"{now.batch}: {', '.join(words(now))}{why}")

    def note(self, line: str) -> None:
        """Write the line."""
        self._write(plain(line))

    def close(self) -> None:
        """Nothing to undo."""


class LogBoard:
    """An event every few seconds when something changed, and what workers log as it is."""

    def __init__(self, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._plain = PlainBoard(clock_s=clock_s, write=self._tell)
        self._now: Progress | None = None

    def show(self, now: Progress) -> None:
        """Log it when it is time and there is news."""
        self._now = now
        self._plain.show(now)

    def _tell(self, line: str) -> None:
        now = self._now
        assert now is not None
        log(
            "progress",
            line,
            level=Level.INFO,
            batch=now.batch,
            accepted=now.accepted,
            ended=now.ended,
            dead=now.dead,
            review=now.review,
            in_flight=now.in_flight,
        )

    def note(self, line: str) -> None:
        """Pass a worker's event on."""
        pass_on(line)

    def close(self) -> None:
        """Nothing to undo."""


class LiveBoard:
    """One line that is drawn anew in place, with a second one below it while the run waits."""

    def __init__(self, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        from rich.live import Live  # noqa: PLC0415 - a pipe needs none of it

        self._console = console(sys.stderr)
        self._clock_s = clock_s
        self._drawn_s = -REDRAW_EVERY_S
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False
        )
        self._live.start()

    def show(self, now: Progress) -> None:
        """Draw the line anew, ten times a second at most."""
        if self._clock_s() - self._drawn_s < REDRAW_EVERY_S:
            return
        self._drawn_s = self._clock_s()
        self._live.update(self._line(now), refresh=True)

    def _line(self, now: Progress) -> "ConsoleRenderable":
        from rich.console import Group  # noqa: PLC0415 - as above
        from rich.progress_bar import ProgressBar  # noqa: PLC0415 - as above
        from rich.table import Table  # noqa: PLC0415 - as above
        from rich.text import Text  # noqa: PLC0415 - as above

        line = Table.grid(padding=(0, 1))
        line.add_column(no_wrap=True)
        line.add_column(no_wrap=True)
        line.add_column(no_wrap=True, overflow="ellipsis")
        bar = ProgressBar(total=max(1, now.accepted), completed=now.ended, width=20)
        line.add_row(Text(plain(now.batch), style="bold"), bar, Text("  ".join(words(now))))
        if not now.why:
            return line
        width = max(20, self._console.width - 11)
        why = Text(f"  waiting: {plain(now.why, chars_max=width)}", style="yellow", no_wrap=True)
        return Group(line, why)

    def note(self, line: str) -> None:
        """Write the line above the live one."""
        from rich.text import Text  # noqa: PLC0415 - as above

        self._console.print(Text(plain(line)), soft_wrap=True)

    def close(self) -> None:
        """Take the live line away."""
        self._live.stop()
