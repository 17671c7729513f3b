"""Labels of options, and where a text names one: A, Ａ, (a), 「イ」, ③, 選択肢B, 2番.

Knows how labels are written. Does not know what the options say.

A capital letter is a label wherever it stands alone, but for the article in "A cat" and for vitamin C. Small letters,
kana and digits are labels only where one is expected: as the whole text, before an option's text (b) 猫), in brackets,
after 選択肢, or at the start of a conclusion. A label that is denied (Aではなく) is not named.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vlmmerge.score.normalise import normalise

LATIN = "ABCDEFGHIJ"
# Kana labels of two orders: イ is the first of one and the second of the other.
IROHA, AIUEO = "イロハニホヘトチリヌ", "アイウエオカキクケコ"
NUMERIC = "123456789"
# Full-width signs, ① and ㋐ as (1) and (ア); kana stay as they are.
NARROW = str.maketrans(
    {0xFF01 + i: chr(0x21 + i) for i in range(94)}
    | {0x2460 + i: f"({i + 1})" for i in range(len(NUMERIC))}
    | {0x32D0 + i: f"({label})" for i, label in enumerate(AIUEO)}
    | {0x3000: " "}
)
HIRAGANA_TO_KATAKANA = 0x60

_OPEN, _CLOSE = r"[(「『【\[<\"'“]", r"[)」』】\]>\"'”]"
_KANA = r"[アイウエオカキクケコロハニホヘトチリヌあいうえおかきくけころはにほへとちりぬ]"
_LABEL = rf"(?P<label>[A-Ja-j]|\d{{1,2}}|{_KANA})"
# Looks back over the label itself: a pattern that starts with its letters is found many times faster.
_NO_WORD_BEFORE = r"(?<![A-Za-z0-9À-ÿァ-ヿ㐀-鿿&.'’-].)"
_NO_WORD_AFTER = r"(?![A-Za-z0-9À-ÿァ-ヿ&'’-]|(?![番及又以])[㐀-鿿])"
_WORD_OF_ARTICLE = r" (?!because|since|as\b|is\b|and\b|or\b)[A-Za-z]"
_NAME = "選択肢|記号|番号|option|choice"
_END = r"(?:番|です|だ|である|でしょう|になります|となります|と思います|かな|[\s。.!、,])*$"
_WHOLE = re.compile(rf"(?:{_NAME})?\s*{_OPEN}?{_LABEL}{_CLOSE}?{_END}", re.IGNORECASE)
_LEAD = re.compile(
    rf"{_OPEN}?{_LABEL}(?:{_CLOSE}+[.:、,]?|[.:](?!\d)|番[.:、]|(?<![\dぁ-ゖ])[、,]|(?<=[A-Jア-ヌ])\s(?![A-Za-z]))\s*(?=\S)"
)
_CONCLUDED = re.compile(
    rf"(?:{_NAME}|the|[は:が、,\s])*(?![AI]{_WORD_OF_ARTICLE}){_OPEN}*{_LABEL}"
    rf"(?:{_CLOSE}|番|です|だ|。|$"
    r"|(?<![ぁ-ゖ])(?:で[^す]|である|でしょう|が|と|に|の|か|を|/|\.(?!\d)|[。、,:;!?]|\s(?![a-z])|(?<=[A-J])\s))",
    re.IGNORECASE,
)
_LETTER = re.compile(rf"(?P<label>[A-J]){_NO_WORD_BEFORE}{_NO_WORD_AFTER}(?!(?<=[AI]){_WORD_OF_ARTICLE})")
_MARKED = [
    re.compile(rf"{_OPEN}{_LABEL}{_CLOSE}"),
    re.compile(rf"(?P<label>[a-j]){_NO_WORD_BEFORE}\)"),
    re.compile(rf"(?:選択肢|[Oo]ption|[Cc]hoice)\s*{_OPEN}?{_LABEL}(?![A-Za-z0-9ァ-ヿつ個])(?<![ぁ-ゖ])"),
    re.compile(r"(?P<label>[1-9])(?<![\d.].)番(?![目線地号])"),
]
# B が正解, however many others are named beside it.
_DECIDED = re.compile(
    rf"(?P<label>[A-J]|[1-9]|[ア-ヌロハニホヘト]){_NO_WORD_BEFORE}(?<![とかや].){_CLOSE}?番?"
    r"(?:が(?:最も)?(?:正解|正し|正答|答え|適切|当てはま|該当)"
    r"|[)\"'”]? (?:is|would be) (?:the )?(?:correct|right|best|answer))"
)
# After another word in Latin letters (vitamin, plan) a letter is no label.
_WORD_BEFORE = re.compile(r"([A-Za-z]+) [(\"'“]?$")
_WORDS_BEFORE = re.compile(
    "is|be|option|choice|answer|choose|select|pick|or|and|letter|therefore|thus|so|with|not|but|nor"
)
_DENIED = re.compile(
    rf"{_CLOSE}?(?:番)?(?:では(?!な(?:いか|いでしょうか))(?:な|あり)|じゃな|は(?:間違|誤|正しくな|不正解|違|×))"
    r"|[)\"'”]? (?:is|are) (?:wrong|incorrect|false|not\b)"
)
_DENIED_BEFORE = re.compile(r"(?:\bnot|n't be|\bneither|\bnor) (?:option )?[(\"'“]?$", re.IGNORECASE)
_BRACKET_OR_COUNTER = re.compile(rf"{_CLOSE}|番")


@dataclass(frozen=True)
class Labels:
    """How the options of one sample may be called.

    Attributes:
        index: Each label's option, from 0; capital letters, katakana and digits.
        has_bare_digits: A digit without brackets may be a label; not where the options themselves hold digits.
    """

    index: dict[str, int]
    has_bare_digits: bool

    def find(self, label: str) -> int | None:
        """The option of a label in any writing, from 0."""
        if label.isdecimal():
            return self.index.get(label.lstrip("0"))
        if len(label) == 1 and "ぁ" <= label <= "ゖ":
            return self.index.get(chr(ord(label) + HIRAGANA_TO_KATAKANA))
        return self.index.get(label.upper())


def find_labels(options: Sequence[str], question: str = "") -> Labels:
    """The labels that the options may be called by; イ is one only where the question shows which order is meant."""
    orders = [order for order in (IROHA, AIUEO) if all(re.search(_shown(label), question) for label in order[:2])]
    index: dict[str, int] = {}
    for order in (LATIN, NUMERIC, *(orders or (IROHA, AIUEO))):
        for i, label in enumerate(order[: len(options)]):
            index[label] = i if index.get(label, i) == i else -1
    has_digits = any(re.search(r"\d", normalise(option)) for option in options)
    return Labels({label: i for label, i in index.items() if i >= 0}, not has_digits)


def _shown(label: str) -> str:
    return rf"(?<![ぁ-ヿ㐀-鿿A-Za-z]){label}[\s.．:：)）」』、]"


def named(text: str, labels: Labels, *, is_conclusion: bool = False) -> set[int]:
    """The options whose labels a text names and does not deny.

    Args:
        text: Translated by `NARROW`, without white space at the ends.
        is_conclusion: The text is what follows 答えは.

    >>> labels = find_labels(("犬", "猫", "鳥"))
    >>> [named(text, labels) for text in ("Bです", "AではなくCです", "A cat", "ビタミンC", "AかB")]
    [{1}, {2}, set(), set(), {0, 1}]
    """
    expected = (_WHOLE.match(text), _LEAD.match(text), _CONCLUDED.match(text) if is_conclusion else None)
    marked = (found for pattern in _MARKED for found in pattern.finditer(text))
    alone = (found for found in _LETTER.finditer(text) if _may_be_label(found))
    is_bare = labels.has_bare_digits
    options = [_option(found, labels, is_bare) for found in expected if found]
    options += [_option(found, labels, True) for found in (*marked, *alone)]
    return {option for option in options if option is not None}


def decided(text: str, labels: Labels) -> set[int]:
    """The options of which a text says by their labels that they are right: Bが正解, B is correct.

    >>> decided("AとBは違うので、Cが正解です。", find_labels(("犬", "猫", "鳥")))
    {2}
    """
    options = (_option(found, labels, labels.has_bare_digits) for found in _DECIDED.finditer(text))
    return {option for option in options if option is not None}


def begins_with_label_alone(text: str) -> bool:
    """Tell whether the first line is a label and nothing else, and no other line begins with one."""
    first, *others = text.splitlines() or [""]
    return _WHOLE.match(first) is not None and not any(_LEAD.match(line) or _WHOLE.match(line) for line in others)


def after_label(text: str) -> str:
    """What stands behind a label at the start of a text: 犬 of "A. 犬"; nothing where there is no label."""
    lead = _LEAD.match(text)
    return text[lead.end() :] if lead else ""


def without_labels(options: Sequence[str]) -> Sequence[str]:
    """Take off labels that an evalset has put before its options' texts.

    >>> without_labels(("A. 犬", "B. 猫")), without_labels(("A. 犬", "猫"))
    (['犬', '猫'], ('A. 犬', '猫'))
    """
    for order in (LATIN, IROHA, AIUEO, NUMERIC):
        bare = list(_take_off(options, order))
        if len(bare) == len(options):
            return bare
    return options


def _take_off(options: Sequence[str], order: str) -> Iterator[str]:
    for option, label in zip(options, order, strict=False):
        narrow = option.translate(NARROW)
        mark = re.match(rf"\s*\(?{label}[.:)、]+\s*(?=\S)", narrow)
        if mark:
            yield narrow[mark.end() :]


def _may_be_label(found: re.Match[str]) -> bool:
    word = _WORD_BEFORE.search(found.string[max(0, found.start() - 20) : found.start()])
    return not word or _WORDS_BEFORE.fullmatch(word[1].lower()) is not None


def _option(found: re.Match[str], labels: Labels, may_be_bare: bool) -> int | None:
    start, end = found.span("label")
    is_bare = found["label"].isdecimal() and not _BRACKET_OR_COUNTER.match(found.string, end)
    if is_bare and not may_be_bare:
        return None
    if _DENIED.match(found.string, end) or _DENIED_BEFORE.search(found.string[max(0, start - 16) : start]):
        return None
    return labels.find(found["label"])
