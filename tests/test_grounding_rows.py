"""Values of a list's elements are found in their own rows."""

from typing import Annotated

from pydantic import BaseModel

from runner.fields import Stated, spec_of
from runner.grounding import ground


class Row(BaseModel):
    """An element."""

    name: Annotated[str, Stated()]
    pieces: Annotated[int, Stated()]


class Table(BaseModel):
    """A list of them, and a value of its own."""

    rows: list[Row]
    pieces: Annotated[int, Stated()]


TEXT = """\
pieces in all  40
Bolt      20
Discount  10
Washer    20
Discount  10
"""


def test_each_row_has_the_places_of_its_own_line() -> None:
    rows = [("Bolt", 20), ("Discount", 10), ("Washer", 20), ("Discount", 10)]
    data = {"rows": [{"name": name, "pieces": n} for name, n in rows], "pieces": 40}
    found = ground(spec_of(Table), data, TEXT)
    assert found.errors == ()
    lines = {one.path: TEXT.count("\n", 0, one.start) for one in found.evidence}
    assert lines == {
        **{f"rows.{n}.{part}": n + 1 for n in range(4) for part in ("name", "pieces")},
        "pieces": 0,
    }
