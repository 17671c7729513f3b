"""likeness.py: a picture saved otherwise is found, others are not; no bundled search picture is held out."""

import io
from typing import Any

import pytest
from PIL import Image

from vlmmerge.evalsets import Sample, find_evalsets, load
from vlmmerge.evalsets.likeness import MOST_BITS, _distances, hash_picture, like_pictures

PHOTOGRAPHS = [Image.open(io.BytesIO(each.images[0])).convert("RGB") for each in load("ja-photos", "search", 4)]


def saved(image: Image.Image, form: str = "png", **settings: Any) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, form, **settings)
    return encoded.getvalue()


def sample(name: str, *images: bytes) -> Sample:
    return Sample(name, images, "何？", ("犬",))


@pytest.mark.parametrize(
    "change",
    [
        lambda image: saved(image, "jpeg", quality=30),
        lambda image: saved(image, "webp", quality=50),
        lambda image: saved(image.reduce(3), "jpeg"),
        lambda image: saved(image.resize((image.width * 2, image.height * 2)), "jpeg"),
        lambda image: saved(Image.eval(image, lambda value: min(255, round(value * 1.1)))),
    ],
    ids=["low quality", "another format", "smaller", "larger", "brighter"],
)
def test_a_picture_saved_otherwise_is_like_itself(change: Any) -> None:
    for photograph in PHOTOGRAPHS:
        one, other = sample("a", saved(photograph)), sample("b", change(photograph))
        assert [pair[:2] for pair in like_pictures([one], [other])] == [("a", "b")]


def test_other_pictures_are_not_alike() -> None:
    some = [sample(str(number), saved(photograph)) for number, photograph in enumerate(PHOTOGRAPHS)]
    assert like_pictures(some[:2], some[2:]) == [] == like_pictures([], some)
    assert like_pictures(some[:1], some) == [("0", "0", 0)]


def test_any_of_a_samples_pictures_counts_and_each_is_told_once() -> None:
    shared, other = saved(PHOTOGRAPHS[0]), saved(PHOTOGRAPHS[1])
    found = like_pictures([sample("a", other, shared), sample("b", shared)], [sample("c", shared)])
    assert found == [("a", "c", 0)]


def test_a_picture_of_one_colour_has_a_hash() -> None:
    assert hash_picture(saved(Image.new("RGB", (8, 6), "red"))).shape == (255,)


def test_no_bundled_search_picture_is_held_out_nor_one_like_it() -> None:
    hashes: dict[str, list[Any]] = {"search": [], "held_out": []}
    for name, evalset in find_evalsets().items():
        files = {split.file: key for key, split in evalset.splits.items() if split.file}
        for file, key in files.items():
            pictures = dict.fromkeys(image for each in load(name, key) for image in each.images)
            hashes[file.removesuffix(".parquet")] += [hash_picture(image) for image in pictures]
    assert set(hashes) == {"search", "held_out"}
    nearest = _distances(hashes["search"], hashes["held_out"]).min()
    assert nearest > MOST_BITS, f"two pictures differ in {nearest} bits"
    assert len(hashes["search"]) * len(hashes["held_out"]) > 100_000
