"""Every hub set in miniature: a few rows with the columns and features of the real one, in files of the same names.

The features are those that the sets' cards on the hub state: JA-VG-VQA-500, JA-VLM-Bench-In-the-Wild,
JA-Multi-Image-VQA, CVQA, STAIR Captions, xm3600. Those of Heron-Bench, JMMMU, JDocQA and MECHA-ja are as public code
that loads them uses them.
"""

import io
from dataclasses import dataclass
from typing import Any

from datasets import Image, List, Value
from PIL import Image as Pictures

TEXT, NUMBER, PICTURE = Value("string"), Value("int64"), Image()


@dataclass(frozen=True)
class Table:
    """A parquet file of a set: where it lies, which split and configuration it is, and its rows."""

    file: str
    split: str
    features: dict[str, Any]
    rows: list[dict[str, Any]]
    config: str | None = None


def picture(number: int) -> dict[str, Any]:
    """A picture that differs from others' in colour."""
    encoded = io.BytesIO()
    Pictures.new("RGB", (8, 6), (number * 40 % 256, number * 90 % 256, 99)).save(encoded, "jpeg")
    return {"bytes": encoded.getvalue(), "path": None}


def vg(start: int) -> list[dict[str, Any]]:
    def qa(number: int) -> dict[str, Any]:
        return {"qa_id": number, "question": f"質問{number}は？", "answer": f"答え{number}"}

    return [
        {
            "image_id": start + n, "image": picture(start + n), "url": "u", "width": 8, "height": 6,
            "qas": [qa(10 * n), qa(10 * n + 1)],
        }
        for n in range(3)
    ]  # fmt: skip


VG_FEATURES = {
    "image_id": NUMBER, "image": PICTURE, "url": TEXT, "width": NUMBER, "height": NUMBER,
    "qas": List({"qa_id": NUMBER, "question": TEXT, "answer": TEXT}),
}  # fmt: skip
WILD_FEATURES = {"page_url": TEXT, "image_url": TEXT, "image": PICTURE, "question": TEXT, "answer": TEXT}
WILD = [
    {"page_url": "p", "image_url": "i", "image": picture(0), "question": f"何{n}？", "answer": f"文{n}です。"}
    for n in range(2)
]
SEVERAL_FEATURES = {
    "images": List(PICTURE), "page_urls": List(TEXT), "image_urls": List(TEXT), "question": TEXT, "answer": TEXT
}  # fmt: skip
SEVERAL = [
    {
        "images": [picture(1), picture(2)], "page_urls": ["p", "p"], "image_urls": ["i", "i"],
        "question": "<image> <image> 二枚に共通するものは？", "answer": "空です。",
    }
]  # fmt: skip
JUDGED = ("claude-3-opus-20240229", "gemini-1.0-pro-vision-latest", "gpt-4-0125-preview", "gpt-4-vision-preview")
HERON_FEATURES = {
    "question_id": NUMBER, "image": PICTURE, "category": TEXT, "image_category": TEXT, "context": TEXT, "text": TEXT,
    "answer": dict.fromkeys(JUDGED, TEXT),
}  # fmt: skip
HERON = [
    {
        "question_id": n, "image": picture(n), "category": category, "image_category": "art", "context": "浮世絵の波。",
        "text": f"{category}について？", "answer": {name: f"{name}の答え" for name in JUDGED},
    }
    for n, category in enumerate(("conv", "detail", "complex"))
]  # fmt: skip
JMMMU_PICTURES = [f"image_{n}" for n in range(1, 8)]
JMMMU_FEATURES = {
    "id": TEXT, "question": TEXT, "options": TEXT, "explanation": TEXT, **dict.fromkeys(JMMMU_PICTURES, PICTURE),
    "img_type": TEXT, "answer": TEXT, "topic_difficulty": TEXT, "question_type": TEXT, "subfield": TEXT,
}  # fmt: skip
SUBJECTS = [
    "Accounting", "Agriculture", "Architecture_and_Engineering", "Basic_Medical_Science", "Biology", "Chemistry",
    "Clinical_Medicine", "Computer_Science", "Design", "Diagnostics_and_Laboratory_Medicine", "Economics",
    "Electronics", "Energy_and_Power", "Finance", "Japanese_Art", "Japanese_Heritage", "Japanese_History", "Manage",
    "Marketing", "Materials", "Math", "Mechanical_Engineering", "Music", "Pharmacy", "Physics", "Psychology",
    "Public_Health", "World_History",
]  # fmt: skip


def exam(subject: str) -> list[dict[str, Any]]:
    row = dict.fromkeys(JMMMU_FEATURES, "x") | dict.fromkeys(JMMMU_PICTURES)
    row |= {"image_1": picture(1), "image_2": picture(2)}
    choice = {"question": "<image 1>と<image 2>を比べると？", "options": "['甲', \"乙's\", '<image 2>']", "answer": "B"}
    free = {"question": "<image1>の値は？", "options": "[]", "answer": "['7', '7.0']"}
    return [
        row | choice | {"id": f"validation_{subject}_1", "question_type": "multiple-choice"},
        row | free | {"id": f"validation_{subject}_2", "question_type": "open"},
    ]


PAGES = [f"image_{n}" for n in range(4)]
JDOCQA_FEATURES = {
    "question_id": NUMBER, "question": TEXT, "answer": TEXT, "answer_type": NUMBER, **dict.fromkeys(PAGES, PICTURE)
}  # fmt: skip
JDOCQA = [
    {
        "question_id": n, "question": f"資料の{n}は？", "answer": answer, "answer_type": n,
        "image_0": picture(n), "image_1": picture(n + 4) if n else None, "image_2": None, "image_3": None,
    }
    for n, answer in enumerate(("はい", "令和元年", "12", "補助金の額を述べています。"))
]  # fmt: skip
MECHA_FEATURES = {
    "question": TEXT, "options": List(TEXT), "answer": NUMBER, "answer_type": TEXT, "background_text": TEXT,
    "image": PICTURE,
}  # fmt: skip
MECHA = [
    {
        "question": "この祭りは？", "options": ["祇園祭", "ねぶた祭", "天神祭", "阿波踊り"], "answer": n,
        "answer_type": "x", "background_text": "b", "image": picture(n),
    }
    for n in range(2)
]  # fmt: skip
CVQA_FEATURES = {
    "image": PICTURE, "ID": TEXT, "Subset": TEXT, "Question": TEXT, "Translated Question": TEXT, "Options": List(TEXT),
    "Translated Options": List(TEXT), "Label": NUMBER, "Category": TEXT, "Image Type": TEXT, "Image Source": TEXT,
    "License": TEXT,
}  # fmt: skip
CVQA = [
    {
        "image": picture(n), "ID": f"q{n}", "Subset": subset, "Question": "何の料理？",
        "Translated Question": "Which dish?", "Options": ["そば", "うどん", "寿司", "鍋"],
        "Translated Options": ["Soba", "Udon", "Sushi", "Hotpot"], "Label": 2, "Category": "c", "Image Type": "t",
        "Image Source": "s", "License": "CC0",
    }
    for n, subset in enumerate(("('Malay', 'Malaysia')", "('Japanese', 'Japan')", "('Japanese', 'Japan')"))
]  # fmt: skip
STAIR_FEATURES = {
    "image_id": NUMBER, "image": PICTURE, "file_name": TEXT, "coco_url": TEXT, "height": Value("int32"),
    "width": Value("int32"), "date_captured": TEXT, "flickr_url": TEXT, "license_id": Value("int32"),
    "license": {"url": TEXT, "license_id": Value("int8"), "name": TEXT},
    "annotations": {"annotation_id": List(NUMBER), "image_id": List(NUMBER), "caption": List(TEXT)},
}  # fmt: skip


def stair(image_id: int) -> dict[str, Any]:
    captions = [f"公園で犬が{n}匹走っている" for n in range(5)]
    return {
        "image_id": image_id, "image": picture(image_id), "file_name": "f", "coco_url": "c", "height": 6, "width": 8,
        "date_captured": "d", "flickr_url": "f", "license_id": 3, "license": {"url": "u", "license_id": 3, "name": "n"},
        "annotations": {"annotation_id": list(range(5)), "image_id": [image_id] * 5, "caption": captions},
    }  # fmt: skip


XM_FEATURES = {
    "image_id": TEXT, "image_locale": TEXT, "captions": List(TEXT), "captions_tokenized": List(TEXT),
    "captions_tokenized_lowercase": List(TEXT), "image": {"bytes": Value("binary"), "path": Value("null")},
}  # fmt: skip


def xm(captions: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "image_id": f"{n:016x}", "image_locale": "ja", "captions": captions, "captions_tokenized": captions,
            "captions_tokenized_lowercase": captions, "image": picture(n),
        }
        for n in range(2)
    ]  # fmt: skip


ONE = "00000-of-00001.parquet"
MINIATURES: dict[str, list[Table]] = {
    "ja-vg-vqa-500": [
        Table(f"data/train-{ONE}", "train", VG_FEATURES, vg(200)),
        Table(f"data/test-{ONE}", "test", VG_FEATURES, vg(100)),
    ],
    "ja-vlm-bench-in-the-wild": [Table(f"data/test-{ONE}", "test", WILD_FEATURES, WILD)],
    "ja-multi-image-vqa": [Table(f"data/test-{ONE}", "test", SEVERAL_FEATURES, SEVERAL)],
    "japanese-heron-bench": [Table(f"data/train-{ONE}", "train", HERON_FEATURES, HERON)],
    "jmmmu": [Table(f"{name}/test-{ONE}", "test", JMMMU_FEATURES, exam(name), name) for name in SUBJECTS],
    "jdocqa": [Table(f"data/test-{ONE}", "test", JDOCQA_FEATURES, JDOCQA)],
    "mecha-ja": [Table(f"data/test-{ONE}", "test", MECHA_FEATURES, MECHA)],
    "cvqa-ja": [Table(f"data/test-{ONE}", "test", CVQA_FEATURES, CVQA)],
    "stair-captions": [
        Table(f"v1.2.0/train-{ONE}", "train", STAIR_FEATURES, [stair(1)]),
        Table(f"v1.2.0/validation-{ONE}", "validation", STAIR_FEATURES, [stair(2), stair(3)]),
        Table(f"v1.2.0-tokenized/validation-{ONE}", "validation", STAIR_FEATURES, [stair(9)]),
    ],
    "crossmodal-3600-ja": [
        Table(f"data/ja-{ONE}", "ja", XM_FEATURES, xm(["桜の木", "満開の桜"])),
        Table(f"data/en-{ONE}", "en", XM_FEATURES, xm(["A cherry tree", "Cherry blossoms"])),
        Table(f"data/fr-{ONE}", "fr", XM_FEATURES, xm(["Un cerisier"])),
    ],
}
