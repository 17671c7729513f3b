"""Containment: where a reference is said and where it only seems to stand."""

import random

import pytest

from vlmmerge.score import Targets, prepare

# A reference | an answer | whether the answer says it.
TABLE = """
赤|赤いバスです。|1
赤|赤です|1
赤|赤色のバスです。|1
赤|赤ちゃんがいます。|0
赤|白、赤、青の旗です。|1
赤|赤と青の旗です。|1
赤|赤か青です。|0
赤|青か赤です。|0
赤|赤または青です。|0
赤|赤ではありません。|0
赤|赤ではなく青です。|0
赤|赤じゃないです。|0
赤|青ではなく赤です。|1
赤|真っ赤なバス|1
白|面白い写真です。|0
白|白くて大きい犬|1
白|白っぽい壁です|1
3|13|0
3|3.5|0
3|0.3|0
3|3つです。|1
3|30|0
3|１３個|0
3|三人います|1
3人|３人の男性がいます。|1
3人|三人の男性がいます。|1
三人|3人です|1
3人|13人です。|0
3人|3人か4人です。|0
1,280円|値段は1280円です。|1
千二百八十円|値段は1,280円です。|1
12時半|時計は十二時半を指しています。|1
車|電車が走っています。|0
車|自転車に乗っています。|0
車|赤い車です。|1
車|車いすに乗っています。|0
車|車が2台あります。|1
犬|犬小屋です。|0
犬|子犬がいます。|1
犬|犬はいません。|0
犬|犬がいません。|0
犬|犬も猫もいません。|1
犬|犬がいます。|1
犬|この画像に犬は写っていません。|0
犬|犬は写っていません。しかし犬の絵があります。|1
猫|猫背の男性|0
猫|ネコです|0
木|木曜日です|0
木|木の下にいます。|1
右|右側にあります。|1
右|左右に並んでいます。|0
バス|バスケットボール|0
バス|マイクロバス|0
バス|二階建てバスです。|1
バス|赤いバスが停まっています。|1
バス|バス停です|1
パン|フライパンです。|0
パン|パンダです。|0
パン|食パンです|1
東京|東京駅です。|1
京都|東京都です。|0
京都|京都府です。|1
京都|東京都ではなく京都です|1
公園|動物公園にいます。|1
はい|はい、あります。|1
はい|帽子をはいています。|0
はい|はい|1
いいえ|いいえ。|1
ねこ|ねこがいます|1
ねこ|こねこがいます|0
STOP|「STOP」と書いてあります。|1
stop|ＳＴＯＰ|1
on|Only|0
dog|two dogs|1
dog|a hotdog stand|0
dog|dogma|0
cat|a cat or a dog|0
座っている|犬が座っています。|1
座っている|犬が座っています。猫もいます。|1
走っています|犬が走っている。|1
スケートボードに乗っている。|男性はスケートボードに乗っています。|1
赤いバス|赤いバスが停まっている|1
東京タワー|これは東京タワーです。|1
3|3, 4 or 5|1
晴れ|天気は晴れです。|1
晴れ|晴れですか、曇りですか|0
。|犬。|0
犬||0
犬|😀|0
ネコ|ﾈｺです|1
R. BONING|「R. BONING」と書いてあります。|1
います|はい、います。|1
"""
ROWS = [tuple(line.split("|")) for line in TABLE.strip().splitlines()]


def value(answer, *references, options=None):
    targets = Targets((references,), options=options and (options,))
    return prepare(["contains"], targets).score([answer])["contains"].value


@pytest.mark.parametrize(("reference", "answer", "wanted"), ROWS)
def test_an_answer_says_a_reference(reference, answer, wanted):
    assert value(answer, reference, "見当たらない参照") == 100 * int(wanted)


def test_any_reference_will_do():
    assert value("大きな柴犬です。", "犬", "柴犬") == 100


def test_naming_every_option_is_wrong_where_the_options_are_known():
    assert value("赤、青、緑です。", "赤") == 100
    assert value("赤、青、緑です。", "赤", options=("赤", "青", "緑")) == 0
    assert value("赤です。", "赤", options=("赤", "青", "緑")) == 100
    assert value("犬小屋です。", "犬小屋", options=("犬", "犬小屋")) == 100


def test_an_answer_that_is_the_reference_always_contains_it():
    rng = random.Random(4)
    signs = "赤犬三一千〇人円つaB3.,ｱカー「」のい"
    for _ in range(1500):
        text = "".join(rng.choices(signs, k=rng.randrange(1, 8)))
        exact = prepare(["exact"], Targets(((text,),))).score([text], intervals=False)["exact"].value
        assert prepare(["contains"], Targets(((text,),))).score([text], intervals=False)["contains"].value == exact


def test_the_signature_names_normalisation_and_rule():
    score = prepare(["contains"], Targets((("犬",),))).score(["犬"])["contains"]
    assert "|refs:1|norm:answer-1|edges:1|" in score.signature
