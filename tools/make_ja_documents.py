"""Make evalsets/ja-documents from a seed: `python tools/make_ja_documents.py --out evalsets/ja-documents`.

Needs node: the fonts are fetched from npm the first time. With the versions in tools/constraints.txt the files come out
byte for byte the same.
"""

import argparse
import io
import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from documents import fonts
from documents.kinds import KINDS
from documents.words import accepted, numbered
from PIL import Image
from split_files import write_split

from vlmmerge.score import document_frequency

SEED = 20261123
SPLITS = ("search", "held_out")
PER_KIND = 8  # pictures of a kind in a split
NUM_DOCUMENTS = 2000
CARD = Path(__file__).parent / "ja_documents_card.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the evalset's folder")
    out: Path = parser.parse_args().out
    fonts.fetch()
    out.mkdir(parents=True, exist_ok=True)
    rows = {split: [make_row(*name) for name in names(split)] for split in SPLITS}
    splits: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        splits |= write_split(out, split, rows[split])
    (out / "document_frequency.json").write_text(
        document_frequency(other_captions()).to_json() + "\n", encoding="utf-8"
    )
    manifest = {
        "name": "ja-documents",
        "about": "Drawn Japanese documents (signs, menus, receipts, charts, forms...) with questions and captions",
        "source": "drawn by tools/make_ja_documents.py",
        "licence": "CC0-1.0",
        "splits": splits,
    }
    (out / "manifest.json").write_text(json.dumps(manifest, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    (out / "README.md").write_text(make_card(splits, rows), encoding="utf-8")


def names(split: str) -> list[tuple[str, str, int]]:
    """Split, kind and turn of each picture of a split, the kinds in turn: the first ten are one of each."""
    return [(split, kind, turn) for turn in range(PER_KIND) for kind in KINDS]


def make_row(split: str, kind: str, turn: int) -> dict[str, Any]:
    """One picture with everything that is said of it, and the data that it shows."""
    forms = KINDS[kind]
    form = forms[turn % len(forms)]
    name = f"{split}-{kind}-{turn}"
    data = form.make(turn // len(forms) * len(SPLITS) + SPLITS.index(split), random.Random(f"{SEED} {name}"))
    picture, stream = form.draw(data, random.Random(f"{SEED} {name} look")), io.BytesIO()
    if picture.mode == "P":
        picture.save(stream, "PNG", optimize=True)
    else:
        picture.save(stream, "JPEG", quality=88)
    return {
        "id": name,
        "image": {"bytes": stream.getvalue(), "path": f"{name}.{'png' if picture.mode == 'P' else 'jpg'}"},
        "captions": form.tell(data),
        "qas": [
            {"kind": asked, "question": question.text, "answers": accepted(question)}
            for asked, question in numbered(form.ask(data))
        ],
        "data": json.dumps({"form": type(data).__name__, **asdict(data)}, ensure_ascii=False),
    }


def other_captions() -> list[list[str]]:
    """The captions of documents that are in no split: every kind as often as in a split."""
    told = []
    for number in range(NUM_DOCUMENTS):
        forms = KINDS[list(KINDS)[number % len(KINDS)]]
        turn, rng = number // len(KINDS), random.Random(f"{SEED} documents {number}")
        form = forms[turn % len(forms)]
        told.append(form.tell(form.make(turn // len(forms), rng)))
    return told


def make_card(splits: dict[str, dict[str, Any]], rows: dict[str, list[dict[str, Any]]]) -> str:
    """The set's card: its text with the splits, their checksums and how near their pictures are."""
    table = ["| split | language | samples |", "|---|---|---|"]
    table += [f"| {name} | {split['language']} | {split['num_samples']} |" for name, split in splits.items()]
    files = {split["file"]: split["sha256"] for split in splits.values()}
    filled = {
        "@SPLITS@": "\n".join(table),
        "@CHECKSUMS@": "\n".join(f"- `{file}`: `{sha256}`" for file, sha256 in files.items()),
        "@NEAREST@": str(nearest(*([row["image"]["bytes"] for row in rows[split]] for split in SPLITS))),
    }
    card = CARD.read_text(encoding="utf-8")
    for mark, text in filled.items():
        card = card.replace(mark, text)
    return card


def nearest(some: list[bytes], others: list[bytes]) -> int:
    """The fewest bits in which the difference hashes of a picture of either side differ."""
    one, other = (np.stack([difference_hash(encoded) for encoded in side]) for side in (some, others))
    return int((one[:, None] != other[None]).sum(-1).min())


def difference_hash(encoded: bytes) -> np.ndarray:
    """1024 bits: whether each pixel of a thumbnail, 33 wide and 32 high, is darker than its right neighbour."""
    small = Image.open(io.BytesIO(encoded)).convert("L").resize((33, 32), Image.Resampling.BOX)
    pixels = np.asarray(small, dtype=int)
    return (pixels[:, :-1] < pixels[:, 1:]).ravel()


if __name__ == "__main__":
    main()
