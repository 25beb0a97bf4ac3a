"""Ages to choose from in a form, such as the last 24 hours."""

from collections.abc import Mapping

AGES_S: Mapping[str, int] = {"1h": 3_600, "24h": 86_400, "7d": 604_800, "30d": 2_592_000}


def since_us(age: str, *, now_us: int) -> int | None:
    """Since when, for an age that was chosen; None for any other text."""
    age_s = AGES_S.get(age)
    return None if age_s is None else now_us - age_s * 1_000_000
