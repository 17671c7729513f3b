"""Numbers: which are equal, which of an answer's are read, and what counts as saying none."""

import random

import pytest

from vlmmerge.errors import ScoreError
from vlmmerge.score import Targets, paired_difference, prepare
from vlmmerge.score.quantities import find_numbers

# A reference | an answer | whether its number is the reference's.
TABLE = """
3人|三人です。|1
3人|３人|1
3人|3|1
3人|3名です。|1
３|三つ|1
三人|人は3人います。|1
3人|13人です。|0
3人|3.5|0
3人|30人|0
3人|3円です。|0
3人|3匹です。|0
3匹|3頭|1
3個|３つ|1
3人|みっつ|1
一人|ひとりです。|1
二人|ふたり|1
10個|十個|1
1,280円|千二百八十円です。|1
1,280円|1280|1
1280円|¥1,280|1
1280円|1,280 yen|1
1280円|12,80円|0
1280円|値段は一、二八〇円です|1
1280円|12800円|0
1280円|1.280円|0
35000円|3万5千円|1
35000円|3.5万円|1
3.5|3.50|1
3.5m|3.5メートル|1
3.5|3|0
-5度|マイナス5度です。|1
-5度|−5℃|1
-5度|5度|0
5度|-5度|0
50%|50パーセント|1
50%|５０％です|1
50%|50|1
50%|50円|0
3割|三割|1
12:30|12時30分|1
12:30|十二時半です。|1
12:30|12時半|1
12時|12:00|1
12:30|12:31|0
12:30|12時|0
8:15|20:15|0
15:00|午後3時|1
15:00|3 pm|1
15:00|午前3時|0
午後3時|3時です。|1
3時|3時間|0
3時|3|1
3時半|3時30分|1
2時間半|150分|1
2時間|2時間です|1
2時間|120分|1
2時間|2|1
2時間|2時|0
30分|30分間|1
4月1日|四月一日です。|1
4月1日|4/1|1
4月1日|2026年4月1日|1
4月1日|1月4日|0
4月1日|4月です。|0
2026年4月1日|2026-04-01|1
2026年4月1日|2026/4/1|1
2026年|令和8年|1
2019年|令和元年|1
2026年|平成8年|0
2026年|二〇二六年|1
8時から17時|8時から17時までです。|1
8時から17時|8:00〜17:00|1
8時から17時|17時から8時|0
8時から17時|8時から|0
3人|2人か3人です。|0
3人|3人か4人です。|0
3人|3人または4人|0
3|2、3、4|0
3個|3、4個|0
3人|3〜5人|0
3人|3-5人|0
3人|3人です。男性は2人、女性は1人です。|1
3人|3人、うち1人は子供です。|1
3人|2人の男性と1人の女性がいるので、合計3人です。|1
3人|男性が2人、女性が1人います。したがって3人です。|1
3人|2人です。3人です。|0
3人|3人の男性と2匹の犬がいます。|1
2匹|3人の男性と2匹の犬がいます。|1
6頭|キリンが3頭、シマウマが3頭です。答えは6頭です。|1
0人|誰もいません。|1
0人|この画像に人は写っていません。|1
0匹|犬はいません。|1
0|なし|1
0台|ゼロ台です。|1
0|「ゼロ」です。|1
0匹|一匹もいません。|1
0匹|3人いますが、犬はいません。|1
0人|3人いますが、犬はいません。|0
0人|申し訳ありませんが、判断できません。|0
0人|提供された画像には情報がありません。|0
3人|誰もいません。|0
0人|10人|0
1匹|一匹もいません。|0
2|There are two dogs.|1
2|There are 2 dogs.|1
0|There are no dogs.|1
2|twofold|0
第3回|第三回です|1
3番線|三番線|1
3番線|3|1
2階|二階です。|1
7|007|1
3|三角です。|0
1|一番大きいです。|0
1|一緒にいます。|0
10分|十分な広さです。|0
1000|千葉です。|0
8|八百屋です。|0
3人|数十人|0
20歳|二十歳です|1
3人|人がいます。|0
3人||0
3人|😀|0
3人|A. 3人|1
2車線|1. 2車線の道路です。|1
2分の1|二分の一|1
½|2分の1|1
3km|3キロ|1
3kg|3キロ|1
3km|3kg|0
3|①②③|0
"""
ROWS = [tuple(line.split("|")) for line in TABLE.strip().splitlines()]


def scored(answers, references, questions=None):
    return prepare(["numbers"], Targets(references, questions=questions)).score(answers)["numbers"]


@pytest.mark.parametrize(("reference", "answer", "wanted"), ROWS)
def test_an_answers_number_is_the_references(reference, answer, wanted):
    assert scored([answer], ((reference,),)).value == 100 * int(wanted)


def test_any_reference_with_a_number_will_do_and_those_without_are_left_aside():
    assert scored(["3人"], (("たくさん", "2人", "3人"),)).value == 100
    assert scored(["たくさん"], (("たくさん", "2人", "3人"),)).value == 0


def test_numbers_that_the_question_says_are_not_the_answers():
    question = ("13のバスは何時に来ますか？",)
    assert scored(["13のバスは8に来ます。"], (("8",),), question).value == 100
    assert scored(["13のバスは8に来ます。"], (("8",),)).value == 0
    assert scored(["13です。"], (("8",),), question).value == 0


def test_a_number_of_the_question_is_read_where_it_is_the_answer():
    assert scored(["1です。"], (("1",),), ("1と2のどちらですか？",)).value == 100
    assert scored(["1か2です。"], (("1",),), ("1と2のどちらですか？",)).value == 0


def test_samples_without_a_number_in_their_references_are_counted_out():
    score = scored(["3人", "犬", "1匹"], (("三人",), ("犬",), ("2匹",)))
    assert (score.value, score.per_sample) == (50, (100, None, 0))
    assert score.notes == ("1 of 3 samples have no number in their references and do not count",)
    assert "|refs:1|counted:2|norm:answer-1|units:1|" in score.signature
    assert paired_difference(score, score)[0] == 0


def test_an_evalset_without_a_number_is_an_error():
    targets = Targets((("犬",), ("三角",)))
    with pytest.raises(ScoreError) as caught:
        prepare(["numbers"], targets)
    assert str(caught.value) == (
        "`numbers` needs references with a number: none of 2 samples has one\n"
        "hint: use `exact` or `contains` for answers in words"
    )


SIGNS = "三一千0123.,:/-年月日時分半円人つも〜か、ありません犬 ¥½−令和万%合計＝答えは😀\0\ud800\n"


def test_random_answers_are_read_and_equal_themselves():
    rng = random.Random(2)
    for _ in range(2000):
        text = "".join(rng.choices(SIGNS, k=rng.randrange(1, 16)))
        if len(find_numbers(text)) == 1:
            assert scored([text], ((text,),)).value == 100, text


@pytest.mark.parametrize(
    "text", ["1", "一", "1か", "1,", "12:30", "1.", "十", "-", "1匹も", "令和", "合計", "二〇", "9時間"]
)
def test_ten_thousand_signs_are_read(text):
    assert scored([text * 10_000], (("7",),)).value == 0
