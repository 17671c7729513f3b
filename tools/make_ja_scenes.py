"""Make evalsets/ja-scenes from a seed: `python tools/make_ja_scenes.py --out evalsets/ja-scenes`.

Its pictures' combinations of colour, shape and relation (or count and place) are in nobody's training, and those of the
held-out split are not in the search split either. The document frequencies are counted on training scenes.
"""

import argparse
import io
import json
import random
from pathlib import Path
from typing import Any

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
from split_files import write_split

from vlmmerge.score import document_frequency

SEED = 20261123
SIZES = {"search": 256, "held_out": 512}
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


if __name__ == "__main__":
    main()
