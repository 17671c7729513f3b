"""VQA soft accuracy: an answer is as right as annotators agree with it.

Knows references as annotators' votes, alike after `normalise.py`. With fewer than four references nobody can vote (one
left out of three leaves two, and three must agree): they are taken for accepted answers, and one match is fully right.
A longer list of accepted answers, each there once, is no vote: where references are that, use `exact`.
"""

from collections import Counter

from vlmmerge.score.metric import Metric, Prepared, Targets, check_references, describe_references, each_sample, mean
from vlmmerge.score.normalise import NORMALISATION, normalise

NUM_AGREEING = 3  # as many annotators must say it for the full score
FEWEST_VOTES = NUM_AGREEING + 1


def soft_accuracy(num_matching: int, num_references: int) -> float:
    """The accuracy, 0 to 1: min(matches / 3, 1) averaged over every choice of all references but one.

    Source: Antol 2015, VQA: Visual Question Answering, section 3, https://arxiv.org/abs/1505.00468; averaged as in
    the official evaluation of Goyal 2017, https://arxiv.org/abs/1612.00837

    >>> [round(soft_accuracy(matching, 10), 2) for matching in (0, 1, 2, 3, 4)]
    [0.0, 0.3, 0.6, 0.9, 1.0]
    """
    if num_references < FEWEST_VOTES:
        return float(num_matching > 0)
    left_out_matches = num_matching * min((num_matching - 1) / NUM_AGREEING, 1.0)
    left_out_differs = (num_references - num_matching) * min(num_matching / NUM_AGREEING, 1.0)
    return (left_out_matches + left_out_differs) / num_references


def _value(answer: str, votes: Counter[str]) -> float:
    folded = normalise(answer)
    return 100 * soft_accuracy(votes[folded], votes.total()) if folded else 0.0


def _prepare(targets: Targets) -> Prepared:
    check_references(targets, "vqa")
    samples = [Counter(map(normalise, sample)) for sample in targets.references]
    return Prepared(each_sample(_value, samples), (describe_references(targets), NORMALISATION))


VQA = Metric("vqa", "% agreement with annotators", None, _prepare, mean)
