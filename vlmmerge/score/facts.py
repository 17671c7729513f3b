"""Facts: the share of answers that say the sample's facts, all of them and no others.

Knows fact phrases, such as 赤い or 三つ, and looks for them as plain text. The evalset's whole vocabulary of phrases is
looked for in every answer, so an answer that guesses everything is wrong. A phrase that lies within one of the sample's
own phrases (車 in 赤い車) is said along with it and counts as the sample's too.
"""

import hashlib
import unicodedata
from collections.abc import Iterable

from vlmmerge.errors import ScoreError
from vlmmerge.score.metric import Metric, Prepared, Targets, each_sample, mean


def find_phrases(text: str, vocabulary: Iterable[str]) -> frozenset[str]:
    """The phrases of the vocabulary that the text contains, after NFKC.

    >>> sorted(find_phrases("赤い車が２台", ["赤い", "青い", "2台"]))
    ['2台', '赤い']
    """
    folded = _fold(text)
    return frozenset(phrase for phrase in vocabulary if phrase in folded)


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip()


def _prepare(targets: Targets) -> Prepared:
    if targets.facts is None:
        raise ScoreError("`facts` needs each sample's fact phrases, and there are none", hint="use another metric")
    if len(targets.facts) != len(targets.references):
        raise ScoreError(f"facts for {len(targets.facts)} samples, references for {len(targets.references)}")
    own = {phrase for sample in targets.facts for phrase in sample}
    vocabulary = tuple(sorted({_fold(phrase) for phrase in own.union(targets.fact_vocabulary or ())} - {""}))
    samples = [_wanted(sample, vocabulary) for sample in targets.facts]

    def says(answer: str, wanted: frozenset[str]) -> float:
        return 100.0 if answer.strip() and find_phrases(answer, vocabulary) == wanted else 0.0

    checksum = hashlib.sha256("\n".join(vocabulary).encode("utf-8", "replace")).hexdigest()
    return Prepared(each_sample(says, samples), (f"facts:{len(vocabulary)}-{checksum[:8]}",))


def _wanted(facts: Iterable[str], vocabulary: Iterable[str]) -> frozenset[str]:
    found = (find_phrases(fact, vocabulary) for fact in facts)
    return frozenset(phrase for phrases in found for phrase in phrases)


FACTS = Metric("facts", "% of answers that say the facts and no others", 100.0, _prepare, mean, needs=("facts",))
