"""What counts as the same answer, line by line; and that nothing that a model says breaks or slows it."""

import random

import pytest

from vlmmerge.score.normalise import normalise, plain
from vlmmerge.score.numerals import parse, write_digits

# An answer | its normal form.
NUMBERS = """
三人|3人
３人|3人
3 人|3人
3人です。|3人
三人だ|3人
ひとり|1人
ふたりです|2人
ひとつ|1つ
みっつあります|3つある
一つ|1つ
１つ|1つ
二つ目|2つ目
ゼロ台|0台
ゼロ|0
零時|0時
〇人|0人
十|10
十二|12
二十|20
二十一|21
百|100
百八|108
千二百八十円|1280円
1,280円|1280円
１，２８０円|1280円
12,345,678|12345678
1,2|1,2
1,2345|1,2345
一、二八〇円|1280円
一万円|10000円
十万|100000
百二十万人|1200000人
3万5千円|35000円
1.5億|150000000
二億三千万|230000000
金壱萬円|金10000円
二〇二六年|2026年
一九八五年四月一日|1985年4月1日
令和八年|令和8年
十二時半|12時半
午後三時十五分|午後3時15分
第三|第3
第百回|第100回
三丁目|3丁目
三番線|3番線
一番線|1番線
一番|1番
一番です|1番
二階建てバス|2階建てバス
十歳|10歳
三十％|30%
三割|3割
マイナス五度|マイナス5度
三対二|3対2
五メートル|5メートル
百円ショップ|100円ショップ
男女一人ずつ|男女1人ずつ
一人一人|1人1人
三と四|3と4
答えは三|答えは3
「五」|5
二十。|20
四十二|42
一緒|一緒
一緒に座る|一緒に座る
一般的|一般的
一部|一部
一部の人|一部の人
一番大きい|一番大きい
一番上|一番上
一面に広がる雪|一面に広がる雪
一方通行|一方通行
一時停止|一時停止
一輪車|一輪車
統一|統一
唯一|唯一
世界一|世界一
三角|三角
三角形|三角形
四角い箱|四角い箱
八角形|八角形
三日月|三日月
三輪車|三輪車
三脚|三脚
三毛猫|三毛猫
三つ編み|三つ編み
四つ葉のクローバー|四つ葉のクローバー
四国|四国
九州|九州
四万十川|四万十川
五十嵐|五十嵐
六本木|六本木
五輪|五輪
七五三|七五三
七面鳥|七面鳥
七分袖|七分袖
八百屋|八百屋
八戸|八戸
千葉|千葉
千代田区|千代田区
三重県|三重県
四日市|四日市
十字架|十字架
十分な広さ|十分な広さ
十分です|10分
十二支|十二支
百合|百合
百貨店|百貨店
万年筆|万年筆
万が一|万が一
人参|人参
持参|持参
零戦|零戦
数十人|数十人
何百匹|何百匹
十数台|十数台
〇〇さん|〇〇さん
十百|十百
青一色|青一色
ゼロカロリー|ゼロカロリー
バス一|バス一
一体|1体
一体感|一体感
一輪の花|1輪の花
三輪自転車|三輪自転車
二条城|二条城
十一番|11番
"""
ENDINGS = """
バス。|バス
バス！|バス
、バス|バス
「バス」|バス
「バス」です。|バス
「バスです。」|バス
『東京駅』|東京駅
（赤）|赤
"STOP"|stop
“Stop”|stop
「赤」と「青」|「赤」と「青」
「「赤」」|赤
「『赤』です」。|赤
「赤|「赤
赤です😊|赤
赤です⭐️|赤
😊|
**赤**|赤
`赤`|赤
ＪＲ|jr
ﾊﾞｽ|バス
ｶﾞｷﾞｸﾞ|ガギグ
ｺｶ･ｺｰﾗ|コカ・コーラ
バ ス|バス
ice cream|ice cream
　赤　|赤
a dog|dog
The Dog.|dog
another dog|another dog
a|a
赤です|赤
赤だ|赤
赤である|赤
赤でございます|赤
赤ですね|赤
赤ですよ|赤
赤だよ|赤
赤になります|赤
赤となっています|赤
赤でした|赤だった
赤いです|赤い
赤か|赤か
赤？|赤?
犬がいます|犬がいる
犬がいる|犬がいる
三人います|3人いる
犬がいません|犬がいない
犬がいました|犬がいた
あります|ある
ありません|ない
走っています|走っている
走っております|走っている
走っていません|走っていない
走っていました|走っていた
食べます|食べる
見えます|見える
見ます|見る
できます|できる
掃除します|掃除する
書きます|書きます
思います|思います
違います|違います
使います|使います
読んだ|読んだ
です|
。|
はい。|はい
3.|3
3.5|3.5
-5|-5
12:30|12:30
㎞|km
①|1
"""


def rows(table):
    return [tuple(line.split("|")) for line in table.strip().splitlines()]


@pytest.mark.parametrize(("text", "wanted"), rows(NUMBERS))
def test_numbers_are_written_in_digits_and_other_words_stay(text, wanted):
    assert normalise(text) == wanted


@pytest.mark.parametrize(("text", "wanted"), rows(ENDINGS))
def test_width_quotes_stops_and_polite_endings_do_not_matter(text, wanted):
    assert normalise(text) == wanted


@pytest.mark.parametrize(
    ("run", "value"),
    [
        ("千", "1000"),
        ("一万二千三百四十五", "12345"),
        ("10万", "100000"),
        ("二三", "23"),
        ("百千", None),
        ("万億", None),
        ("〇〇〇", None),
        ("一" * 30, "1" * 30),
        ("十" + "一" * 30, None),
    ],
)
def test_a_run_of_numerals_is_a_number_only_where_its_units_fall(run, value):
    assert parse(run) == value


def kanji(value):
    """A number below 10**8 in kanji, by another way: section by section from a string."""

    def section(value):
        parts = [(value // 10**i % 10, unit) for i, unit in ((3, "千"), (2, "百"), (1, "十"), (0, ""))]
        return "".join(
            ("" if digit == 1 and unit else "〇一二三四五六七八九"[digit]) + unit for digit, unit in parts if digit
        )

    high, low = divmod(value, 10**4)
    return (("一" if high == 1 else section(high)) + "万" if high else "") + section(low)


def test_every_number_in_kanji_with_a_counter_is_read_back():
    rng = random.Random(5)
    for value in [*range(1, 400), *(rng.randrange(1, 10 ** rng.randint(3, 8)) for _ in range(600))]:
        assert write_digits(f"値段は{kanji(value)}円だ") == f"値段は{value}円だ"


@pytest.mark.parametrize(
    "text", ["\0赤", "赤\ud800", "\udfff赤", "\ufeff赤", "赤\u200b", "赤\ufe0f", "赤\n\n", "\u202e赤"]
)
def test_what_nobody_sees_does_not_matter(text):
    assert normalise(text) == "赤"


SIGNS = "赤犬三一千万〇第人円時半つですます。、「」『(a The 3,.５ＡｱゼロゼひとりとのEe😀\ufe0f\0\ud800\u3000\n-*"


def test_random_answers_are_read_and_their_normal_form_is_clean():
    rng = random.Random(11)
    for _ in range(3000):
        text = "".join(rng.choices(SIGNS, k=rng.randrange(20)))
        assert plain(plain(text)) == plain(text)
        assert normalise(text) == normalise(f" {text} ") == normalise(f"{text}。")
        normalise(text).encode()


@pytest.mark.parametrize("sign", ["一", "1", "1,", "😀", "「", "です", "、", " a", "〇", "千", "ゼロ", "\n", "赤。"])
def test_ten_thousand_signs_are_read(sign):
    text = sign * 10_000 + "x"
    assert normalise(text).endswith("x")
