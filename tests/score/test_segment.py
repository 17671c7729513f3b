"""Segmenting: pinned dictionaries, and text that C libraries do not like."""

import sys
from importlib import metadata

import pytest

from vlmmerge.errors import ScoreError
from vlmmerge.score import segment
from vlmmerge.score.segment import MAX_CHARACTERS, SEGMENTERS, content_words, segmenter_name, words

every_segmenter = pytest.mark.parametrize("segmenter", SEGMENTERS)


@pytest.fixture(autouse=True)
def _needs_packages(request):
    if "segmenter" in request.fixturenames:
        for package in SEGMENTERS[request.getfixturevalue("segmenter")][1].split():
            pytest.importorskip(package.replace("-", "_"))


# SudachiPy 0.7.0 with core 20261015, fugashi 1.5.2 with unidic-lite 1.0.8 and ipadic 1.0.0
GOLDEN = {
    "unidic-lite": "選挙 管理 委員 会 の 国家 公務 員 が 走っ て い ます 。",
    "ipadic": "選挙 管理 委員 会 の 国家 公務員 が 走っ て い ます 。",
    "sudachi": "選挙管理委員会 の 国家公務員 が 走っ て い ます 。",
    "sudachi-a": "選挙 管理 委員 会 の 国家 公務 員 が 走っ て い ます 。",
    "sudachi-b": "選挙 管理 委員会 の 国家 公務員 が 走っ て い ます 。",
    "sudachi-c": "選挙管理委員会 の 国家公務員 が 走っ て い ます 。",
    "characters": " ".join("選挙管理委員会の国家公務員が走っています。"),
}


@every_segmenter
def test_the_segmenter_decides_the_words(segmenter):
    assert " ".join(words("選挙管理委員会の国家公務員が走っています。", segmenter)) == GOLDEN[segmenter]


@every_segmenter
def test_white_space_ends_a_word_and_is_dropped(segmenter):
    assert words("犬　猫\n鳥 \t", segmenter) == ("犬", "猫", "鳥")


@every_segmenter
@pytest.mark.parametrize("text", ["", " ", "\u3000\n", "\0"])
def test_text_without_words_has_no_words(segmenter, text):
    assert words(text, segmenter) == ()


@every_segmenter
def test_no_word_has_white_space_in_it(segmenter):
    assert not any(word.split() != [word] for word in words("Star Wars と NEW YORK　タイムズ", segmenter))


@every_segmenter
def test_no_character_is_lost_or_changed(segmenter):
    text = "ﾊﾞｽが３台😀、①番㍿と神。" * 3
    assert "".join(words(text, segmenter)) == text


@every_segmenter
def test_text_after_nul_is_not_lost(segmenter):
    assert words("犬\0猫", segmenter) == ("犬", "猫")


@every_segmenter
def test_a_lone_surrogate_does_not_raise(segmenter):
    assert "犬" in words("\ud800犬", segmenter)


@every_segmenter
@pytest.mark.parametrize("letter", ["a", "犬", "😀", "ー"])
def test_text_longer_than_a_tagger_takes_is_segmented_in_pieces(segmenter, letter):
    """Sudachi refuses 49150 bytes."""
    text = letter * (MAX_CHARACTERS + 4400)
    assert sum(map(len, words(text, segmenter))) == len(text)


def test_text_of_any_length_is_segmented_without_a_crash():
    """MeCab ended the process with a segmentation fault at 700 000 characters."""
    assert len(words("犬が走る" * 175_000)) == 3 * 175_000


@pytest.mark.parametrize(
    ("segmenter", "packages"),
    [
        ("unidic-lite", ["unidic-lite"]),
        ("ipadic", ["ipadic"]),
        ("sudachi-a", ["sudachipy", "sudachidict_core"]),
        ("characters", []),
    ],
)
def test_the_name_for_signatures_holds_every_version(segmenter, packages):
    name = segmenter_name(segmenter)
    assert name.startswith(segmenter)
    assert all(metadata.version(package) in name for package in packages)


def test_sudachi_alone_is_mode_c_and_says_so():
    pytest.importorskip("sudachidict_core")
    assert segmenter_name("sudachi") == segmenter_name("sudachi-c")


def test_punctuation_is_no_content_and_width_does_not_matter():
    assert content_words("「ﾈｺ」が…３匹！") == content_words("ネコが3匹") == ("ネコ", "が", "3", "匹")
    assert content_words("ﾈｺ…3！", "characters") == ("ネ", "コ", "3")


def test_an_unknown_segmenter_is_an_error():
    with pytest.raises(ScoreError) as caught:
        words("犬", "juman")
    assert str(caught.value) == (
        "unknown segmenter `juman`\n"
        "hint: known: unidic-lite, ipadic, sudachi, sudachi-a, sudachi-b, sudachi-c, characters"
    )


@pytest.mark.parametrize(
    ("segmenter", "module", "install"),
    [
        ("ipadic", "ipadic", "ipadic"),
        ("unidic-lite", "unidic_lite", "unidic-lite"),
        ("sudachi-b", "sudachipy", "sudachipy sudachidict_core"),
        ("sudachi", "sudachidict_core", "sudachipy sudachidict_core"),
    ],
)
def test_a_missing_package_says_what_to_install(monkeypatch, segmenter, module, install):
    monkeypatch.setitem(sys.modules, module, None)
    segment._load.cache_clear()
    with pytest.raises(ScoreError) as caught:
        segmenter_name(segmenter)
    assert str(caught.value) == f"the segmenter `{segmenter}` is not installed\nhint: pip install {install}"
