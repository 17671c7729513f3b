"""Make evalsets/ja-scenes from a seed: `python tools/make_ja_scenes.py --out evalsets/ja-scenes`.

Its pictures' combinations of colour, shape and relation (or count and place) are in nobody's training, and those of the
held-out split are not in the search split either. The document frequencies are counted on training scenes.
"""

import argparse
import hashlib
import io
import json
import random
from pathlib import Path
from typing import Any

import datasets
from scenes import (
    COLOURS,
    SHAPES,
    Scene,
    Thing,
    draw,
    english_captions,
    japanese_captions,
    place,
    questions,
    random_scene,
)

from vlmmerge.score import document_frequency

SEED = 20261123
SIZES = {"search": 256, "held_out": 512}
JAPANESE_REQUEST = "画像を説明してください。"
ENGLISH_REQUEST = "Describe the picture."
NUM_DOCUMENTS = 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the evalset's folder")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    splits: dict[str, dict[str, Any]] = {}
    for name, size in SIZES.items():
        rng = random.Random(f"{SEED} {name}")
        rows = [make_row(f"{name}-{number:04d}", random_scene(rng, name), rng) for number in range(size)]
        splits |= write_split(out, name, rows)
    rng = random.Random(f"{SEED} documents")
    documents = document_frequency(japanese_captions(random_scene(rng, "train")) for _ in range(NUM_DOCUMENTS))
    (out / "document_frequency.json").write_text(documents.to_json() + "\n", encoding="utf-8")
    manifest = {
        "name": "ja-scenes",
        "about": "Drawn scenes of coloured things, with Japanese captions and questions, and English captions",
        "source": "drawn by tools/make_ja_scenes.py",
        "licence": "CC0-1.0",
        "fact_vocabulary": [Thing("big", colour, shape).japanese() for colour in COLOURS for shape in SHAPES],
        "splits": splits,
    }
    (out / "manifest.json").write_text(json.dumps(manifest, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def make_row(name: str, scene: Scene, rng: random.Random) -> dict[str, Any]:
    """One picture with everything that is said of it."""
    stream = io.BytesIO()
    draw(place(scene, rng), rng).save(stream, "JPEG", quality=90)
    asked = questions(scene, rng)
    return {
        "id": name,
        "image": {"bytes": stream.getvalue(), "path": f"{name}.jpg"},
        "captions": japanese_captions(scene),
        "english_captions": english_captions(scene),
        "facts": [thing.japanese() for thing in scene.things],
        "qas": [{"kind": kind, "question": ja[0], "answer": ja[1]} for kind, (_, ja) in asked.items()],
    }


def write_split(out: Path, name: str, rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Write one parquet file; the same pictures serve three splits: captions, English captions, questions."""
    file = out / f"{name}.parquet"
    table = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image(decode=False))
    table.to_parquet(str(file))
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()

    def split(references: str, question: str | None, language: str, num_samples: int) -> dict[str, Any]:
        return {
            "file": file.name, "sha256": sha256, "references": references, "question": question,
            "language": language, "num_samples": num_samples,
        }  # fmt: skip

    return {
        name: split("captions", JAPANESE_REQUEST, "ja", len(rows)),
        f"{name}_english": split("english_captions", ENGLISH_REQUEST, "en", len(rows)),
        f"{name}_questions": split("qas", None, "ja", sum(len(row["qas"]) for row in rows)),
    }


if __name__ == "__main__":
    main()
