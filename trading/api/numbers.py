"""How figures, times and texts cross the edge: money as text, so that no reader rounds it through a float."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

from pydantic import AwareDatetime, Field, PlainSerializer, WithJsonSchema

PLAIN = r"^-?\d+(\.\d+)?$"
SHOWN_PLACES = Decimal("0.000001")


def plain(figure: Decimal) -> str:
    """A figure without exponent and without trailing zeros."""
    text = format(figure, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


Figure = Annotated[
    Decimal,
    PlainSerializer(plain, return_type=str),
    WithJsonSchema({"type": "string", "pattern": PLAIN}, mode="serialization"),
]
"""A figure out: money, price, quantity, percentage."""

Computed = Annotated[
    Decimal,
    PlainSerializer(lambda figure: plain(figure.quantize(SHOWN_PLACES)), return_type=str),
    WithJsonSchema({"type": "string", "pattern": PLAIN}, mode="serialization"),
]
"""A mean, a ratio or a percentage out, rounded where its digits mean nothing any more."""

GivenFigure = Annotated[
    Decimal,
    Field(max_digits=30, decimal_places=12),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": PLAIN}, {"type": "number"}]}),
]
"""A figure in: text or number, finite, at most 30 digits with 12 places; the rules judge its meaning."""

Moment = Annotated[
    AwareDatetime, Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(2200, 1, 1, tzinfo=UTC))
]
"""A time with its zone, near enough to be told in every zone; one without is refused."""

Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""A text in; no database stores a NUL character."""
