"""Numbers: the share of answers whose number is the reference's, however it is written.

Knows which of an answer's numbers count; what a number is, and which are equal, `quantities.py` knows.

The rule. The reference's numbers are wanted in their order. Of the answer, the numbers whose unit could be meant are
read, from the last 答えは, 合計 or したがって on if there is one, and without those that the question itself says. The
first of them must be the wanted ones, and no other guess may be joined to them (2人か3人, 3〜5). An answer without
such a number that denies (誰もいません) says 0.

Samples whose references hold no number are counted out: the signature tells how many are counted in.
"""

import re
from collections.abc import Sequence

import numpy as np

from vlmmerge.errors import ScoreError
from vlmmerge.score.metric import Array, Metric, Prepared, Targets, describe_references, mean_of_counted
from vlmmerge.score.normalise import NORMALISATION
from vlmmerge.score.quantities import Number, find_numbers, fits, is_same, read_numbers, rewrite

RULE = "units:1"
CONCLUSION = re.compile(
    r"答え?(?:は|[:：])|正解(?:は|[:：])|回答[:：]|解答[:：]|結論|合計|全部で|合わせて|したがって|従って|よって|ゆえに|"
    r"answer(?: is|:)|therefore|in total|="
)
DENIES = re.compile(
    r"(?:誰も|何も|1つも|1人も|は|が|も)(?:いない|いません|居ません|おりません|ない|ありません|なし|存在しない|存在しません|"
    r"(?:写って|映って|見えて|見当たって|止まって|停まって)(?:は)?い(?:ない|ません)|見えない|見えません|見当たらない|見当たりません)"
    r"|^(?:なし|無し|ない|いない|いません|ありません|none|no\b)|there (?:are|is) no\b"
)
EXCUSE = re.compile("情報|質問|申し訳|提供|判断|不明|分か|わか|特定|具体的|できません|できない")


def says_numbers(answer: str, wanted: Sequence[Number], asked: Sequence[Number] = ()) -> bool:
    """Tell whether an answer's numbers are the wanted ones, by the rule above.

    Args:
        wanted: The reference's numbers, one or more.
        asked: The question's.

    >>> [says_numbers(text, find_numbers("3人")) for text in ("三人です。", "13人です。", "2人か3人です。", "3円")]
    [True, False, False, False]
    """
    text = rewrite(answer)
    ignored = [] if any(is_same(one, other) for one in asked for other in wanted) else asked
    concluded = [read_numbers(text[found.end() :]) for found in list(CONCLUSION.finditer(text))[-1:]]
    for part in (*concluded, read_numbers(text)):
        meant = [one for one in part if any(fits(one, other) for other in wanted)]
        meant = [one for one in meant if not any(is_same(one, other) for other in ignored)]
        if meant:
            is_right = len(meant) >= len(wanted) and all(map(is_same, meant, wanted))
            return is_right and not any(one.is_joined for one in meant[len(wanted) : len(wanted) + 1])
    return len(wanted) == 1 and wanted[0].value == "0" and denies(text)


def denies(text: str) -> bool:
    """Tell whether a text says that there is none; an excuse (提供された情報がありません) does not.

    >>> [denies(text) for text in ("犬はいません。", "誰も写っていない", "犬です。", "情報がありません。")]
    [True, True, False, False]
    """
    return DENIES.search(text) is not None and EXCUSE.search(text) is None


def _prepare(targets: Targets) -> Prepared:
    wanted = [tuple(filter(None, map(find_numbers, sample))) for sample in targets.references]
    num_counted = sum(map(bool, wanted))
    if not num_counted:
        raise ScoreError(
            f"`numbers` needs references with a number: none of {len(wanted)} samples has one",
            hint="use `exact` or `contains` for answers in words",
        )
    asked = [find_numbers(question) for question in targets.questions or [""] * len(wanted)]
    counted = np.array([bool(sample) for sample in wanted], dtype=np.float64)

    def statistics(answers: Sequence[str]) -> Array:
        rows = zip(answers, wanted, asked, strict=True)
        right = [
            any(says_numbers(answer, numbers, question) for numbers in sample) for answer, sample, question in rows
        ]
        return np.column_stack([100.0 * np.array(right, dtype=np.float64), counted])

    return Prepared(statistics, (describe_references(targets), f"counted:{num_counted}", NORMALISATION, RULE))


def _notes(statistics: Array) -> tuple[str, ...]:
    num_out = int((statistics[:, 1] == 0).sum())
    note = f"{num_out} of {len(statistics)} samples have no number in their references and do not count"
    return (note,) if num_out else ()


NUMBERS = Metric("numbers", "% of answers with the reference's number", 100.0, _prepare, mean_of_counted, notes=_notes)
