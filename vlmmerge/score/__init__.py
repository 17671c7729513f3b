"""Scoring: what the answers are worth, one metric a file, every score with its interval and signature.

Knows answers and what they are measured against; knows nothing of the model that answered. Start at `scorer.py`: its
`METRICS` lists the metrics, and `prepare` gives what scores one set of answers after another.
"""

from vlmmerge.score.cider import DocumentFrequency, document_frequency
from vlmmerge.score.judge import Judge
from vlmmerge.score.metric import Metric, Score, Targets
from vlmmerge.score.scorer import METRICS, Scorer, objective, paired_difference, paired_grounding, possible, prepare

__all__ = [
    "METRICS",
    "DocumentFrequency",
    "Judge",
    "Metric",
    "Score",
    "Scorer",
    "Targets",
    "document_frequency",
    "objective",
    "paired_difference",
    "paired_grounding",
    "possible",
    "prepare",
]
