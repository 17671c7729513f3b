"""What counts as the same answer: the one normalisation behind `exact`, `contains`, `vqa`, `choice` and `numbers`.

Knows width, case, invisible signs, quotes, the stop at the end, numbers in kanji and kana, and polite endings. Knows no
metric. NORMALISATION names it in signatures; whoever changes what comes out raises its number.
"""

import re
import unicodedata
from functools import lru_cache

from vlmmerge.score.numerals import write_digits

NORMALISATION = "norm:answer-1"

# Joiners, direction marks and variation selectors: nobody sees them. NUL and lone surrogates are no text.
INVISIBLE = re.compile("[\0\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff\ud800-\udfff]")
# White space between words of letters stays; beside Japanese it means nothing: 赤 い, 3 つ.
LOOSE_SPACE = re.compile(r"(?<=[^\x00-\x7f])\s+|\s+(?=[^\x00-\x7f])")
EDGE = " \t\r\n。．.、､,!・…*_`#♪~"
EMOJI_AT_END = re.compile(
    "(?<![\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff])[\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff]+$"
)
QUOTES = {
    "「": "」",
    "『": "』",
    "【": "】",
    "(": ")",
    "[": "]",
    "“": "”",
    '"': '"',
    "'": "'",
    "‘": "’",
    "<": ">",
    "《": "》",
}
ARTICLE = re.compile(r"^(?:a|an|the) (?=\w)")
COPULA = re.compile(r"(?:でござい|であり|となってい|になってい|になり|となり)ます$|(?:です|(?<!ん)だ|である)$")
COPULA_PAST = re.compile(r"(?:でした|でありました|であった)$")
SENTENCE_PARTICLE = re.compile(r"(?<=です|ます|した|せん)(?:よね|ね|よ)$|(?<=だ)(?:よね|ね|よ)$")
# Polite verb endings with only one plain form; others (書きます, 走ります) would need a dictionary and stay.
POLITE = [
    (re.compile(r"(?<=[てで])(?:い|おり)ます$|(?<=[がはにもで、人名匹頭羽])います$|^います$"), "いる"),
    (re.compile(r"(?<=[てで])(?:い|おり)ません$|(?<=[がはにもで])いません$|^いません$"), "いない"),
    (re.compile(r"(?<=[てで])(?:い|おり)ました$|(?<=[がはにもで])いました$"), "いた"),
    (re.compile(r"ありません$"), "ない"),
    (re.compile(r"あります$"), "ある"),
    (re.compile(r"ありました$"), "あった"),
    (re.compile(r"できます$"), "できる"),
    (re.compile(r"(?<=[えけげせてでねべめれ見])ます$"), "る"),
    (re.compile(r"(?<=[えけげせてでねべめれ見])ません$"), "ない"),
    (re.compile(r"します$"), "する"),
]
LONGEST_ENDING = 12  # with particle and what stands before it; not searched for in all of a long text
MAYBE_POLITE = ("ます", "ません", "ました")


@lru_cache(maxsize=2**16)
def plain(text: str) -> str:
    """NFKC, lower case, no invisible signs, one space between words and none beside Japanese.

    >>> plain(" ＪＲ　東日本\\u200b の　駅 ")
    'jr東日本の駅'
    """
    text = " ".join(unicodedata.normalize("NFKC", INVISIBLE.sub("", text)).casefold().split())
    return LOOSE_SPACE.sub("", text) if " " in text else text


@lru_cache(maxsize=2**16)
def normalise(text: str) -> str:
    """The form in which answers are compared: equal where two answers say the same in other writing.

    On top of `plain`: numbers in digits, and at the ends no stop, quotes, emoji, article, or polite ending; です, だ
    and である go, ます becomes the plain form where there is only one (あります is ある).

    >>> [normalise(text) for text in ("「三人」です。", "３人", "犬が座っています！", "犬が座っている", "1,280円だよ")]
    ['3人', '3人', '犬が座っている', '犬が座っている', '1280円']
    """
    text = plain(text)
    for _ in range(3):  # 「赤です。」です。 has endings within its quotes
        text = (before := text).strip(EDGE)
        text = drop_polite_ending(_unquote(EMOJI_AT_END.sub("", text)))
        if text == before:
            break
    return write_digits(ARTICLE.sub("", text))


def drop_polite_ending(text: str) -> str:
    """Turn the ending of a sentence into its plain form; です and だ go.

    >>> [drop_polite_ending(text) for text in ("バスです", "バスだ", "食べています", "晴れでした", "読んだ")]
    ['バス', 'バス', '食べている', '晴れだった', '読んだ']
    """
    head, tail = text[:-LONGEST_ENDING], text[-LONGEST_ENDING:]
    tail = COPULA.sub("", COPULA_PAST.sub("だった", SENTENCE_PARTICLE.sub("", tail)))
    if tail.endswith(MAYBE_POLITE):
        for ending, plain_form in POLITE:
            if ending.search(tail):
                return head + ending.sub(plain_form, tail)
    return head + tail


def _unquote(text: str) -> str:
    """Take off one pair of quotes or brackets around the whole text; 「赤」と「青」 keeps its own."""
    opening, closing = text[:1], QUOTES.get(text[:1], "")
    if len(text) < 3 or not closing or not text.endswith(closing):
        return text
    inner = text[1:-1]
    is_pair = closing not in inner or (opening != closing and _is_balanced(inner, opening, closing))
    return inner if is_pair else text


def _is_balanced(text: str, opening: str, closing: str) -> bool:
    depth = 0
    for sign in text:
        depth += (sign == opening) - (sign == closing)
        if depth < 0:
            return False
    return depth == 0
