"""Menus, receipts, vertical text and forms of ja-documents: how each wording of a question is solved from the data."""

from datetime import date
from typing import Any

from tests.evalsets.document_values import Data, Rule, least, most, of, only, read_number


def dishes(d: Data) -> list[Any]:
    listed = [dish for _, section in d["sections"] for dish in section]
    assert len({price for _, price in listed}) == len(listed), "two prices are equal"
    return listed


MENU: list[Rule] = [
    (r"お店の名前は何ですか。", lambda d: ("text", d["shop"])),
    (r"一番値段が高いものは何ですか。", lambda d: most([(price, name) for name, price in dishes(d)])),
    (r"一番安い品は何ですか。", lambda d: least([(price, name) for name, price in dishes(d)])),
    (
        r"(.+)と(.+)を一つずつ頼むと、合わせていくらですか。",
        lambda d, one, other: ("yen", of(one, dishes(d)) + of(other, dishes(d))),
    ),
    (
        r"([\d,]+)円のものは何ですか。",
        lambda d, price: ("text", only([name for name, cost in dishes(d) if cost == read_number(price)])),
    ),
    (r"「(.+)」には何種類ありますか。", lambda d, heading: ("count", len(of(heading, d["sections"])))),
    (r"1,000円で(.+)を注文できますか。", lambda d, name: ("yes", of(name, dishes(d)) <= 1000)),
    (r"(.+)はいくらですか。", lambda d, name: ("yen", of(name, dishes(d)))),
]


def total(d: Data) -> int:
    without = sum(price * number for _, price, number in d["items"])
    return without + without * d["tax_percent"] // 100


RECEIPT: list[Rule] = [
    (r"どこのお店のレシートですか。", lambda d: ("text", d["shop"])),
    (r"税込みの合計金額はいくらですか。", lambda d: ("yen", total(d))),
    (r"お釣りはいくらでしたか。", lambda d: ("yen", d["paid"] - total(d))),
    (r"買い物をしたのは何月何日ですか。", lambda d: ("day", (d["month"], d["day"]))),
    (r"会計をしたのは何時何分ですか。", lambda d: ("time", d["minutes"])),
    (r"品物は全部で何点買いましたか。", lambda d: ("count", sum(number for *_, number in d["items"]))),
    (r"(.+)は一点いくらですか。税抜きで答えてください。", lambda d, name: ("yen", of(name, d["items"]))),
    (r"一点あたりの値段が最も高い品物は何ですか。", lambda d: most([(price, name) for name, price, _ in d["items"]])),
    (r"買い物をしたのは何曜日ですか。", lambda d: ("weekday", date(d["year"], d["month"], d["day"]).weekday())),
    (r"代金は3,000円で足りますか。", lambda d: ("yes", total(d) <= 3000)),
]
POEM: list[Rule] = [
    (r"詩の題名は何ですか。", lambda d: ("text", d["title"])),
    (r"作者は誰ですか。", lambda d: ("text", d["poet"])),
    (r"詩の最後の行を書き写してください。", lambda d: ("text", d["lines"][-1])),
    (r"題名と作者名を除くと、詩は何行ありますか。", lambda d: ("count", len(d["lines"]))),
    (r"詩の中に「(.)」という字は出てきますか。", lambda d, character: ("yes", character in "".join(d["lines"]))),
    (r"(.+)", lambda d, question: ("in_the_lines", d["lines"])),
]
NOTICE: list[Rule] = [
    (r"何についてのお知らせですか。", lambda d: ("text", d["what"])),
    (r"(.+)は何月何日に行われますか。", lambda d, what: ("day", (d["month"], d["day"]))),
    (r"行われるのは何曜日ですか。", lambda d: ("weekday", date(d["year"], d["month"], d["day"]).weekday())),
    (r"何時から始まりますか。", lambda d: ("time", d["minutes"])),
    (r"会場はどこですか。", lambda d: ("text", d["place"])),
    (r"参加する人は何を持って行きますか。", lambda d: ("text", d["bring"])),
    (r"定員は何人ですか。", lambda d: ("count", d["seats"])),
    (r"参加するのにお金がかかりますか。", lambda d: ("yes", d["fee"] > 0)),
    (r"このお知らせを出したのはどこですか。", lambda d: ("text", d["caller"])),
]
LETTER: list[Rule] = [
    (r"この手紙を書いたのは誰ですか。", lambda d: ("text", d["sender"])),
    (r"手紙は誰にあてて書かれていますか。", lambda d: ("text", d["addressee"])),
    (r"一緒に送られたものは何ですか。", lambda d: ("text", d["gift"])),
    (r"(.+)をどれだけ送りましたか。", lambda d, gift: ("count", {d["gift"]: d["gifts"]}[gift])),
    (r"差出人が飼っている動物は何という名前ですか。", lambda d: ("text", d["pet_name"])),
    (r"差出人はどんな動物を飼っていますか。", lambda d: ("text", d["pet"])),
    (r"差出人が訪ねて来るのはいつですか。", lambda d: ("day", tuple(d["visit"]))),
    (r"何泊する予定ですか。", lambda d: ("count", d["nights"])),
    (r"手紙の日付は何月何日ですか。", lambda d: ("day", (d["month"], d["day"]))),
    (r"手紙を書いた人は(.+)を飼っていますか。", lambda d, pet: ("yes", d["pet"] == pet)),
]
FORM: list[Rule] = [
    (r"申込者の名前を教えてください。", lambda d: ("text", d["name"])),
    (r"何の申込書ですか。", lambda d: ("text", d["title"].split()[0])),
    (r"選ばれている.+はどれですか。", lambda d: ("text", d["choices"][d["chosen"]][0])),
    (r"何人で申し込んでいますか。", lambda d: ("count", d["people"])),
    (
        r"申し込んだ人数分の料金は、合計でいくらですか。",
        lambda d: ("yen", sum(d["choices"][d["chosen"]][1] for _ in range(d["people"]))),
    ),
    (r"申込者の誕生日はいつですか。年は不要です。", lambda d: ("day", tuple(d["birth"][1:]))),
    (r"この申込書が書かれたのは何月何日ですか。", lambda d: ("day", tuple(d["day"][1:]))),
    (r"電話番号は何番ですか。", lambda d: ("text", d["phone"])),
    (r"料金が最も高い.+はどれですか。", lambda d: most([(price, name) for name, price in d["choices"]])),
    (r"生まれた年を西暦で答えてください。", lambda d: ("count", d["birth"][0])),
    (r"お知らせを受け取ることを希望していますか。", lambda d: ("yes", d["mails"])),
]
