"""The lines of a text around places in it, with their numbers, for a person to read."""

from collections.abc import Iterable, Iterator

AROUND = 1  # lines before and after
LINES_MAX = 40
LINE_CHARS_MAX = 200


def line_number(text: str, place: int) -> int:
    """The line, counted from 1, that the character at `place` stands in."""
    return text.count("\n", 0, place) + 1


def excerpt(text: str, spans: Iterable[tuple[int, int]]) -> list[str]:
    """Numbered lines around these spans of characters, `…` between what does not follow.

    At most LINES_MAX lines of at most LINE_CHARS_MAX characters; a span of many lines is shown by
    its first one.
    """
    lines = text.split("\n")
    wanted = sorted(
        {
            near
            for start, _ in spans
            if start < len(text)
            for near in range(
                line_number(text, start) - AROUND, line_number(text, start) + AROUND + 1
            )
            if 1 <= near <= len(lines)
        }
    )
    return list(_numbered(lines, wanted[:LINES_MAX], cut=len(wanted) > LINES_MAX))


def _numbered(lines: list[str], wanted: list[int], *, cut: bool) -> Iterator[str]:
    width = len(str(wanted[-1])) if wanted else 0
    before = None
    for number in wanted:
        if before is not None and number != before + 1:
            yield "…"
        line = lines[number - 1]
        shown = line if len(line) <= LINE_CHARS_MAX else line[: LINE_CHARS_MAX - 1] + "…"
        yield f"{number:>{width}}  {shown}"
        before = number
    if cut:
        yield "…"
