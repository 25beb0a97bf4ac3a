"""Draws a series of numbers as a line of eighth blocks, and a share as a bar."""

from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
FULL, EMPTY = "█", "░"


def sparkline(values: Sequence[float], *, width: int) -> str:
    """The newest `width` values, the highest of them as a full block; nothing above 0 stays low."""
    shown = list(values)[-width:] if width > 0 else []
    top = max(shown, default=0.0)
    if top <= 0:
        return BLOCKS[0] * len(shown)
    return "".join(BLOCKS[round(max(0.0, one) / top * (len(BLOCKS) - 1))] for one in shown)


def bar(share: float, *, width: int) -> str:
    """A share of 0 to 1 as blocks; more than nothing is never shown as nothing, nor less as all."""
    filled = round(min(1.0, max(0.0, share)) * width)
    if 0 < share < 1:
        filled = min(width - 1, max(1, filled)) if width > 1 else filled
    return FULL * filled + EMPTY * (width - filled)
