"""Evidence as the ledger keeps it: rows of path, start, end and how, as JSON."""

import json
from collections.abc import Iterable

from runner.model import Evidence, How


def written_evidence(evidence: Iterable[Evidence]) -> str | None:
    """None where nothing was found in the document."""
    rows = [(one.path, one.start, one.end, one.how.value) for one in evidence]
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":")) if rows else None


def read_evidence(written: str | None) -> tuple[Evidence, ...]:
    """What `written_evidence` wrote."""
    if written is None:
        return ()
    return tuple(
        Evidence(path, start, end, How(how)) for path, start, end, how in json.loads(written)
    )
