"""Whether parents fit each other: every misfit, graded by what will come of it, with what to type next.

Knows headers, configs and tokenizers. Does not know weights, nor how findings are shown.
"""

import json
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlmmerge.anatomy import EMBEDDINGS, HEAD, KEEP_EMBEDDINGS, Anatomy, study
from vlmmerge.anatomy.vocabulary import Pairing, study_tokens
from vlmmerge.checkpoint import Checkpoint
from vlmmerge.checkpoint.header import BLENDABLE
from vlmmerge.checkpoint.tokenizer import has_tokenizer
from vlmmerge.errors import ParentsError, VlmMergeError
from vlmmerge.inspection.lineup import BASE, VLM, Lineup

GRADES = FAILS, MIND, FINE = ("will fail", "will work but mind", "fine")
LONGEST_TEXT = 80
NOTHING_TO_SET = "nothing to set; keep it in mind when answers look odd"
WEIGH_ATTENTION = "`--set blend.split=[attention,mlp]` lets a search weigh attention by itself"
ONE_BASE = "choose parents that come from one base model"
# What comes of a trait that differs. The layers' sizes are judged by the tensors' shapes instead.
CONSEQUENCES = {
    "attention_heads": (FAILS, "weights of one head would be added to those of another", ONE_BASE),
    "key_value_heads": (FAILS, "weights of one head would be added to those of another", ONE_BASE),
    "head_dim": (FAILS, "weights of one head would be added to those of another", ONE_BASE),
    "activation": (MIND, "the blend has the VLM's, and the others' layers were trained for theirs", NOTHING_TO_SET),
    "norm_epsilon": (MIND, "the blend has the VLM's", NOTHING_TO_SET),
    "rope_theta": (MIND, "the blend has the VLM's, so others' attention sees positions otherwise", WEIGH_ATTENTION),
    "rope_scaling": (MIND, "the blend has the VLM's, so others' attention sees positions otherwise", WEIGH_ATTENTION),
    "sliding_window": (MIND, "the blend has the VLM's; it matters for texts longer than the window", NOTHING_TO_SET),
    "bos_token": (MIND, "the blend begins texts as the VLM does", NOTHING_TO_SET),
    "eos_token": (
        MIND, "the blend ends texts as the VLM does, and others may never say that token",
        "a high max_new_tokens or runaway answers tell; keep the VLM's weight up in the last layers",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing that fits, or does not.

    Args:
        grade: One of `GRADES`.
        about: What was looked at.
        message: What was found.
        details: More of it, line by line.
        hint: What to do; empty only where all is fine.
    """

    grade: str
    about: str
    message: str
    details: tuple[str, ...] = ()
    hint: str = ""


@dataclass(frozen=True, eq=False)
class Fit:
    """How some parents fit.

    Args:
        anatomy: How their slots pair; without embeddings and head where only these do not; None where none do.
        pairing: How their tokens pair; None where they do not.
        findings: Graded, the worst first.
    """

    anatomy: Anatomy | None
    pairing: Pairing | None
    findings: tuple[Finding, ...]

    @property
    def grade(self) -> str:
        """The worst finding's."""
        return self.findings[0].grade if self.findings else FINE


def study_fit(lineup: Lineup, traits: Mapping[str, Mapping[str, Any]]) -> Fit:
    """Find whether parents fit. Reads tokenizers, no weights.

    Args:
        lineup: Two checkpoints or more.
        traits: How each computes, by label.
    """
    anatomy, findings = _study_slots(lineup)
    pairing: Pairing | None = None
    if anatomy:
        pairing, of_tokens = _study_tokens(lineup, anatomy)
        findings += [
            *of_tokens,
            *_judge_dtypes(lineup.checkpoints, anatomy),
            *_judge_heads(lineup.checkpoints, anatomy),
        ]
    findings += [*_judge_traits(traits), *_judge_lineup(lineup)]
    named = [
        Finding(each.grade, each.about, lineup.named(each.message), tuple(map(lineup.named, each.details)), each.hint)
        for each in findings
    ]
    return Fit(anatomy, pairing, tuple(sorted(named, key=lambda finding: GRADES.index(finding.grade))))


def _study_slots(lineup: Lineup) -> tuple[Anatomy | None, list[Finding]]:
    """How the slots pair, at least without embeddings and head, and what `blend` would say."""
    shapes = {label: checkpoint.shapes for label, checkpoint in lineup.checkpoints.items()}
    says_tied = {label: checkpoint.says_tied for label, checkpoint in lineup.checkpoints.items()}
    try:
        anatomy = study(shapes, says_tied)
    except ParentsError as error:
        found = _from_error("language slots", error)
        if error.hint != KEEP_EMBEDDINGS:
            return None, [found]
        return study(shapes, says_tied, blends_embeddings=False), [found]
    return anatomy, [Finding(FINE, "language slots", f"all {len(anatomy.slots)} pair, in {anatomy.num_layers} layers")]


def _study_tokens(lineup: Lineup, anatomy: Anatomy) -> tuple[Pairing | None, list[Finding]]:
    """How the tokens pair, and what becomes of those that do not."""
    try:
        pairing = study_tokens(lineup.checkpoints, anatomy)
    except VlmMergeError as error:
        return None, [_from_error("vocabulary", error)]
    policy = {key: text for key, text in pairing.policy.items() if key != "without a tokenizer"}
    if not any(slot.has_token_rows for slot in anatomy.slots):
        findings = []  # that they do not fit is told already
    elif pairing.rows:
        lines = tuple(f"{_named_key(lineup, key)}: {text}" for key, text in policy.items())
        findings = [Finding(MIND, "vocabulary", "not all rows are blended", lines, KEEP_EMBEDDINGS)]
    else:
        findings = [Finding(FINE, "vocabulary", policy["blended"])]
    nameless = [f"`{label}`" for label, each in lineup.checkpoints.items() if not has_tokenizer(each.folder)]
    if nameless and anatomy.slots:
        message = f"{listed(nameless)} without one: rows pair by number"
        findings += [Finding(MIND, "tokenizer", message, hint="put the tokenizer's files beside the weights")]
    return pairing, findings


def _judge_dtypes(checkpoints: Mapping[str, Checkpoint], anatomy: Anatomy) -> Iterator[Finding]:
    """Whether the language towers' tensors can be blended, and whether all are stored alike."""
    stored = {
        label: Counter(checkpoints[label].tensors[key].dtype for key in keys.values())
        for label, keys in anatomy.keys.items()
    }
    for label, counts in stored.items():
        if others := [f"{count} as {dtype}" for dtype, count in counts.items() if dtype not in BLENDABLE]:
            message = (
                f"language tensors of `{label}` are stored {', '.join(others)}, wanted one of {', '.join(BLENDABLE)}"
            )
            yield Finding(
                FAILS, "dtype", message, hint="quantized weights cannot be blended: use the unquantized model"
            )
    told = {label: "/".join(sorted(counts)) for label, counts in stored.items()}
    if len(set(told.values())) > 1:
        message = f"{_told(told)}: a blend is computed in float32 and stored as the VLM is"
        yield Finding(MIND, "dtype", message, hint="nothing to set; to ship another dtype, convert the VLM first")
    else:
        yield Finding(FINE, "dtype", f"{told[VLM]} in all")


def _judge_heads(checkpoints: Mapping[str, Checkpoint], anatomy: Anatomy) -> Iterator[Finding]:
    """Whether one has a tied head and another a head of its own."""
    is_tied = {label: HEAD not in keys or keys[HEAD] == keys[EMBEDDINGS] for label, keys in anatomy.keys.items()}
    if HEAD in anatomy.slots and any(is_tied.values()):
        tied = listed([f"`{label}`" for label, tied in is_tied.items() if tied])
        message = f"tied in {tied}, not in `{VLM}`: the embeddings stand for the head, too"
        yield Finding(MIND, "head", message, hint=NOTHING_TO_SET)


def _judge_traits(traits: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """What comes of each trait that differs."""
    judged = [(trait, CONSEQUENCES[trait]) for trait in differing(traits) if trait in CONSEQUENCES]
    for trait, (grade, consequence, hint) in judged:
        told = {label: as_text(own[trait]) for label, own in traits.items() if trait in own}
        yield Finding(grade, trait.replace("_", " "), f"{_told(told)}: {consequence}", hint=hint)
    if not judged:
        yield Finding(FINE, "how they compute", "nothing that matters differs between their configs")


def _judge_lineup(lineup: Lineup) -> Iterator[Finding]:
    """Whether there is a VLM and an ancestor among them."""
    if not lineup.opened[VLM].sees:
        message = f"none has a vision tower: `{VLM}` is taken for one"
        yield Finding(MIND, "vision", message, hint="name a VLM among the parents")
    if not lineup.has_ancestor:
        message = f"no common ancestor is named: all are compared with `{BASE}`"
        yield Finding(MIND, "base", message, hint="`--base MODEL` names it; a recipe's `parents.base` needs it")


def differing(traits: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The traits that two checkpoints state and not all state alike."""
    names = dict.fromkeys(name for own in traits.values() for name in own)
    return [name for name in names if len({_key(own[name]) for own in traits.values() if name in own}) > 1]


def as_text(value: Any) -> str:
    r"""A trait's value for people.

    >>> as_text(1e6), as_text(1e-05), as_text(None), as_text({"rope_type": "linear", "factor": 2.0})
    ('1,000,000', '1e-05', 'none', 'rope_type linear, factor 2.0')
    >>> as_text("\x1b[2J")
    "'\\x1b[2J'"
    """
    if isinstance(value, dict):
        text = ", ".join(f"{key} {each if isinstance(each, str) else json.dumps(each)}" for key, each in value.items())
    elif isinstance(value, int | float) and not isinstance(value, bool):
        text = f"{value:,.0f}" if isinstance(value, float) and value.is_integer() else f"{value:,}"
    else:
        text = "none" if value is None else str(value)
    text = text if text.isprintable() else repr(text)  # it may hold what drives a terminal
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."


def listed(words: Sequence[str]) -> str:
    """At least one word, in words.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _key(value: Any) -> Hashable:
    """What is equal for equal values: 10000 and 10000.0 are."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else json.dumps(value, sort_keys=True)


def _told(values: Mapping[str, str]) -> str:
    """Each value with the parents that have it."""
    holders: dict[str, list[str]] = {}
    for label, value in values.items():
        holders.setdefault(value, []).append(f"`{label}`")
    return ", ".join(f"{value} in {listed(labels)}" for value, labels in holders.items())


def _from_error(about: str, error: VlmMergeError) -> Finding:
    return Finding(FAILS, about, error.message, error.details, error.hint)


def _named_key(lineup: Lineup, key: str) -> str:
    label = key.removeprefix("left out of ")
    return key if label == key else f"left out of {lineup.names[label]}"
