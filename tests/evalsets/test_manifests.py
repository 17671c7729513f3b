"""evalsets/*/manifest.json: each hub set loads, by the real libraries, from tables like its own on a local hub."""

import io
import json

import pytest
from PIL import Image

from tests.checkpoint.fakehub import FakeHub
from tests.evalsets.miniatures import SUBJECTS
from vlmmerge.evalsets import find_evalsets, load
from vlmmerge.score import METRICS

HUB_SETS = [name for name, evalset in find_evalsets().items() if evalset.hub]


@pytest.mark.parametrize("name", HUB_SETS)
def test_every_split_of_a_hub_set_gives_whole_samples(name: str, hub_sets: FakeHub) -> None:
    for key, split in find_evalsets()[name].splits.items():
        samples = load(name, f"{key}/{split.configs[0]}" if split.configs else key)
        assert samples and len({sample.id for sample in samples}) == len(samples)
        for sample in samples:
            assert sample.question.strip() and "<image" not in sample.question
            assert sample.references and all(text.strip() for text in sample.references)
            assert sample.images
            for image in sample.images:
                Image.open(io.BytesIO(image)).load()


@pytest.mark.parametrize("name", HUB_SETS)
def test_a_manifest_tells_source_licence_and_what_it_asks(name: str) -> None:
    evalset = find_evalsets()[name]
    assert evalset.source.startswith("https://") and evalset.licence and len(evalset.about) > 20
    assert evalset.name == name and (evalset.revision is None or len(evalset.revision) == 40)
    for split in evalset.splits.values():
        assert split.metrics and set(split.metrics) <= set(METRICS) and split.language in ("ja", "en")
        assert split.template.format(question="Q", options="O").startswith("Q")


def test_a_choice_is_asked_with_its_options_and_answered_by_letter_or_words(hub_sets: FakeHub) -> None:
    (first, second) = load("mecha-ja", "held_out")
    assert first.question == (
        "この祭りは？\nA. 祇園祭\nB. ねぶた祭\nC. 天神祭\nD. 阿波踊り\n選択肢の記号で答えてください。"
    )
    assert first.options == ("祇園祭", "ねぶた祭", "天神祭", "阿波踊り")
    assert (first.references, second.references) == (("A", "祇園祭"), ("B", "ねぶた祭"))


def test_only_the_japanese_part_of_cvqa_is_asked_in_either_language(hub_sets: FakeHub) -> None:
    japanese, english = load("cvqa-ja", "held_out"), load("cvqa-ja", "held_out_english")
    assert [sample.id for sample in japanese] == ["q1", "q2"] == [sample.id for sample in english]
    assert (japanese[0].references, english[0].references) == (("C", "寿司"), ("C", "Sushi"))
    assert english[0].question.endswith("Answer with the letter of an option.")


def test_jmmmu_is_asked_whole_or_by_subject_with_marks_of_pictures_as_words(hub_sets: FakeHub) -> None:
    splits = find_evalsets()["jmmmu"].splits
    assert list(splits["held_out"].configs) == SUBJECTS == list(splits["held_out_open"].configs)
    assert sorted(splits["held_out_culture"].configs + splits["held_out_translated"].configs) == SUBJECTS
    culture = load("jmmmu", "held_out_culture")
    assert [sample.id for sample in culture] == [
        f"validation_{subject}_1" for subject in splits["held_out_culture"].configs
    ]
    (music,) = load("jmmmu", "held_out/Music")
    assert music.id == "validation_Music_1" and len(music.images) == 2
    assert music.question.startswith("画像1と画像2を比べると？\nA. 甲\nB. 乙's\nC. 画像2\n")
    assert music.references == ("B", "乙's")
    (free,) = load("jmmmu", "held_out_open/Math")
    assert (free.references, free.options) == (("7", "7.0"), ())
    assert free.question == "画像1の値は？\n単語か短い句で答えてください。"


def test_several_pictures_stand_in_one_sample(hub_sets: FakeHub) -> None:
    (sample,) = load("ja-multi-image-vqa", "held_out")
    assert len(set(sample.images)) == 2 and sample.question == "二枚に共通するものは？"
    assert [len(sample.images) for sample in load("jdocqa", "held_out")] == [1, 2, 2, 2]


def test_rows_are_chosen_by_a_columns_value(hub_sets: FakeHub) -> None:
    assert [sample.references for sample in load("jdocqa", "held_out_short")] == [("はい",), ("令和元年",), ("12",)]
    assert [sample.id for sample in load("jdocqa", "held_out_sentences")] == ["3"]
    assert [sample.question for sample in load("japanese-heron-bench", "held_out_detail")] == ["detailについて？"]


def test_heron_bench_gives_the_judge_the_context_and_one_models_answer(hub_sets: FakeHub) -> None:
    sample = load("japanese-heron-bench", "held_out")[0]
    assert (sample.context, sample.references) == ("浮世絵の波。", ("gpt-4-0125-previewの答え",))


def test_captions_of_a_struct_and_of_a_list_are_all_references(hub_sets: FakeHub) -> None:
    assert [sample.id for sample in load("stair-captions", "held_out")] == ["2", "3"]
    assert len(load("stair-captions", "held_out")[0].references) == 5
    (first, _) = load("crossmodal-3600-ja", "held_out")
    assert first.references == ("桜の木", "満開の桜") and first.question == "画像を説明してください。"


def test_of_a_large_set_only_the_splits_files_are_fetched(hub_sets: FakeHub) -> None:
    load("crossmodal-3600-ja", "held_out")
    served = [path for _, path, size in hub_sets.served if path.startswith("/datasets/floschne/xm3600") and size]
    assert served and not any("/fr-" in path for path in served)


def test_every_manifest_is_plain_json_in_the_same_form() -> None:
    for evalset in find_evalsets().values():
        text = (evalset.folder / "manifest.json").read_text(encoding="utf-8")
        assert text == json.dumps(json.loads(text), ensure_ascii=False, indent=2) + "\n"
