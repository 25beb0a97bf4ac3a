"""Plausible, varied, distinct invoices whose money adds up, with the record that each one states.

Labels are the words of the invoice schema's field names; the document of one (seed, position, size)
never changes, whatever the count.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from typing import Any, Literal

Size = Literal["mixed", "small"]
SMALL_BYTES = 1_500
MIXED_BYTES = (1_000, 30_000)
NO_DUE_DATE_SHARE = 0.1
LATEST_ISSUE = date(2026, 10, 31)
_TAX_PERCENTS = (0, 5, 7, 10, 19, 20, 21, 25)
_PAYMENT_DAYS = (7, 14, 21, 30, 45, 60)
_CURRENCIES = ("EUR", "USD", "GBP", "CHF", "SEK", "PLN", "CAD", "AUD")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


_FIRST_NAMES = _words(
    "Aldermoor, Baxter, Calloway, Dunmore, Eastgate, Fjällräven, Grünwald, Harrington, "
    "Ivory, Juniper, Kingsbridge, Lindqvist, Marchetti, Northfield, Oakhurst, Pemberton, "
    "Quillfeather, Redwood, Søndergaard, Thornbury, Umbra, Valdez, Westlake, Yarrow, "
    "Zellweger"
)
_SECOND_NAMES = _words(
    "Logistics, Engineering, Foods, Textiles, Office Supplies, Printing, Consulting, "
    "Electrical, Timber, Medical, Software, Cleaning Services, Packaging, Catering, "
    "Instruments, Security"
)
_LEGAL_FORMS = ("Ltd", "GmbH", "Inc", "S.A.", "AB", "LLC", "plc", "B.V.")
_STREETS = ("Mill Lane", "Harbour Road", "Station Street", "Elm Avenue", "Market Square", "Quay 7")
_CITIES = ("Leeds", "Hamburg", "Lyon", "Gothenburg", "Portland", "Rotterdam", "Zürich", "Toronto")
_THINGS = _words(
    "Copper cable, Ring binder, Oak plank, Site inspection, Server maintenance, "
    "Cotton fabric, LED panel, Carton box, Safety helmet, Translation service, "
    "Steel bracket, Coffee beans, Printer toner, Hydraulic hose, Training day, "
    "Cleaning visit, Pallet transport, Water filter, Desk lamp, Paint bucket"
)
_KINDS = ("standard", "heavy duty", "small", "large", "premium", "type A", "type B", "refurbished")
_SENTENCES = (
    "Payment is due without deduction by the date stated above",
    "The goods remain the property of the seller until they have been paid for in full",
    "Any claim for visible damage has to be made in writing within eight days of delivery",
    "Interest on late payment is charged at the statutory rate and reminders are billed separately",
    "Prices do not include unloading or installation unless an order confirmation says otherwise",
    "Neither party answers for delays caused by events that could not reasonably be foreseen",
    "Returned articles are accepted only in their original packaging and after prior agreement",
    "The courts at the seat of the seller have jurisdiction over all disputes between merchants",
    "Packaging is taken back free of charge at our warehouse during the usual opening hours",
    "Samples and catalogues are not binding with regard to colour, weight or measure",
    "A set-off is possible only against claims that are undisputed or finally adjudicated",
    "Should one of these terms be void, the remaining terms are not affected by it",
    "Personal data are stored and processed for the purpose of carrying out this contract",
    "Deliveries in part are permitted as far as they can be reasonably expected of the customer",
    "The warranty covers repair or replacement at our choice and ends two years after delivery",
    "Orders changed after confirmation may lead to additional cost and to a later delivery",
)


@dataclass(frozen=True, slots=True)
class GeneratedDocument:
    """One document: its name, its text, and what it states by the invoice schema's field names.

    Money in `record` is a number of the currency's unit, exact to the cent; dates are ISO.
    """

    name: str
    text: str
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of an invoice; money in cents."""

    description: str
    quantity: int
    unit_price_cents: int

    @property
    def amount_cents(self) -> int:
        return self.quantity * self.unit_price_cents


def generate_documents(count: int, *, seed: int, size: Size = "mixed") -> Iterator[tuple[str, str]]:
    """`count` pairs of name and text, made one at a time.

    "mixed" has 1 to 30 kB a document (evenly spread on a logarithmic scale, 8.5 kB on average),
    "small" about 1.5 kB.
    """
    return ((made.name, made.text) for made in generate_invoices(count, seed=seed, size=size))


def generate_invoices(
    count: int, *, seed: int, size: Size = "mixed"
) -> Iterator[GeneratedDocument]:
    """As `generate_documents`, with the record that each document states."""
    return (_invoice(position, seed=seed, size=size) for position in range(count))


def _invoice(position: int, *, seed: int, size: Size) -> GeneratedDocument:
    rng = Random(f"{seed}:{position}:{size}")  # noqa: S311 - test material, not secrets
    target_bytes = SMALL_BYTES
    if size == "mixed":
        least, most = MIXED_BYTES
        target_bytes = int(least * (most / least) ** rng.random())
    lines = _lines(rng, count_max=max(2, min(40, target_bytes // 250)))
    net_cents = sum(line.amount_cents for line in lines)
    tax_cents = round(net_cents * rng.choice(_TAX_PERCENTS) / 100)
    issued = LATEST_ISSUE - timedelta(days=rng.randrange(1_000))
    due = issued + timedelta(days=rng.choice(_PAYMENT_DAYS))
    record = {
        # the position makes every document of a seed distinct
        "invoice_number": f"{rng.choice(('INV', 'R', 'SI', 'F'))}-{issued.year}-{position + 1:06d}",
        "issue_date": issued.isoformat(),
        "due_date": None if rng.random() < NO_DUE_DATE_SHARE else due.isoformat(),
        "supplier_name": _company(rng),
        "customer_name": _company(rng),
        "currency": rng.choice(_CURRENCIES),
        "line_items": [_line_record(line) for line in lines],
        "net_total": net_cents / 100,
        "tax_total": tax_cents / 100,
        "total": (net_cents + tax_cents) / 100,
    }
    text = _text(record, rng, target_bytes=target_bytes)
    return GeneratedDocument(f"invoice-{position + 1:06d}.txt", text, record)


def _lines(rng: Random, *, count_max: int) -> list[_Line]:
    return [
        _Line(
            description=f"{rng.choice(_THINGS)}, {rng.choice(_KINDS)}",
            quantity=rng.randint(1, 48),
            unit_price_cents=rng.randint(50, 90_000),
        )
        for _ in range(rng.randint(1, count_max))
    ]


def _line_record(line: _Line) -> dict[str, Any]:
    return {
        "description": line.description,
        "quantity": line.quantity,
        "unit_price": line.unit_price_cents / 100,
        "amount": line.amount_cents / 100,
    }


def _company(rng: Random) -> str:
    return f"{rng.choice(_FIRST_NAMES)} {rng.choice(_SECOND_NAMES)} {rng.choice(_LEGAL_FORMS)}"


def _text(record: dict[str, Any], rng: Random, *, target_bytes: int) -> str:
    """The invoice as text, filled up with terms and conditions to about `target_bytes`."""
    parts = [
        f"# INVOICE\n\n{record['supplier_name']}\n{_address(rng)}",
        _labelled(_head_rows(record, rng), rng),
        f"Bill to\n{record['customer_name']}\n{_address(rng)}",
        _table(record["line_items"]),
        _labelled(_total_rows(record, rng), rng),
    ]
    text = "\n\n".join(parts) + "\n"
    return text + _terms(rng, room_bytes=target_bytes - len(text.encode()))


def _address(rng: Random) -> str:
    street = f"{rng.randint(1, 240)} {rng.choice(_STREETS)}"
    return f"{street}\n{rng.randint(10_000, 99_999)} {rng.choice(_CITIES)}"


def _head_rows(record: dict[str, Any], rng: Random) -> list[tuple[str, str]]:
    style = rng.randrange(3)
    rows = [
        ("Invoice number", record["invoice_number"]),
        ("Issue date", _date_text(record["issue_date"], style)),
        ("Supplier name", record["supplier_name"]),
        ("Customer name", record["customer_name"]),
        ("Currency", record["currency"]),
    ]
    if record["due_date"]:
        rows.insert(2, ("Due date", _date_text(record["due_date"], style)))
    return rows


def _total_rows(record: dict[str, Any], rng: Random) -> list[tuple[str, str]]:
    unit = f" {record['currency']}" if rng.random() < 0.5 else ""  # noqa: PLR2004 - every other one
    names = {"Net total": "net_total", "Tax total": "tax_total", "Total": "total"}
    return [(label, f"{record[name]:,.2f}{unit}") for label, name in names.items()]


def _date_text(iso: str, style: int) -> str:
    """One of three ways to write a date that cannot be misread."""
    day = date.fromisoformat(iso)
    if style == 0:
        return iso
    if style == 1:
        return f"{day.day} {day:%B} {day.year}"
    return f"{day:%B} {day.day}, {day.year}"


def _labelled(rows: list[tuple[str, str]], rng: Random) -> str:
    """Labels and values as plain lines, bold lines, or rows of a table."""
    style = rng.randrange(3)
    if style == 0:
        return "\n".join(f"{label}: {value}" for label, value in rows)
    if style == 1:
        return "\n".join(f"**{label}**: {value}" for label, value in rows)
    return "\n".join(f"| {label} | {value} |" for label, value in rows)


def _table(lines: list[dict[str, Any]]) -> str:
    rows = [
        f"| {line['description']} | {line['quantity']} | {line['unit_price']:,.2f} | "
        f"{line['amount']:,.2f} |"
        for line in lines
    ]
    header = ["| description | quantity | unit_price | amount |", "|---|---|---|---|"]
    return "\n".join(header + rows)


def _terms(rng: Random, *, room_bytes: int) -> str:
    """Numbered paragraphs of plain ASCII prose that fill `room_bytes`; at least one sentence."""
    text, number = "\n## Terms and conditions\n", 0
    while True:
        number += 1
        for sentence in rng.sample(_SENTENCES, 6):
            opening = f"\n{number}. " if text.endswith("\n") else " "
            if number > 1 and len(text) + len(opening) + len(sentence) + 1 > room_bytes:
                return text.rstrip() + "\n"
            text += f"{opening}{sentence}."
        text += "\n"
