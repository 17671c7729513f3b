"""The kinds of documents, and the forms that each kind comes in.

A form is a module with `make` (its data, from a number and a seeded generator), `draw` (the picture of the data),
`ask` (questions whose answers follow from the data) and `tell` (captions).
"""

import random
from typing import Any, Protocol

from PIL import Image

from documents import (
    bar_chart,
    form,
    line_chart,
    menu,
    month,
    receipt,
    sign_floors,
    sign_parking,
    sign_road,
    sign_shop,
    sign_station,
    table_fees,
    table_league,
    table_stock,
    table_weather,
    timetable_board,
    timetable_bus,
    timetable_event,
    timetable_school,
    vertical_letter,
    vertical_notice,
    vertical_poem,
)
from documents.words import Question


class Form(Protocol):
    """What a form's module has; `number` is even in one split and odd in the other, and counts up in each."""

    def make(self, number: int, rng: random.Random) -> Any: ...

    def draw(self, data: Any, look: random.Random) -> Image.Image: ...

    def ask(self, data: Any) -> list[Question]: ...

    def tell(self, data: Any) -> list[str]: ...


KINDS: dict[str, tuple[Form, ...]] = {
    "sign": (sign_shop, sign_road, sign_station, sign_parking, sign_floors),
    "menu": (menu,),
    "receipt": (receipt,),
    "timetable": (timetable_bus, timetable_board, timetable_school, timetable_event),
    "bar_chart": (bar_chart,),
    "line_chart": (line_chart,),
    "calendar": (month,),
    "table": (table_weather, table_league, table_stock, table_fees),
    "vertical_text": (vertical_poem, vertical_notice, vertical_letter),
    "form": (form,),
}
