"""licence.py: what a card states, and which of several licences restricts the most."""

from pathlib import Path

import pytest

from vlmmerge.export.licence import NOT_STATED, STRICTNESS, Licence, read_licence, strictest, warnings


def folder_with_card(folder: Path, text: str) -> Path:
    (folder / "README.md").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("card", "wanted"),
    [
        ("---\nlicense: apache-2.0\n---\n# A model", Licence("apache-2.0")),
        ("---\r\nlicense: MIT\r\n---\r\n", Licence("mit")),
        ("---\nlicense: [cc-by-4.0, mit]\n---\n", Licence("cc-by-4.0")),
        (
            "---\nlicense: other\nlicense_name: qwen-research\nlicense_link: LICENSE\n---\n",
            Licence("qwen-research", "LICENSE"),
        ),
        ("---\nlicense: other\n---\n", Licence("other")),
    ],
)
def test_the_cards_front_matter_is_read(tmp_path: Path, card: str, wanted: Licence) -> None:
    assert read_licence(folder_with_card(tmp_path, card)) == wanted


@pytest.mark.parametrize(
    "card",
    [
        "",
        "# A model\nlicense: mit\n",
        "---\nlibrary_name: transformers\n---\n",
        "---\nlicense: [\n---\n",
        "---\n- license\n---\n",
        "---\nlicense: mit\n",
        "---\nlicense:\n---\n",
        "---\n" + "[" * 100_000 + "\n---\n",
    ],
)
def test_a_card_that_states_none_is_told_as_such(tmp_path: Path, card: str) -> None:
    assert read_licence(folder_with_card(tmp_path, card)) == NOT_STATED


def test_without_a_card_no_licence_is_stated(tmp_path: Path) -> None:
    assert read_licence(tmp_path) == NOT_STATED


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("apache-2.0", "free"),
        ("cc0-1.0", "free"),
        ("cc-by-4.0", "free"),
        ("bsd-3-clause", "free"),
        ("cc-by-sa-4.0", "share alike"),
        ("agpl-3.0", "share alike"),
        ("llama3.1", "terms of use"),
        ("gemma", "terms of use"),
        ("openrail", "terms of use"),
        ("other", "terms of use"),
        ("unknown", "not stated"),
        ("not stated", "not stated"),
        ("cc-by-nc-4.0", "non-commercial"),
        ("cc-by-nc-sa-4.0", "non-commercial"),
        ("qwen-research", "non-commercial"),
        ("apple-non-commercial", "non-commercial"),
        ("cc-by-nd-4.0", "no derivatives"),
        ("cc-by-nc-nd-4.0", "no derivatives"),
    ],
)
def test_each_licence_is_of_its_kind(name: str, kind: str) -> None:
    assert Licence(name).kind == kind and kind in STRICTNESS


def test_the_strictest_counts_whatever_the_order() -> None:
    names = ["apache-2.0", "cc-by-sa-4.0", "gemma", "not stated", "cc-by-nc-4.0", "cc-by-nd-4.0"]
    for last in range(1, len(names) + 1):
        licences = {name: Licence(name) for name in names[:last]}
        assert strictest(licences).name == names[last - 1]
        assert strictest(dict(reversed(licences.items()))).name == names[last - 1]


def test_only_what_forbids_is_said_loudly() -> None:
    licences = {"vlm": Licence("cc-by-nc-4.0"), "base": Licence("mit"), "ja": Licence("cc-by-nd-4.0"), "x": NOT_STATED}
    assert warnings(licences) == [
        "`vlm` forbids commercial use: its licence is cc-by-nc-4.0",
        "`ja` forbids derivatives, and a merge is one: its licence is cc-by-nd-4.0",
    ]
