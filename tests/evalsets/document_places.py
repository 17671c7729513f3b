"""Signs and timetables of ja-documents: how each wording of a question is solved from the data."""

from typing import Any

from tests.evalsets.document_values import WEEKDAYS, Data, Rule, Value, least, most, of, only, read_number, read_time

SHOP: list[Rule] = [
    (r"お店の名前は何ですか。", lambda d: ("text", d["name"])),
    (r"このお店は何時に開きますか。", lambda d: ("time", d["opens"])),
    (r"閉店は何時ですか。", lambda d: ("time", d["closes"])),
    (r"定休日は何曜日ですか。", lambda d: ("weekday", d["closed"])),
    (r"一日に何時間営業していますか。", lambda d: ("minutes", d["closes"] - d["opens"])),
    (r"(.)曜日にこのお店は開いていますか。", lambda d, day: ("yes", WEEKDAYS.index(day) != d["closed"])),
    (r"電話番号を教えてください。", lambda d: ("text", d["phone"])),
]


def ends(d: Data) -> tuple[Value, Value]:
    distances = [(distance, name) for name, distance in d["places"]]
    return least(distances), most(distances)


ROAD: list[Rule] = [
    (r"右に曲がるとどこへ行けますか。", lambda d: ("text", d["places"][2][0])),
    (r"(.+)まで何キロありますか。", lambda d, name: ("count", of(name, d["places"]))),
    (
        r"(.+)へ行くには、どちらへ進めばよいですか。",
        lambda d, name: ("text", "左直右"[[p[0] for p in d["places"]].index(name)]),
    ),
    (r"標識にある地名のうち、ここから一番遠いのはどこですか。", lambda d: ends(d)[1]),
    (r"一番近い行き先はどこですか。", lambda d: ends(d)[0]),
    (
        r"(.+)までの距離は、(.+)までより何キロ長いですか。",
        lambda d, far, near: ("count", of(far, d["places"]) - of(near, d["places"])),
    ),
    (r"(.+)までの距離は10キロ以上ですか。", lambda d, name: ("yes", of(name, d["places"]) >= 10)),
]
STATION: list[Rule] = [
    (r"ここは何という駅ですか。", lambda d: ("text", d["stations"][1][0] + "駅")),
    (r"駅名をひらがなで書くとどうなりますか。", lambda d: ("text", d["stations"][1][1])),
    (r"右側に書かれている隣の駅はどこですか。", lambda d: ("text", d["stations"][2][0])),
    (r"左側に書かれている隣の駅はどこですか。", lambda d: ("text", d["stations"][0][0])),
    (r"この駅の駅番号は何ですか。", lambda d: ("text", d["letter"] + str(d["number"]).zfill(2))),
    (r"路線の名前は何ですか。", lambda d: ("text", d["line"])),
    (r"(.+)は、この駅の右隣の駅ですか。", lambda d, name: ("yes", [s[0] for s in d["stations"]].index(name) == 2)),
]


def parked(d: Data, rate: str, hours: int) -> Value:
    """What some hours at one rate cost, which is below the most that a day costs."""
    minutes, price = d[rate]
    assert 60 * hours % minutes == 0 and 60 * hours // minutes * price <= d["most"]
    return "yen", 60 * hours // minutes * price


PARKING: list[Rule] = [
    (r"駐車場の名前は何ですか。", lambda d: ("text", d["name"])),
    (r"昼間は(\d+)分でいくらかかりますか。", lambda d, m: ("yen", {d["day"][0]: d["day"][1]}[int(m)])),
    (r"昼の12時から2時間止めると、料金はいくらですか。", lambda d: parked(d, "day", 2)),
    (r"24時間止めても、料金は最大でいくらですか。", lambda d: ("yen", d["most"])),
    (r"何台まで止められますか。", lambda d: ("count", d["spaces"])),
    (r"夜10時から3時間止めるといくらになりますか。", lambda d: parked(d, "night", 3)),
    (r"高さ2.2メートルの車は入れますか。", lambda d: ("yes", d["height"] > 2.15)),
]


def level(d: Data, goods: str) -> int:
    """The floor of some goods as a number, below ground negative."""
    return read_number(only([name for name, sold in d["floors"] if sold == goods]).replace("B", "-"))


FLOORS: list[Rule] = [
    (r"何というお店のフロアガイドですか。", lambda d: ("text", d["store"])),
    (r"「(.+)」は何階ですか。", lambda d, goods: ("count", level(d, goods))),
    (r"1階では何を売っていますか。", lambda d: ("text", of("1F", d["floors"]))),
    (
        r"「(.+)」と「(.+)」では、どちらが上の階にありますか。",
        lambda d, one, other: most([(level(d, one), one), (level(d, other), other)]),
    ),
    (r"1階から「(.+)」の階まで、何階分上がりますか。", lambda d, goods: ("count", level(d, goods) - 1)),
    (r"地上は何階までありますか。", lambda d: ("count", max(level(d, goods) for _, goods in d["floors"]))),
    (r"このお店に「(.+)」の階はありますか。", lambda d, goods: ("yes", goods in [sold for _, sold in d["floors"]])),
]


def buses(d: Data, which: str) -> list[int]:
    return [60 * hour + minute for hour, minutes in d[which] for minute in minutes]


BUS: list[Rule] = [
    (r"これは何というバス停の時刻表ですか。", lambda d: ("text", d["stop"])),
    (r"このバスの行き先はどこですか。", lambda d: ("text", d["goal"])),
    (
        r"平日の(\d+)時台には、バスが何本ありますか。",
        lambda d, hour: ("count", sum(bus // 60 == int(hour) for bus in buses(d, "weekday"))),
    ),
    (r"平日の始発は何時何分ですか。", lambda d: ("time", min(buses(d, "weekday")))),
    (r"平日の最終バスは何時何分に出ますか。", lambda d: ("time", max(buses(d, "weekday")))),
    (
        r"平日の(\d+)時ちょうどにバス停に着いたら、次のバスは何時何分ですか。",
        lambda d, hour: ("time", min(bus for bus in buses(d, "weekday") if bus > 60 * int(hour))),
    ),
    (
        r"平日でバスの本数が一番多いのは何時台ですか。",
        lambda d: ("count", int(most([(len(minutes), str(hour)) for hour, minutes in d["weekday"]])[1])),
    ),
    (
        r"日曜日の(\d+)時台にバスはありますか。",
        lambda d, hour: ("yes", any(bus // 60 == int(hour) for bus in buses(d, "weekend"))),
    ),
]


def train(d: Data, goal: str) -> Any:
    return only([train for train in d["trains"] if train[2] == goal])


BOARD: list[Rule] = [
    (r"(.+)行きは何番線から出ますか。", lambda d, goal: ("count", train(d, goal)[3])),
    (r"(.+)行きの発車時刻は何時何分ですか。", lambda d, goal: ("time", train(d, goal)[0])),
    (r"急行の行き先はどこですか。", lambda d: ("text", only([t[2] for t in d["trains"] if t[1] == "急行"]))),
    (r"普通列車は何本表示されていますか。", lambda d: ("count", [t[1] for t in d["trains"]].count("普通"))),
    (
        r"([\d:]+)に発車する列車の種別は何ですか。",
        lambda d, time: ("text", only([t[1] for t in d["trains"] if t[0] == read_time(time)])),
    ),
    (
        r"(.+)行きが出てから(.+)行きが出るまで、何分ありますか。",
        lambda d, one, other: ("minutes", train(d, other)[0] - train(d, one)[0]),
    ),
    (r"表示の中で最後に発車する列車は、どこ行きですか。", lambda d: most([(t[0], t[2] + "行き") for t in d["trains"]])),
    (r"この中に特急はありますか。", lambda d: ("yes", "特急" in [t[1] for t in d["trains"]])),
    (r"何という路線の発車案内ですか。", lambda d: ("text", d["line"])),
]


def lessons(d: Data, day: str) -> list[str]:
    return list(d["days"][WEEKDAYS.index(day)])


def after(d: Data, day: str, lesson: str) -> str:
    assert lessons(d, day).count(lesson) == 1
    return lessons(d, day)[lessons(d, day).index(lesson) + 1]


SCHOOL: list[Rule] = [
    (r"何年何組の時間割ですか。", lambda d: ("text", d["name"])),
    (r"(.)曜日の(\d)時間目は何の授業ですか。", lambda d, day, n: ("text", lessons(d, day)[int(n) - 1])),
    (r"(.)曜日の(\d)時間目の教科は何ですか。", lambda d, day, n: ("text", lessons(d, day)[int(n) - 1])),
    (r"(.+)は週に何回ありますか。", lambda d, name: ("count", sum(day.count(name) for day in d["days"]))),
    (
        r"(.+)があるのは何曜日ですか。",
        lambda d, name: ("weekday", only([n for n, day in enumerate(d["days"]) if name in day])),
    ),
    (
        r"授業が6時間あるのは何曜日ですか。",
        lambda d: ("weekday", only([n for n, day in enumerate(d["days"]) if len(day) == 6])),
    ),
    (r"(.)曜日の(.+)の次の授業は何ですか。", lambda d, day, name: ("text", after(d, day, name))),
    (r"(.)曜日に(.+)の授業はありますか。", lambda d, day, name: ("yes", name in lessons(d, day))),
]


def part(d: Data, name: str) -> Any:
    return only([part for part in d["parts"] if part[2] == name])


PROGRAMME: list[Rule] = [
    (r"(.+)は何時何分に始まりますか。", lambda d, name: ("time", part(d, name)[0])),
    (r"(.+)が終わるのは何時何分ですか。", lambda d, name: ("time", part(d, name)[1])),
    (r"(.+)の会場はどこですか。", lambda d, name: ("text", part(d, name)[3])),
    (
        r"(.+)の次に行われるのは何ですか。",
        lambda d, name: ("text", min(p[:3] for p in d["parts"] if p[0] > part(d, name)[0])[2]),
    ),
    (r"一番時間が長い催しは何ですか。", lambda d: most([(end - begin, name) for begin, end, name, _ in d["parts"]])),
    (r"(.+)は何分間行われますか。", lambda d, name: ("minutes", part(d, name)[1] - part(d, name)[0])),
    (r"プログラムに載っている催しは全部でいくつですか。", lambda d: ("count", len(d["parts"]))),
    (r"これは何月何日のプログラムですか。", lambda d: ("day", (d["month"], d["day"]))),
    (r"(.+)は午後に始まりますか。", lambda d, name: ("yes", part(d, name)[0] >= 720)),
]
