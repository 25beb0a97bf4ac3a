"""What is extracted from a contract clause."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from runner.fields import Stated
from schemas.values import Amount, Currency, Day, Extraction, Name, Sentence


class ClauseKind(StrEnum):
    """What a clause mainly settles."""

    TERM = "term"
    TERMINATION = "termination"
    CONFIDENTIALITY = "confidentiality"
    LIABILITY = "liability"
    PAYMENT = "payment"
    SERVICE_LEVEL = "service_level"
    DATA_PROTECTION = "data_protection"
    INTELLECTUAL_PROPERTY = "intellectual_property"
    OTHER = "other"


def _repeated(texts: list[str]) -> str | None:
    """Return the first text that says what an earlier one said, letter case aside."""
    seen: set[str] = set()
    for text in texts:
        if text.casefold() in seen:
            return text
        seen.add(text.casefold())
    return None


class ContractClause(Extraction):
    """A clause of a contract: who is bound to what, from when to when, and up to how much."""

    title: Annotated[Name, Stated()] = Field(
        description="Title of the document, as printed at its head."
    )
    parties: Annotated[list[Annotated[Name, Stated()]], Field(min_length=2, max_length=20)] = Field(
        description="Full names of the contracting parties, at least two, in document order."
    )
    clause_kind: ClauseKind = Field(description="What the clause mainly settles.")
    effective_date: Annotated[Day, Stated()] = Field(
        description="The day from which the contract binds the parties, as YYYY-MM-DD."
    )
    end_date: Annotated[Day, Stated()] | None = Field(
        default=None,
        description="The last day it binds them, as YYYY-MM-DD; null when it runs until notice.",
    )
    notice_period_days: Annotated[int, Field(ge=0, le=3650)] | None = Field(
        default=None,
        description="Days of notice needed to end it (a month is 30); null when none are named.",
    )
    governing_law: Annotated[Name, Stated()] | None = Field(
        default=None, description="Whose law governs, as named; null when none is named."
    )
    obligations: Annotated[list[Sentence], Field(min_length=1, max_length=50)] = Field(
        description="What each party must or must not do, one sentence each, naming the party."
    )
    liability_cap_amount: Annotated[Amount, Field(gt=0), Stated()] | None = Field(
        default=None, description="Highest sum a party can be liable for; null when not capped."
    )
    liability_cap_currency: Currency | None = Field(
        default=None,
        description="ISO 4217 code of the cap's currency; null exactly when the amount is null.",
    )

    @field_validator("parties")
    @classmethod
    def _are_distinct(cls, parties: list[str]) -> list[str]:
        twice = _repeated(parties)
        if twice is not None:
            raise ValueError(f"party {twice!r} is listed twice: list each party once")
        return parties

    @field_validator("obligations")
    @classmethod
    def _say_each_thing_once(cls, obligations: list[str]) -> list[str]:
        twice = _repeated(obligations)
        if twice is not None:
            raise ValueError(f"obligation {twice!r} is listed twice: list each obligation once")
        return obligations

    @field_validator("end_date")
    @classmethod
    def _is_not_before_start(cls, end_date: Day | None, info: ValidationInfo) -> Day | None:
        effective_date = info.data.get("effective_date")
        if end_date and effective_date and end_date < effective_date:
            raise ValueError(f"end_date {end_date} is before effective_date {effective_date}")
        return end_date

    @field_validator("liability_cap_currency")
    @classmethod
    def _goes_with_an_amount(cls, currency: str | None, info: ValidationInfo) -> str | None:
        if "liability_cap_amount" not in info.data:
            return currency  # the amount has an error of its own
        amount: Decimal | None = info.data["liability_cap_amount"]
        if (amount is None) != (currency is None):
            raise ValueError(
                f"liability_cap_amount {amount} and liability_cap_currency {currency}:"
                " give both, or null for both"
            )
        return currency
