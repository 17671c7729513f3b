"""Numbers in Japanese writing to digits: 三人 and ひとり become 3人 and 1人, 千二百八十円 becomes 1280円.

Knows kanji numerals, counters, and words that only look like numbers (一緒, 三角, 八百屋). Knows no metric.

A run of kanji numerals is a number where it stands after 第 or before a counter, where it has two signs or more and no
other kanji follows (二十。, not 四万十川), and where one sign stands alone (答えは三です). A word of `NOT_NUMBERS` is
none, and neither is what leaves the number open (数十人, 何百).
"""

import re
from decimal import Decimal

DIGITS = {sign: str(value) for value, sign in enumerate("〇一二三四五六七八九")} | {
    "零": "0",
    "壱": "1",
    "弐": "2",
    "参": "3",
}
UNITS = {"十": 10, "拾": 10, "百": 100, "千": 1000}
MYRIADS = {"万": 10**4, "萬": 10**4, "億": 10**8, "兆": 10**12}
KANJI = "".join([*DIGITS, *UNITS, *MYRIADS])
# Longer runs than this are no number that somebody meant, and `Decimal` would round them.
LONGEST = 24

COUNTERS = """
つ 個 箇 コ ヶ ケ か所 カ所 ヵ所 ヶ所 箇所 人 名 匹 頭 羽 尾 台 枚 本 冊 杯 着 足 軒 棟 戸 室 部 部屋 回 度 倍
階 段 点 位 等 号 番 丁目 歳 才 円 銭 ドル ユーロ 年 月 日 時 分 秒 週 か月 ヶ月 ヵ月 カ月 箇月 世紀 代 割 %
パーセント メートル センチ ミリ キロ グラム トン リットル m cm mm km g kg ml l 歩 席 問 章 巻 話 条 行 列 文字
色 種 品 曲 組 束 皿 膳 切れ 玉 粒 滴 株 輪 房 缶 箱 袋 瓶 脚 体 基 機 隻 艘 両 車線 車両 か国 カ国 ヶ国 ヵ国
チーム 票 件 社 校 店 丁 坪 畳 平方 立方 周 ページ 頁 泊 面 口 セット 対 連 拍 学年
"""
COUNTER = re.compile("|".join(sorted(COUNTERS.split(), key=len, reverse=True)))

# Words in which a numeral before what could be a counter, or one that stands alone, counts nothing.
NOT_NUMBERS = """
一部 一面 一種の 一体(?=何|ど|感|化|型|とな) 一段と 一時停止 一時的 一時期 一軒家 一戸建 一口に 一輪車 一本道
一度に 一行に 一連 一方 一件落着 一周忌 一品料理 一人前に (?<=[㐀-鿿])一色
一番(?!線|目|ホーム|のりば|乗り場|出口|地|札|号|台|席|窓口|バス|$) 二等辺 二輪車 二条 二足歩行 三輪 三条 三日月
三角 四角 三国 四国 三脚 三つ編み 三つ葉 三面鏡 三日坊主 四つ葉 四つ角 四つん 四条 四日市 四輪駆動 五輪 五条
五分五分 五分袖 七条 七分袖 七分丈 七五三 七面鳥 七輪 六本木 八つ橋 八つ当 八戸 八代 八丁
十分(?=な|に|で(?!す|あ)|だ|広|大き|足) 十日町 十人十色 百日紅 千羽鶴 千本鳥居 千代 千人針 万年 万国 万一 万が一
第一に 第一印象 第三者
"""
# What may follow a numeral that stands alone without a counter.
ALONE = re.compile(r"$|[\s。、,.!?)」』】:;・~/\-]|です|だ|でし|でご|である|では|と|か(?!所|国|月)|が|は|を")
ANY = re.compile(f"[{KANJI}]")
NUMERAL = re.compile(
    rf"(?P<word>{'|'.join(NOT_NUMBERS.split())})|(?P<run>(?:(?<!\d)\d++(?:\.\d++)?)?[{KANJI}][\d{KANJI}]*)"
)
KANA = {"ひと": 1, "ふた": 2, "みっ": 3, "よっ": 4, "いつ": 5, "むっ": 6, "なな": 7, "やっ": 8, "ここの": 9}
KANA_COUNT = re.compile(rf"(?P<thing>{'|'.join(KANA)})つ|(?P<person>ひとり(?!ごと|でに)|ふたり)")
ZERO = re.compile(rf"ゼロ(?={COUNTER.pattern}|です|[。、」』)]|$)")
# The second is vertical writing's: 一、二八〇円.
COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))|(?<=[一二三四五六七八九〇])、(?=[一二三四五六七八九〇]{3}円)")


def write_digits(text: str) -> str:
    """Write every number of a text in digits, without thousands commas; all other text stays.

    Args:
        text: In the form NFKC, so that digits and commas have one width.

    >>> write_digits("三人で千二百八十円、第三回は二〇二六年")
    '3人で1280円、第3回は2026年'
    >>> write_digits("一緒に八百屋で三角の万年筆")
    '一緒に八百屋で三角の万年筆'
    """
    text = COMMA.sub("", text)
    if ANY.search(text):
        text = NUMERAL.sub(_digits, text)
    if "つ" in text or "り" in text:
        text = KANA_COUNT.sub(lambda found: f"{KANA[found['thing']]}つ" if found["thing"] else _persons(found[0]), text)
    return ZERO.sub("0", text) if "ゼロ" in text else text


def _persons(word: str) -> str:
    return "1人" if word == "ひとり" else "2人"


def _digits(found: re.Match[str]) -> str:
    run = found["run"]
    value = parse(run) if run and _is_number(found.string, found.start(), found.end()) else None
    return found[0] if value is None else value


def _is_number(text: str, start: int, end: int) -> bool:
    before, after = text[start - 1 : start], text[end : end + 1]
    if (before and before in "数何幾") or (after and after in "数何余"):
        return False
    if (before and before in "第対") or COUNTER.match(text, end):
        return True
    if end - start > 1:
        return not _is_kanji(after)
    return not _is_in_word(before) and ALONE.match(text, end) is not None


def _is_kanji(sign: str) -> bool:
    return "㐀" <= sign <= "鿿" or sign == "々"


def _is_in_word(sign: str) -> bool:
    return _is_kanji(sign) or "ァ" <= sign <= "ヿ" or (sign.isascii() and sign.isalnum())


def parse(run: str) -> str | None:
    """The digits of a run of numerals, or None where it is none: 二〇二六, 千二百八十, 3万5千, 1.5億.

    >>> [parse(run) for run in ("二〇二六", "千二百八十", "3万5千", "1.5億", "〇〇", "十百")]
    ['2026', '1280', '35000', '150000000', None, None]
    """
    plain = "".join(DIGITS.get(sign, sign) for sign in run)
    if set(run) == {"〇"} and len(run) > 1:  # a blank to be filled in
        return None
    if not (set(plain) & (UNITS.keys() | MYRIADS.keys())):
        return plain
    return _add_up(plain) if len(plain) <= LONGEST else None


def _add_up(run: str) -> str | None:
    """The value of a run with units, which must fall: 千 before 百, 億 before 万."""
    total, section, number = Decimal(0), Decimal(0), ""
    last_unit, last_myriad = 10**4, 10**16
    for sign in run:
        if sign in UNITS:
            if UNITS[sign] >= last_unit:
                return None
            last_unit = UNITS[sign]
            section, number = section + Decimal(number or "1") * last_unit, ""
        elif sign in MYRIADS:
            if MYRIADS[sign] >= last_myriad:
                return None
            last_unit, last_myriad = 10**4, MYRIADS[sign]
            total += ((section + Decimal(number or "0")) or Decimal(1)) * last_myriad
            section, number = Decimal(0), ""
        else:
            number += sign
    value = total + section + Decimal(number or "0")
    return f"{value.normalize():f}"
