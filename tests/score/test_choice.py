"""Multiple choice: what an answer chooses, what only looks like a choice, and what cannot be read."""

import random

import pytest

from vlmmerge.errors import ScoreError
from vlmmerge.score import Targets, possible, prepare
from vlmmerge.score.choice import choose

OPTIONS = ("犬", "猫", "鳥", "魚")
# An answer | what it chooses of 犬, 猫, 鳥 and 魚; - is nothing, or more than one.
TABLE = r"""
A|A
a|A
Ａ|A
(A)|A
（Ａ）|A
A.|A
A: 犬|A
「A」|A
【A】|A
B|B
B。|B
Bです|B
Bです。|B
答えはBです。|B
答えはBです|B
答え：B|B
正解: C|C
正解はＣです。|C
正解はCの鳥です。|C
回答：D|D
Answer: D|D
The answer is D.|D
The correct answer is (B).|B
The answer is B because it has whiskers.|B
The answer is A because it barks.|A
Option C|C
option c|C
I would choose option B.|B
\boxed{B}|B
**B**|B
**答え：B**|B
B) 猫|B
b) 猫|B
B. 猫|B
B 猫|B
Bの猫です。|B
Bが正しいです。|B
Bだと思います。|B
選択肢B|B
選択肢Bが正解です。|B
選択肢「B」です|B
ロ|B
ろ|B
ハ|C
ニです。|D
「ロ」|B
ア|A
ウ|C
エです。|D
答えはウです。|C
(ウ)|C
㋒|C
イ|-
①|A
②|B
②です|B
②猫|B
1|A
2|B
２|B
2です。|B
2番|B
2番です。|B
答えは2です。|B
正解：3|C
3. 鳥|C
(4)|D
選択肢4|D
選択肢４です。|D
猫|B
猫です。|B
猫だ|B
「猫」|B
写真に写っているのは猫です。|B
答えは猫です。|B
ネコ|-
耳がとがっていて、ひげがあります。したがって、答えはBです。|B
Aは犬ですが吠えていません。Cは飛びません。したがって、答えはDです。|D
Aは間違いです。Bが正しいです。|B
AではなくBです。|B
犬ではなく猫です。|B
Not A but B.|B
It is not A. The answer is C.|C
A cat is sitting on a sofa.|-
A dog|-
Bus|-
Bus stop|-
Because it is big.|-
a I think|-
I think so.|-
Dog|-
ビタミンCです。|-
A型|-
Plan B|-
AかBです。|-
AまたはB|-
A or B|-
A, B|-
AとB|-
A、B、C、D|-
A. 犬 B. 猫 C. 鳥 D. 魚|-
犬か猫です。|-
犬、猫、鳥、魚|-
犬と猫がいます。|-
A. 猫|-
E|-
5|-
わかりません。|-
画像からは判断できません。|-
3匹います。|-
2.5|-
魚屋の前に犬がいます。|A
熱帯魚|-
答えられません。|-
DVDがあります|-
The animal is a cat.|-
それはBでしょう。|B
正解はBではありません。|-
答えはAではなくCです。|C
The final answer is: C|C
Therefore, D is correct.|D
So the answer would be B.|B
B: The second one|B
Answer: B) 猫|B
選択肢を見ると、Aは犬、Bは猫です。正解はB|B
(B)猫|B
【解答】B|B
記号: B|B
C |C
 c|C
c.|C
D!!|D
Ｄ．魚|D
答え　Ｄ|D
最も適切なのはCです。|C
→C|C
Cを選びます。|C
C以外はありえません。|C
答えはあの犬です|A
答えはいかです|-
答えは、あです|A
選択肢Bはイヌとは違います|B
Based on the image, the correct answer is C: bird.|C
正解は「B」の「猫」です。|B
Ｂ（猫）|B
この画像にはA、B、Cの選択肢がありますが、Bが正しいです。|B
AとBは違うので、Cが正解です。|C
AもBも正解です。|-
AかBが正解です。|-
A is incorrect because it is a dog. B is correct.|B
Option B is incorrect. The answer should be C.|C
選択肢の中で最も適切なのは「C. 鳥」です。|C
正しい答えは (C) 鳥 です。理由は、Aは犬、Bは猫だからです。|C
正解は③です|C
正解はAかBです。|-
正解はA、理由はBが猫だからです。|-
A Dog|-
猫（B）|B
"""
ROWS = [tuple(line.rsplit("|", 1)) for line in TABLE.strip("\n").splitlines()]


def scored(answers, references, options=OPTIONS, question=None):
    questions = question and (question,) * len(answers)
    targets = Targets(references, options=(options,) * len(answers), questions=questions)
    return prepare(["choice"], targets).score(answers)["choice"]


@pytest.mark.parametrize(("answer", "wanted"), ROWS)
def test_an_answer_chooses(answer, wanted):
    chosen = choose(answer, OPTIONS)
    assert ("-" if chosen is None else "ABCD"[chosen]) == wanted


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [("3", 1), ("③", 1), ("(3)", 1), ("3番", 2), ("3です", 1), ("三", 1), ("C", 2), ("答えは4です", 2), ("6", None)],
)
def test_where_options_are_numbers_a_number_is_an_option_and_no_label(answer, wanted):
    assert choose(answer, ("2", "3", "4", "5")) == wanted


@pytest.mark.parametrize(
    ("answer", "wanted"), [("3匹です。", 1), ("三匹", 1), ("3です", None), ("3番", 2), ("13匹", None)]
)
def test_where_options_hold_numbers_a_bare_number_is_no_label(answer, wanted):
    assert choose(answer, ("2匹", "3匹", "4匹", "5匹")) == wanted


def test_signs_of_markup_are_no_part_of_an_option():
    options = ("$100", "$120", "x_1", "100%")
    answers = ["$120", "**B**", "答え: (B) $120", "値段は$100です。", "$\\boxed{D}$", "`x_1`", "100%です"]
    assert [choose(answer, options) for answer in answers] == [1, 1, 1, 0, 3, 2, 3]


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("B\n\n理由：Aは犬ですが、写真には猫が写っています。", 1),
        ("A: 犬\nB: 猫\n\n正解: B", 1),
        ("回答：\n\nB", 1),
        ("A. 犬\nB. 猫\nC. 鳥\nD. 魚", None),
        ("A\nB\nC\nD", None),
        ("犬ではありません。\n猫です。", 1),
    ],
)
def test_lines_are_read_for_what_they_are(answer, wanted):
    assert choose(answer, OPTIONS) == wanted


def test_the_question_shows_which_order_of_kana_is_meant():
    assert choose("イ", OPTIONS) is None
    assert choose("イ", OPTIONS, "次から選べ。ア. 犬 イ. 猫 ウ. 鳥 エ. 魚") == 1
    assert choose("イ", OPTIONS, "イ：犬 ロ：猫 ハ：鳥 ニ：魚") == 0


def test_an_option_within_another_is_not_chosen_along_with_it():
    options = ("犬", "犬小屋", "白い犬", "犬と猫")
    assert [choose(f"{option}です。", options) for option in options] == [0, 1, 2, 3]
    assert choose("これは白い犬でしょう。", options) == 2


def test_english_options_and_answers():
    options = ("a dog", "cat", "two birds", "fish")
    answers = ["A dog", "The answer is cat.", "There are two birds.", "It's a catfish.", "B", "A", "a cat or a fish"]
    assert [choose(answer, options) for answer in answers] == [0, 1, 2, None, 1, 0, None]


@pytest.mark.parametrize("references", [("B",), ("Ｂ",), ("b",), ("猫",), ("猫です。",), ("2",), ("ロ",), ("B", "猫")])
def test_a_reference_is_an_options_letter_or_its_text(references):
    assert scored(["B", "猫", "A"], (references,) * 3).per_sample == (100, 100, 0)


def test_labels_that_an_evalset_put_before_its_options_do_not_matter():
    options = ("A. 犬", "B. 猫", "C. 鳥")
    assert scored(["猫です", "B", "B. 猫", "犬"], (("B. 猫",), ("B",), ("猫",), ("B",)), options).per_sample == (
        100,
        100,
        100,
        0,
    )


def test_of_two_right_options_either_will_do():
    assert scored(["A", "B", "C"], (("A", "B"),) * 3).per_sample == (100, 100, 0)


def test_answers_that_cannot_be_read_are_wrong_and_told():
    score = scored(["B", "AかB", "わかりません", "A"], (("B",),) * 4)
    assert score.value == 25
    assert score.notes == ("2 of 4 answers name no option, or more than one, and count as wrong",)
    assert scored(["B", "A"], (("B",),) * 2).notes == ()
    assert "|counted:4|norm:answer-1|labels:1|" in score.signature


def test_samples_without_options_are_counted_out():
    targets = Targets((("B",), ("犬",)), options=(OPTIONS, ()))
    score = prepare(["choice"], targets).score(["B", "犬"])["choice"]
    assert (score.value, score.per_sample) == (100, (100, None))
    assert score.notes == ("1 of 2 samples have no options and do not count",)


def test_an_evalset_without_options_is_an_error():
    targets = Targets((("犬",),))
    assert "choice" not in possible(targets)
    with pytest.raises(ScoreError) as caught:
        prepare(["choice"], targets)
    assert str(caught.value) == (
        "`choice` needs each sample's options, and there are none\nhint: use `exact` or `contains`"
    )


def test_a_reference_that_is_no_option_is_an_error():
    with pytest.raises(ScoreError) as caught:
        scored(["A"] * 3, (("A",), ("馬",), ("E",)))
    assert str(caught.value) == (
        "`choice` needs references that are options or their letters: 2 of 3 are not\n"
        "  sample 1 (counted from 0): '馬'\n  sample 2 (counted from 0): 'E'\n"
        "hint: a reference is an option's text, or its letter, A for the first"
    )


SIGNS = "ABCDabcd1234イロアウは犬猫鳥です。答え正解：(「)」. 、か\n①Ａ㋐*😀\0\ud800x"


def test_random_answers_are_read_and_the_order_of_options_does_not_matter_to_words():
    rng = random.Random(8)
    for _ in range(2000):
        text = "".join(rng.choices(SIGNS, k=rng.randrange(14)))
        assert choose(text, OPTIONS) in (None, 0, 1, 2, 3)
        words = "".join(rng.choices("犬猫鳥魚と。いる赤", k=rng.randrange(8)))
        chosen, turned = choose(words, OPTIONS), choose(words, OPTIONS[::-1])
        assert (chosen is None and turned is None) or chosen == 3 - turned


def test_random_letters_choose_as_often_as_they_are_named_and_no_oftener():
    """No guess: text without a label or an option chooses nothing."""
    rng = random.Random(9)
    for _ in range(1000):
        text = "".join(rng.choices("赤青白の車空がいます大きな。、BusCarDVDtrainsＪＲ", k=rng.randrange(12)))
        assert choose(f"x{text}x", OPTIONS) is None or "B" in text or "C" in text or "D" in text


@pytest.mark.parametrize(
    "text", ["A", "A ", "は", "答えは", "(A)", "1番", "犬", "option a", "です", "A. ", "「", "\n ", "選択肢"]
)
def test_ten_thousand_signs_are_read(text):
    assert choose(text * 10_000 + "x", ("犬", "猫")) in (None, 0)
