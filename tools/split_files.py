"""An evalset's parquet files, and what its manifest tells of their splits: the same for every bundled set.

Knows rows' columns. Does not know what is in a picture.
"""

import hashlib
from pathlib import Path
from typing import Any

import datasets

# For each column of references that rows may have: the split's name after the file's, what is asked, the language.
COLUMNS = {
    "captions": ("", "画像を説明してください。", "ja"),
    "english_captions": ("_english", "Describe the picture.", "en"),
    "qas": ("_questions", None, "ja"),
    "english_qas": ("_english_questions", None, "en"),
}


def write_split(out: Path, name: str, rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Write one parquet file, whose pictures serve a split for each column of references.

    Returns:
        The splits as the manifest has them.
    """
    file = out / f"{name}.parquet"
    table = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image(decode=False))
    table.to_parquet(str(file))
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    return {
        name + ending: {
            "file": file.name, "sha256": sha256, "references": column, "question": question, "language": language,
            "num_samples": len(rows) if question else sum(len(row[column]) for row in rows),
        }
        for column, (ending, question, language) in COLUMNS.items()
        if column in rows[0]
    }  # fmt: skip
