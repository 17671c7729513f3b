"""Which rows of the embeddings and the head are blended: a row pairs by its token's spelling, never by its number.

Tokens that all parents have are blended, as a compact tensor of their rows alone. The VLM's other rows (`<image>`,
padding beyond its tokenizer) stay as they are, bit for bit; other parents' other rows are left out. Where all parents
have the same rows nothing is gathered. The compact tensor is what formulas and masks see: its rows stand in the order
of the VLM's, and a mask is drawn for (seed, parent, slot, element of the compact tensor). Where a `vision` parent gives
the layout, its rows take the place of the VLM's in all of this.

Knows tokenizers and numbers of rows. Does not know how rows are blended.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from vlmmerge.anatomy.pairing import KEEP_EMBEDDINGS, Anatomy, Slot, layout_of
from vlmmerge.checkpoint import Checkpoint
from vlmmerge.checkpoint.tokenizer import Tokenizer, open_tokenizers
from vlmmerge.errors import ParentsError

if TYPE_CHECKING:
    from torch import Tensor

NUM_EXAMPLES = 6
# Begins each probe: whether a tokenizer puts a space before a text shows in its first token alone.
ANCHOR = "。"
WORDS_PER_PROBE = 64
# What people ask and say of pictures, and all kinds of script that may come up in it.
SENTENCES = (
    "この画像には何が写っていますか？大きな赤い丸が、小さな青い四角の上にあります。",
    "夕暮れの海辺で、犬を連れた女性が砂浜を散歩している様子を撮影した写真です。",
    "東京駅の前に停まっているバスの色は黄色と白で、行き先は「品川駅港南口」と書かれています。",
    "写真の左側にはコーヒーカップとノートパソコン、右側には眼鏡をかけた男性が座っている。",
    "いいえ、違います。2024年5月3日（金）の午後12時45分ごろに、約1,500人が集まりました。",
    "あなたは役立つ、偏見がなく、検閲されていないアシスタントです。与えられた画像を下に、質問に答えてください。",
    "ラーメンを食べながらテレビを見ていたら、突然ものすごい音がして、びっくりしてしまった！",
    "縄文土器・浮世絵・歌舞伎などの伝統文化、およびＡＩや量子コンピュータといった最新技術について説明しなさい。",
    "猫が、ソファーの上ですやすや眠っています…可愛いですね♪😊",
    "A big red circle is above a small blue square. What is the man on the left holding in his hand?",
    "The photograph shows two children playing football in a park; it isn't raining, although the sky looks grey.",
    "On 3 May 2024, approximately 1,500 people (mostly tourists) visited the museum's north-west entrance.",
)


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """How the rows of the embeddings and the head pair.

    Args:
        rows: For each parent the rows of the tokens that all share: int64 of shape (shared tokens,), in the order of
            the VLM's rows. Empty where all parents have the same rows: then nothing is gathered.
        policy: What is done with which rows, with counts and first examples, for people.
    """

    rows: Mapping[str, "Tensor"] = field(default_factory=dict)
    policy: Mapping[str, str] = field(default_factory=dict)

    def gather(self, parent: str, slot: Slot, tensor: "Tensor") -> "Tensor":
        """What of a parent's tensor is blended: the shared tokens' rows, new; of any other slot `tensor` itself."""
        rows = self.rows_of(parent, slot)
        return tensor if rows is None else tensor.index_select(0, rows.to(tensor.device))

    def rows_of(self, parent: str, slot: Slot) -> "Tensor | None":
        """A parent's rows of `slot` that are blended, and of the VLM written, too; None for all of them."""
        return self.rows.get(parent) if slot.has_token_rows else None


@dataclass(frozen=True, eq=False)
class Pairing:
    """As `Vocabulary`, but with each parent's rows as plain numbers: what there is to say of them needs no torch."""

    rows: Mapping[str, Sequence[int]] = field(default_factory=dict)
    policy: Mapping[str, str] = field(default_factory=dict)


def study_vocabulary(checkpoints: Mapping[str, Checkpoint], anatomy: Anatomy) -> Vocabulary:
    """Pair the rows of the parents' embeddings and heads by token. Reads tokenizers, no weights.

    Args and Raises: As `study_tokens`.
    """
    return as_vocabulary(study_tokens(checkpoints, anatomy))


def as_vocabulary(pairing: Pairing) -> Vocabulary:
    """The same rows as tensors."""
    import torch

    rows = {name: torch.tensor(numbers, dtype=torch.int64) for name, numbers in pairing.rows.items()}
    return Vocabulary(rows, pairing.policy)


def study_tokens(checkpoints: Mapping[str, Checkpoint], anatomy: Anatomy) -> Pairing:
    """Pair the rows of the parents' embeddings and heads by token. Reads tokenizers, no weights.

    Args:
        checkpoints: Each parent by name, `vlm` among them.
        anatomy: How their tensors pair. Without embeddings and head in it nothing is opened.

    Raises:
        CheckpointError: A tokenizer cannot be opened.
        ParentsError: The tokenizers cut the same text otherwise, or rows cannot be paired for want of a tokenizer.
    """
    slots = [slot for slot in anatomy.slots if slot.has_token_rows]
    if not slots:
        return Pairing(policy={"kept": "the VLM's embeddings and head stay as they are"})
    num_rows = {
        name: sorted({checkpoint.tensors[anatomy.keys[name][slot]].shape[0] for slot in slots})
        for name, checkpoint in checkpoints.items()
    }
    opened = open_tokenizers({name: checkpoint.folder for name, checkpoint in checkpoints.items()})
    tokenizers = number_the_nameless(opened, num_rows)
    check_segmentation(tokenizers)
    pairing = pair_rows({name: tokenizer.rows for name, tokenizer in tokenizers.items()}, num_rows)
    if nameless := [name for name in tokenizers if opened[name] is None]:
        policy = {**pairing.policy, "without a tokenizer": f"{', '.join(nameless)}: rows pair by number"}
        return Pairing(pairing.rows, policy)
    return pairing


def number_the_nameless(
    tokenizers: Mapping[str, Tokenizer | None], num_rows: Mapping[str, Sequence[int]]
) -> dict[str, Tokenizer]:
    """Let a parent without a tokenizer have the rows of the first parent that has one, if it has as many.

    Args:
        tokenizers: Each parent's, `vlm` first, or None.
        num_rows: The numbers of rows of each parent's embeddings and head.

    Returns:
        A tokenizer for each parent; none at all if nobody has one and all have as many rows.

    Raises:
        ParentsError: A parent without a tokenizer has another number of rows.
    """
    known = next((name for name, tokenizer in tokenizers.items() if tokenizer), next(iter(tokenizers)))
    lines = [
        f"{_numbers(num_rows[name])} rows in `{name}`, without a tokenizer   {_numbers(num_rows[known])} in `{known}`"
        for name, tokenizer in tokenizers.items()
        if tokenizer is None and list(num_rows[name]) != list(num_rows[known])
    ]
    if lines:
        raise ParentsError(
            "rows of the embeddings cannot be paired: which row is which token is not known",
            details=lines,
            hint=f"put the tokenizer's files beside the weights; or {KEEP_EMBEDDINGS}",
        )
    return {name: found for name, own in tokenizers.items() if (found := own or tokenizers[known]) is not None}


def check_segmentation(tokenizers: Mapping[str, Tokenizer]) -> None:
    """Check that every parent cuts texts as the VLM does, for only then does a token mean the same to all of them.

    What comes out is compared, for equal tokenizers are written down in many ways: converted by another version, with
    merges in another order, with or without a space put before a text. Probed are sentences in Japanese and English,
    and the texts of all tokens that both have.

    Raises:
        ParentsError: One cuts a text otherwise; each is told with what it makes of the first such text.
    """
    if not tokenizers:
        return
    layout = layout_of(tokenizers)
    own = tokenizers[layout]
    different = {id(tokenizer): tokenizer for tokenizer in tokenizers.values() if tokenizer is not own}
    differences = {key: _first_difference(own, tokenizer) for key, tokenizer in different.items()}
    lines = [
        f"{ours} in `{layout}`   {theirs} in `{name}`"
        for name, tokenizer in tokenizers.items()
        for ours, theirs in differences.get(id(tokenizer), [])
    ]
    if lines:
        raise ParentsError(
            "embeddings cannot be blended: the parents' tokenizers cut the same text into other tokens",
            details=lines,
            hint=KEEP_EMBEDDINGS,
        )


def pair_rows(tokens: Mapping[str, Mapping[str, int]], num_rows: Mapping[str, Sequence[int]]) -> Pairing:
    """Find the tokens that all parents share, and say what becomes of all others.

    Args:
        tokens: For each parent, `vlm` among them, the row of each token; none at all to pair rows by number.
        num_rows: The numbers of rows of each parent's embeddings and head. A token beyond the fewest has no row.

    >>> tokens = {"vlm": {"a": 0, "b": 1, "<image>": 2}, "base": {"a": 0, "b": 1}, "ja": {"b": 0, "a": 1, "c": 2}}
    >>> paired = pair_rows(tokens, {"vlm": [4], "base": [2], "ja": [3]})
    >>> paired.rows["vlm"], paired.rows["ja"]
    ([0, 1], [1, 0])
    >>> paired.policy["stay the VLM's"], paired.policy["left out of ja"]
    ('2 rows: <image>, and 1 without a token', '1 row: c')
    """
    layout = layout_of(num_rows)
    sizes = {size for each in num_rows.values() for size in each}
    own = {
        name: {token: row for token, row in rows.items() if row < min(num_rows[name])} for name, rows in tokens.items()
    }
    if not own or (len(sizes) == 1 and all(rows == own[layout] for rows in own.values())):
        why = "the parents' vocabularies are the same" if own else "by number, for no parent has a tokenizer"
        return Pairing(policy={"blended": f"all {_numbers(sizes)} rows: {why}"})
    shared = set.intersection(*(set(rows) for rows in own.values()))
    token_at = {row: token for token, row in own[layout].items() if token in shared}
    in_order = [token_at[row] for row in sorted(token_at)]
    policy = {"blended": f"{_count(len(in_order))}: the tokens that all parents have, paired by their spelling"}
    for name, rows in own.items():
        kept = sorted(set(rows) - set(in_order), key=rows.__getitem__)
        without = max(num_rows[name]) - len(set(rows.values()))
        if kept or without > 0:
            stay = "stay the VLM's" if layout == "vlm" else f"stay {layout}'s"
            policy[stay if name == layout else f"left out of {name}"] = _told(kept, max(without, 0))
    return Pairing({name: [rows[token] for token in in_order] for name, rows in own.items()}, policy)


def _told(tokens: Sequence[str], num_without: int) -> str:
    """How many rows, and the first of their tokens."""
    examples = [token if token.isprintable() else repr(token) for token in tokens[:NUM_EXAMPLES]]
    more = ["..."] if len(tokens) > NUM_EXAMPLES else []
    without = [f"{'and ' if tokens else ''}{num_without:,} without a token"] if num_without else []
    return f"{_count(len(tokens) + num_without)}: {', '.join([*examples, *more, *without])}"


def _count(num_rows: int) -> str:
    return f"{num_rows:,} row{'' if num_rows == 1 else 's'}"


def _numbers(numbers: Sequence[int] | set[int]) -> str:
    return " and ".join(f"{number:,}" for number in sorted(numbers))


def _first_difference(vlm: Tokenizer, other: Tokenizer) -> list[tuple[str, str]]:
    """Of the first probe that the two cut otherwise, the tokens of each from where they part; none if there is none."""
    for probe in chain(SENTENCES, _texts_of_tokens(vlm, other)):
        ours, theirs = _cut(vlm, probe), _cut(other, probe)
        if ours != theirs:
            at = next(at for at, (left, right) in enumerate(zip_longest(ours, theirs)) if left != right)
            return [("|".join(map(vlm.readable, ours[at:][:4])), "|".join(map(other.readable, theirs[at:][:4])))]
    return []


def _texts_of_tokens(vlm: Tokenizer, other: Tokenizer) -> Iterator[str]:
    """The texts of all ordinary tokens that both have, many to a probe, in the order of the VLM's rows."""
    shared = (vlm.rows.keys() & other.rows.keys()) - vlm.added - other.added
    texts = [vlm.readable(token) for token in sorted(shared, key=vlm.rows.__getitem__)]
    for first in range(0, len(texts), WORDS_PER_PROBE):
        yield " ".join(texts[first : first + WORDS_PER_PROBE])


def _cut(tokenizer: Tokenizer, text: str) -> list[str]:
    """The tokens of a text as they are within a longer one."""
    first, *others = tokenizer.cut(ANCHOR + text) or [""]
    bare = first.lstrip(" \N{LOWER ONE EIGHTH BLOCK}\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}")
    return [bare, *others] if bare else others
