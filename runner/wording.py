"""Durations and counts as people read them, on a terminal and on a page."""


def duration(seconds: float) -> str:
    """A duration in its two largest units, such as `3 min 20 s`."""
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    if seconds < 10:  # noqa: PLR2004 - where a decimal still says something
        return f"{seconds:.1f} s"
    whole_s = round(seconds)
    for size_s, name, smaller_s, smaller in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole_s >= size_s:
            rest = whole_s % size_s // smaller_s
            return f"{whole_s // size_s} {name}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole_s} s"


def several(count: int, noun: str, plural: str | None = None) -> str:
    """`1 document`, `2,000 documents`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
