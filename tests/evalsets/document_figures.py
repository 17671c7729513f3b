"""Charts, calendars and tables of ja-documents: how each wording of a question is solved from the data."""

import calendar
from datetime import date
from typing import Any

from tests.evalsets.document_values import (
    WEEKDAYS,
    Data,
    Rule,
    Value,
    least,
    most,
    of,
    only,
    read_day,
)


def bars(d: Data) -> list[tuple[int, str]]:
    assert len({value for _, value in d["bars"]}) == len(d["bars"]), "two bars are equal"
    return [(value, name) for name, value in d["bars"]]


def bar_named_in(d: Data, question: str) -> Value:
    """The value of the one bar whose question this is."""
    return "count", only([value for name, value in d["bars"] if d["value_of"].format(name) == question])


BAR: list[Rule] = [
    (r"最も多いのはどれですか。", lambda d: most(bars(d))),
    (r"一番少ないのは何ですか。", lambda d: least(bars(d))),
    (r"2番目に多いのはどれですか。", lambda d: most([bar for bar in bars(d) if bar != max(bars(d))])),
    (
        r"(.+)と(.+)の差は何.+ですか。",
        lambda d, one, other: ("count", abs(of(one, d["bars"]) - of(other, d["bars"]))),
    ),
    (
        r"(.+)と(.+)を合わせると何.+になりますか。",
        lambda d, one, other: ("count", of(one, d["bars"]) + of(other, d["bars"])),
    ),
    (
        r"(\d+)\D+以上のものはいくつありますか。",
        lambda d, limit: ("count", sum(value >= int(limit) for value, _ in bars(d))),
    ),
    (r"(.+)は(.+)より多いですか。", lambda d, one, other: ("yes", of(one, d["bars"]) > of(other, d["bars"]))),
    (r"グラフの題名は何ですか。", lambda d: ("text", d["title"])),
    (r"(.+ですか。|.+ましたか。)", bar_named_in),
]


def course(d: Data, line: str = "") -> list[tuple[int, str]]:
    """A line's values with their points, all different."""
    values = d["values"][d["lines"].index(line) if line else 0]
    assert len(set(values)) == len(values), "two points are equal"
    return list(zip(values, d["points"], strict=True))


def at(d: Data, point: str, line: str = "") -> int:
    return only([value for value, name in course(d, line) if name == point])


def rises(d: Data) -> list[tuple[int, str]]:
    values = course(d)
    return [(later - earlier, name) for (earlier, _), (later, name) in zip(values, values[1:], strict=False)]  # noqa: RUF007


def beats(d: Data, one: str, other: str) -> int:
    return sum(at(d, point, one) > at(d, point, other) for point in d["points"])


ONE_LINE: list[Rule] = [
    (r"([^の]+)の[^の差]+は何(?:度|万人|冊|杯|人|cm|km)ですか。", lambda d, point: ("count", at(d, point))),
    (r".+が最も[高多長]いのは.+ですか。", lambda d: most(course(d))),
    (r".+が一番(?:低い|少ない|短い)のは.+ですか。", lambda d: least(course(d))),
    (r".+が最も.+ときと最も.+ときの差は何.+ですか。", lambda d: ("count", max(course(d))[0] - min(course(d))[0])),
    (r"直前の値と比べて、.+が最も大きく(?:増えた|上がった|伸びた)のは.+ですか。", lambda d: most(rises(d))),
    (r"\D+が(\d+)\D+以上の.+はいくつありますか。", lambda d, n: ("count", sum(v >= int(n) for v, _ in course(d)))),
    (r"([^の]+)の.+は([^の]+)より[高多長]いですか。", lambda d, one, other: ("yes", at(d, one) > at(d, other))),
    (r"グラフの題名は何ですか。", lambda d: ("text", d["title"])),
]
TWO_LINES: list[Rule] = [
    (r"([^の]+)の(.+)の[^の]+は何(?:人|mm|個|杯|箱)ですか。", lambda d, point, line: ("count", at(d, point, line))),
    (
        r"(.+)に.+が多いのは(.+)と(.+)のどちらですか。",
        lambda d, point, one, other: most([(at(d, point, one), one), (at(d, point, other), other)]),
    ),
    (r"(.+)の[^の]+が最も多いのは.+ですか。", lambda d, line: most(course(d, line))),
    (r"(.+)の[^の]+が最も少ないのは.+ですか。", lambda d, line: least(course(d, line))),
    (
        r"([^の]+)の.+は、(.+)と(.+)で何.+違いますか。",
        lambda d, point, one, other: ("count", abs(at(d, point, one) - at(d, point, other))),
    ),
    (r"(.+)の[^の]+が(.+)を上回った.+はいくつありますか。", lambda d, one, other: ("count", beats(d, one, other))),
    (
        r"([^の]+)の.+は、(.+)のほうが(.+)より多いですか。",
        lambda d, point, more, less: ("yes", at(d, point, more) > at(d, point, less)),
    ),
    (r"グラフの題名は何ですか。", lambda d: ("text", d["title"])),
]


def day_of(d: Data, name: str) -> int:
    return only([day for day, what in d["events"] + d["holidays"] if what == name])


def weekday(d: Data, day: int) -> int:
    return date(d["year"], d["month"], day).weekday()


def days(d: Data) -> list[int]:
    return list(range(1, calendar.monthrange(d["year"], d["month"])[1] + 1))


MONTH: list[Rule] = [
    (r"最初の日曜日は何日ですか。", lambda d: ("month_day", next(n for n in days(d) if weekday(d, n) == 6))),
    (r"(\d+)日の予定は何ですか。", lambda d, day: ("text", of(int(day), d["events"]))),
    (r"(.+)の予定は何曜日ですか。", lambda d, name: ("weekday", weekday(d, day_of(d, name)))),
    (r"この月の最後の日は何曜日ですか。", lambda d: ("weekday", weekday(d, days(d)[-1]))),
    (r"この月に土曜日は何回ありますか。", lambda d: ("count", sum(weekday(d, day) == 5 for day in days(d)))),
    (r"(.+)は(.+)の何日後ですか。", lambda d, later, first: ("count", day_of(d, later) - day_of(d, first))),
    (r"何年何月のカレンダーですか。", lambda d: ("year_month", (d["year"], d["month"]))),
    (
        r"(.+)の予定は週末（土曜日か日曜日）に入っていますか。",
        lambda d, name: ("yes", weekday(d, day_of(d, name)) in (5, 6)),
    ),
    (r"(.+)は何日ですか。", lambda d, name: ("month_day", day_of(d, name))),
]


def forecast(d: Data, day: str) -> Any:
    return only([row for row in d["days"] if WEEKDAYS[row[2]] == day])


FORECAST: list[Rule] = [
    (r"(.)曜日の天気は何ですか。", lambda d, day: ("text", forecast(d, day)[3])),
    (
        r"(\d+)月(\d+)日の最高気温は何度ですか。",
        lambda d, month, day: ("count", only([r[4] for r in d["days"] if r[:2] == [int(month), int(day)]])),
    ),
    (
        r"最高気温が一番高いのは何曜日ですか。",
        lambda d: ("weekday", WEEKDAYS.index(most([(r[4], WEEKDAYS[r[2]]) for r in d["days"]])[1])),
    ),
    (
        r"最低気温が一番低いのは何月何日ですか。",
        lambda d: ("day", read_day(least([(r[5], f"{r[0]}/{r[1]}") for r in d["days"]])[1])),
    ),
    (
        r"(.)曜日の最高気温と最低気温の差は何度ですか。",
        lambda d, day: ("count", forecast(d, day)[4] - forecast(d, day)[5]),
    ),
    (r"晴れの日は何日ありますか。", lambda d: ("count", [r[3] for r in d["days"]].count("晴れ"))),
    (r"(.)曜日の降水確率は何パーセントですか。", lambda d, day: ("count", forecast(d, day)[6])),
    (r"(.)曜日は雨の予報ですか。", lambda d, day: ("yes", forecast(d, day)[3] == "雨")),
    (r"どこの天気予報ですか。", lambda d: ("text", d["place"])),
]


def scored(d: Data) -> list[int]:
    found = [3 * won + drawn for _, won, drawn, _ in d["teams"]]
    assert found == sorted(set(found), reverse=True), "the teams are not in the order of their points"
    return found


STANDINGS: list[Rule] = [
    (r"1位のチームはどこですか。", lambda d: ("text", d["teams"][0][0])),
    (r"(.+)は何勝していますか。", lambda d, name: ("count", of(name, d["teams"]))),
    (r"3位のチームの勝点はいくつですか。", lambda d: ("count", scored(d)[2])),
    (r"負けた数が最も多いのはどのチームですか。", lambda d: most([(team[3], team[0]) for team in d["teams"]])),
    (r"一番負けが少ないチームはどこですか。", lambda d: least([(team[3], team[0]) for team in d["teams"]])),
    (r"首位のチームは、すぐ下のチームより勝点がいくつ多いですか。", lambda d: ("count", scored(d)[0] - scored(d)[1])),
    (r"(.+)は全部で何試合しましたか。", lambda d, name: ("count", sum(of(name, d["teams"], n) for n in (1, 2, 3)))),
    (r"勝点が15以上のチームはいくつありますか。", lambda d: ("count", sum(n >= 15 for n in scored(d)))),
    (r"(.+)は引き分けた試合がありますか。", lambda d, name: ("yes", of(name, d["teams"], 2) > 0)),
    (r"何という大会の順位表ですか。", lambda d: ("text", d["title"])),
]
STOCK: list[Rule] = [
    (r"(.+)の単価はいくらですか。", lambda d, name: ("yen", of(name, d["goods"], 2))),
    (r"(.+)の在庫数はいくつですか。", lambda d, name: ("count", of(name, d["goods"], 3))),
    (r"(.+)はどの棚にありますか。", lambda d, name: ("text", of(name, d["goods"], 1))),
    (r"在庫が一番多い品は何ですか。", lambda d: most([(item[3], item[0]) for item in d["goods"]])),
    (r"在庫が最も少ないのは何ですか。", lambda d: least([(item[3], item[0]) for item in d["goods"]])),
    (r"単価が一番高い品は何ですか。", lambda d: most([(item[2], item[0]) for item in d["goods"]])),
    (r"(.+)を3つ買うといくらになりますか。", lambda d, name: ("yen", 3 * of(name, d["goods"], 2))),
    (r"在庫数をすべて足すといくつになりますか。", lambda d: ("count", sum(item[3] for item in d["goods"]))),
    (
        r"(.+)の棚に置かれているのは何ですか。",
        lambda d, shelf: ("text", only([i[0] for i in d["goods"] if i[1] == shelf])),
    ),
    (r"(.+)の在庫数は20以上ですか。", lambda d, name: ("yes", of(name, d["goods"], 3) >= 20)),
]


def fee(d: Data, age: str, is_weekend: bool) -> int:
    return int(of(age, d["fees"], 2 if is_weekend else 1))


FEES: list[Rule] = [
    (r"平日の(.+)の料金はいくらですか。", lambda d, age: ("yen", fee(d, age, False))),
    (r"[土日]曜日に(.+)が入るといくらかかりますか。", lambda d, age: ("yen", fee(d, age, True))),
    (r"[土日]曜日の(.+)の料金はいくらですか。", lambda d, age: ("yen", fee(d, age, True))),
    (
        r"平日に(.+)2人と(.+)1人で行くと、合計いくらですか。",
        lambda d, two, one: ("yen", 2 * fee(d, two, False) + fee(d, one, False)),
    ),
    (
        r"(.+)の料金は、土日祝は平日よりいくら高いですか。",
        lambda d, age: ("yen", fee(d, age, True) - fee(d, age, False)),
    ),
    (r"団体割引で平日に入ると、(.+)は一人いくらですか。", lambda d, age: ("yen", fee(d, age, False) - d["off"])),
    (r"団体割引になるのは何名からですか。", lambda d: ("count", d["reduced_from"])),
    (r"平日、(.+)の人は1,000円で入れますか。", lambda d, age: ("yes", fee(d, age, False) <= 1000)),
    (r"どこの料金表ですか。", lambda d: ("text", d["place"])),
]
