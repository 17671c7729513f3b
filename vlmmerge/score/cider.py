"""CIDEr-D: how much an answer says what the references agree on, words that every picture has counting little.

Knows n-grams and document frequencies. Higher is better; identical captions of four words or more score about 10.
The length term counts bigrams, and one-word answers never pass 2.5: for short answers use `exact`.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from vlmmerge.errors import ScoreError
from vlmmerge.score.metric import Metric, Prepared, Targets, check_references, describe_references, each_sample, mean
from vlmmerge.score.ngrams import NGram, count_ngrams
from vlmmerge.score.segment import DEFAULT_SEGMENTER, content_words, segmenter_name

MAX_ORDER = 4
SIGMA = 6.0


@dataclass(frozen=True)
class DocumentFrequency:
    """In how many samples' references each n-gram occurs: the table behind CIDEr-D's word weights, frozen.

    Attributes:
        num_documents: Samples counted.
        counts: N-grams of 1 to 4 words that occur in two samples or more; CIDEr-D counts any other as 1.
        segmenter: Name and version of the segmenter that made the words.
    """

    num_documents: int
    counts: Mapping[NGram, int]
    segmenter: str

    @classmethod
    def build(cls, references: Iterable[Iterable[Sequence[str]]], segmenter: str) -> "DocumentFrequency":
        """Count n-grams over samples; each sample is its segmented references."""
        samples = [{ngram for text in sample for ngram in count_ngrams(text, MAX_ORDER)} for sample in references]
        counts = Counter(ngram for sample in samples for ngram in sample)
        return cls(len(samples), {ngram: count for ngram, count in counts.items() if count > 1}, segmenter)

    def to_json(self) -> str:
        """The table as one line of JSON, the same for the same table."""
        counts = {" ".join(ngram): count for ngram, count in self.counts.items()}
        table = {"segmenter": self.segmenter, "num_documents": self.num_documents, "counts": counts}
        return json.dumps(table, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "DocumentFrequency":
        """Read what `to_json` wrote.

        Raises:
            ScoreError: It is something else.
        """
        try:
            table = json.loads(text)
            counts = {tuple(ngram.split(" ")): int(count) for ngram, count in table["counts"].items()}
            documents = cls(int(table["num_documents"]), counts, str(table["segmenter"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ScoreError("not a table of document frequencies", details=[f"{error!r}"]) from error
        if not all(1 <= count <= documents.num_documents for count in counts.values()):
            raise ScoreError(
                "not a table of document frequencies", details=["a count is beyond the number of documents"]
            )
        return documents

    @property
    def sha256(self) -> str:
        """Checksum of the table, in hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def document_frequency(references: Iterable[Iterable[str]], segmenter: str = DEFAULT_SEGMENTER) -> DocumentFrequency:
    """Count the n-grams of an evalset's references, as plain text, one entry a sample."""
    segmented = [[content_words(text, segmenter) for text in sample] for sample in references]
    return DocumentFrequency.build(segmented, segmenter_name(segmenter))


def cider_d(answer: Sequence[str], references: Sequence[Sequence[str]], documents: DocumentFrequency) -> float:
    """CIDEr-D of one segmented answer against one sample's segmented references, 0 to 10.

    Source: Vedantam 2015, CIDEr: Consensus-based Image Description Evaluation, section 6, https://arxiv.org/abs/1411.5726;
    as in pycocoevalcap, whose length term counts bigrams and whose last step is times 10.
    """
    weigh = _weigher(documents)
    return _compare(weigh(answer), [weigh(reference) for reference in references])


@dataclass(frozen=True)
class _Vector:
    """A text's n-grams with their tf-idf weights, the norm of each order, and the number of bigrams."""

    weights: dict[NGram, float]
    norms: tuple[float, ...]
    num_bigrams: int


def _weigher(documents: DocumentFrequency) -> Callable[[Sequence[str]], _Vector]:
    log_documents = math.log(documents.num_documents)
    idf = {ngram: log_documents - math.log(count) for ngram, count in documents.counts.items()}

    def weigh(words: Sequence[str]) -> _Vector:
        counts = count_ngrams(words, MAX_ORDER)
        weights = {ngram: count * idf.get(ngram, log_documents) for ngram, count in counts.items()}
        squares = [0.0] * MAX_ORDER
        for ngram, weight in weights.items():
            squares[len(ngram) - 1] += weight * weight
        return _Vector(weights, tuple(map(math.sqrt, squares)), max(0, len(words) - 1))

    return weigh


def _compare(answer: _Vector, references: Sequence[_Vector]) -> float:
    return 10 * math.fsum(_similarity(answer, reference) for reference in references) / len(references)


def _similarity(answer: _Vector, reference: _Vector) -> float:
    dots = [0.0] * MAX_ORDER
    # In the answer's own order: a set's order changes from process to process, and the last bit of the sum with it.
    for ngram in filter(reference.weights.__contains__, answer.weights):
        wanted = reference.weights[ngram]
        dots[len(ngram) - 1] += min(answer.weights[ngram], wanted) * wanted
    norms = (mine * theirs for mine, theirs in zip(answer.norms, reference.norms, strict=True))
    cosines = [dot / norm if norm else 0.0 for dot, norm in zip(dots, norms, strict=True)]
    length_penalty = math.exp(-((answer.num_bigrams - reference.num_bigrams) ** 2) / (2 * SIGMA**2))
    return length_penalty * sum(cosines) / MAX_ORDER


def _prepare(targets: Targets) -> Prepared:
    check_references(targets, "cider")
    segmenter, its_name = targets.segmenter, segmenter_name(targets.segmenter)
    segmented = [[content_words(text, segmenter) for text in sample] for sample in targets.references]
    documents = targets.documents or DocumentFrequency.build(segmented, its_name)
    _check_documents(documents, its_name)
    weigh = _weigher(documents)
    vectors = [[weigh(text) for text in sample] for sample in segmented]
    value = each_sample(lambda answer, sample: _compare(weigh(content_words(answer, segmenter)), sample), vectors)
    return Prepared(value, (describe_references(targets), f"seg:{its_name}", f"df:{documents.sha256[:8]}"))


def _check_documents(documents: DocumentFrequency, segmenter: str) -> None:
    if documents.segmenter != segmenter:
        raise ScoreError(
            f"document frequencies of words by {documents.segmenter} cannot weigh words by {segmenter}",
            hint="make the table again with this segmenter",
        )
    if documents.num_documents < 2:
        raise ScoreError(
            "`cider` cannot tell rare words from common ones in the references of one sample",
            hint="score two samples or more, or by other metrics, such as `rouge_l`",
        )


CIDER = Metric("cider", "agreement with the references, 0 to 10", None, _prepare, mean)
