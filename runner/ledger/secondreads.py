"""Second reads as the ledger keeps them: what a batch pinned, and the answer to be confirmed."""

import json
from dataclasses import asdict, dataclass

from runner.ledger.evidence import read_evidence, written_evidence
from runner.model import FirstRead


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondPin:
    """With what some answers of a batch are read a second time, and which."""

    prompt_version: str
    prompt_id: str
    models: tuple[str, ...]
    percent: float
    doubtful: bool


def written_second_pin(pin: SecondPin | None) -> str | None:
    """As JSON; None where nothing is read twice."""
    return None if pin is None else json.dumps(asdict(pin))


def read_second_pin(written: str | None) -> SecondPin | None:
    """What `written_second_pin` wrote."""
    if written is None:
        return None
    found = json.loads(written)
    return SecondPin(**found | {"models": tuple(found["models"])})


def written_first(first: FirstRead) -> str:
    """A first read as JSON."""
    evidence = written_evidence(first.evidence)
    return json.dumps(asdict(first) | {"evidence": evidence}, ensure_ascii=False)


def read_first(written: str | None) -> FirstRead | None:
    """What `written_first` wrote."""
    if written is None:
        return None
    found = json.loads(written)
    flags, evidence = tuple(found["flags"]), read_evidence(found["evidence"])
    return FirstRead(**found | {"flags": flags, "evidence": evidence})
