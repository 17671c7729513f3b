"""A judge: a language model behind an OpenAI-compatible endpoint that marks answers; asked once, then remembered."""

from vlmmerge.score.judge.metrics import JUDGE, JUDGE_HERON
from vlmmerge.score.judge.settings import Judge

__all__ = ["JUDGE", "JUDGE_HERON", "Judge"]
