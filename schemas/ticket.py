"""What is extracted from a customer's message to support."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from runner.fields import Compare, Stated
from schemas.values import Day, Extraction, Name, Sentence


class Category(StrEnum):
    """What the message is about."""

    BILLING = "billing"
    DELIVERY = "delivery"
    DEFECT = "defect"
    OUTAGE = "outage"
    ACCOUNT = "account"
    QUESTION = "question"
    OTHER = "other"


class Severity(StrEnum):
    """How much it hurts the customer."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Sentiment(StrEnum):
    """How the customer sounds."""

    CALM = "calm"
    UNHAPPY = "unhappy"
    ANGRY = "angry"


class SupportTicket(Extraction):
    """A message to support: what happened, how bad it is, and what the customer wants done."""

    customer_name: Annotated[Name, Stated()] | None = Field(
        default=None, description="Who writes, as signed; null when nobody signed."
    )
    product: Annotated[Name, Stated()] | None = Field(
        default=None,
        description="The product or service it is about, as the customer calls it; null if none.",
    )
    category: Category = Field(
        description="billing: money charged; delivery: late, lost or wrong parcel; defect: product"
        " broken; outage: service down; account: access or personal details;"
        " question: asks how; other: none of these."
    )
    severity: Severity = Field(
        description="low: no hurry; medium: a nuisance; high: cannot use what was paid for;"
        " critical: danger to people, or a business stands still."
    )
    sentiment: Sentiment = Field(description="Tone of the customer: calm, unhappy or angry.")
    summary: Sentence = Field(description="What happened, in one or two sentences of third person.")
    requested_action: Sentence = Field(
        description="What the customer wants support to do, in one sentence."
    )
    order_number: Annotated[Name, Compare.ID, Stated()] | None = Field(
        default=None, description="Order number exactly as written; null when none is named."
    )
    reported_at: Annotated[Day, Stated()] | None = Field(
        default=None,
        description="The day the message was written, as YYYY-MM-DD; null when it has no date.",
    )

    @field_validator("severity")
    @classmethod
    def _outages_are_not_low(cls, severity: Severity, info: ValidationInfo) -> Severity:
        if severity is Severity.LOW and info.data.get("category") is Category.OUTAGE:
            raise ValueError(
                "severity low contradicts category outage: a service that is down is at least"
                " medium; raise the severity or choose another category"
            )
        return severity

    @field_validator("requested_action")
    @classmethod
    def _is_not_the_summary(cls, requested_action: str, info: ValidationInfo) -> str:
        summary = info.data.get("summary")
        if summary is not None and summary.casefold() == requested_action.casefold():
            raise ValueError(
                "requested_action repeats summary: say what the customer wants done, not what"
                " happened"
            )
        return requested_action
