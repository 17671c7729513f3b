"""Scoring: what the answers are worth, one metric a file, every score with its interval and signature.

Knows answers, references and facts, all of them text; knows nothing of models, pictures or files. Start at `scorer.py`:
its `METRICS` lists the metrics, and `prepare` gives what scores one set of answers after another.
"""

from vlmmerge.score.cider import DocumentFrequency, document_frequency
from vlmmerge.score.metric import Metric, Score, Targets
from vlmmerge.score.scorer import METRICS, Scorer, objective, paired_difference, possible, prepare

__all__ = [
    "METRICS",
    "DocumentFrequency",
    "Metric",
    "Score",
    "Scorer",
    "Targets",
    "document_frequency",
    "objective",
    "paired_difference",
    "possible",
    "prepare",
]
