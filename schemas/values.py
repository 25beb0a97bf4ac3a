"""The kinds of value that several schemas share: amounts of money, currencies, days and names."""

import re
from datetime import date
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
)

from runner.fields import Compare, Stated

CENT = Decimal("0.01")

# How documents write currencies beside their codes. A sign may stand for several: it is ground for
# each of them, since nothing else in the document would be.
_WRITTEN_CURRENCIES = {
    "EUR": ("€", "euro", "euros", "Euro", "Euros", "EURO"),
    "USD": ("$", "US$", "dollar", "dollars", "Dollar", "Dollars"),
    "GBP": ("£", "pound", "pounds", "Pounds", "pounds sterling", "sterling"),
    "CHF": ("Fr.", "SFr.", "sFr.", "Franken", "francs", "Swiss francs"),
    "JPY": ("¥", "￥", "円", "yen", "Yen"),
    "CNY": ("¥", "￥", "元", "RMB", "yuan"),
    "SEK": ("kr", "kr.", "kronor"),
    "NOK": ("kr", "kr.", "kroner"),
    "DKK": ("kr", "kr.", "kroner"),
    "PLN": ("zł", "złotych", "złoty"),
    "CZK": ("Kč", "korun"),
    "HUF": ("Ft", "forint"),
    "INR": ("₹", "Rs.", "Rs", "rupees"),
    "BRL": ("R$", "reais"),
    "TRY": ("₺", "TL", "lira"),
    "UAH": ("₴", "грн"),
    "KRW": ("₩", "won"),
    "ILS": ("₪", "shekels"),
    "CAD": ("$", "C$", "CA$", "Canadian dollars", "dollars"),
    "AUD": ("$", "A$", "AU$", "Australian dollars", "dollars"),
    "NZD": ("$", "NZ$", "New Zealand dollars", "dollars"),
    "SGD": ("$", "S$", "SG$", "Singapore dollars", "dollars"),
    "HKD": ("$", "HK$", "Hong Kong dollars", "dollars"),
    "MXN": ("$", "MX$", "pesos"),
}

_PLACEHOLDER = re.compile(
    r"[-?]+|n/?a|nil|null|tbd|unknown|none|(?:none|not)[ _](?:given|stated)", re.IGNORECASE
)
_CURRENCY = re.compile(r"[A-Z]{3}")


class Extraction(BaseModel):
    """What every extracted model has in common: closed, frozen, texts without outer blanks."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, str_strip_whitespace=True, validate_default=True
    )


def _not_a_placeholder(text: str) -> str:
    if _PLACEHOLDER.fullmatch(text):
        raise ValueError(
            f"{text!r} is a placeholder: give the words of the document, "
            "or null where the field allows null"
        )
    return text


def _currency_code(text: str) -> str:
    if not _CURRENCY.fullmatch(text):
        raise ValueError(f"{text!r} is not an ISO 4217 code of three capital letters such as EUR")
    return text


def _written_day(value: Any) -> Any:
    # pydantic would read a number as seconds since 1970: 20260301 would be a day in August 1970
    if isinstance(value, (str, date)):
        return value
    raise ValueError(f"{value!r} is not a date written YYYY-MM-DD")


# 15 digits survive the way through a JSON number exactly, so a record's amount is a plain number.
Amount = Annotated[
    Decimal,
    Field(max_digits=15, decimal_places=6),
    PlainSerializer(float, return_type=float, when_used="json"),
]
Currency = Annotated[
    str,
    AfterValidator(_currency_code),
    Field(json_schema_extra={"pattern": "^[A-Z]{3}$"}),
    Compare.ID,
    Stated(written=_WRITTEN_CURRENCIES),
]
Day = Annotated[date, BeforeValidator(_written_day)]
Name = Annotated[
    str, StringConstraints(min_length=1, max_length=200), AfterValidator(_not_a_placeholder)
]
Sentence = Annotated[
    str,
    StringConstraints(min_length=3, max_length=600),
    AfterValidator(_not_a_placeholder),
    Compare.PROSE,
]
