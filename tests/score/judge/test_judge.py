"""The metrics of a judge, asked over real HTTP: what it sees, what counts, and what is told."""

import io

import pytest
from PIL import Image

from tests.score.judge.fakejudge import FakeJudge, Reply, serving
from vlmmerge.errors import ScoreError
from vlmmerge.score import Judge, Targets, paired_difference, prepare

REFERENCES = (("白い犬", "犬"), ("赤いバス",), ("三人",))
QUESTIONS = ("何がいますか？", "何が走っていますか？", "何人いますか？")
CONTEXTS = ("白い犬が庭にいる写真です。", "道路を赤いバスが走る写真です。", "三人の子供の写真です。")
ANSWERS = ["犬", "青い車", "三人です"]


@pytest.fixture
def server():
    with serving() as judge:
        yield judge


@pytest.fixture
def scored(server, tmp_path):
    """Scores answers; the judge's replies are kept for the test."""

    def score(name, answers=ANSWERS, **options):
        settings = {key: options.pop(key) for key in ("model", "sends_images", "url") if key in options}
        judge = Judge(**{"url": server.url, "model": "tiny", "first_wait": 0.001, "cache": tmp_path, **settings})
        targets = Targets(REFERENCES, QUESTIONS, judge=judge, **options)
        return prepare([name], targets).score(answers)[name]

    return score


def marks(server: FakeJudge, *replies: str) -> None:
    """Let the judge reply by the order of the answers that it is shown, however the requests arrive."""
    by_answer = dict(zip(ANSWERS, replies, strict=True))

    def mark(request):
        return by_answer[request.material.get("answer", request.material.get("answer_2"))]

    server.mark = mark


def test_the_score_is_the_mean_mark(server, scored):
    marks(server, '{"mark": 5}', '{"mark": 1}', '{"mark": 4}')
    score = scored("judge")
    assert score.per_sample == (5, 1, 4)
    assert score.value == pytest.approx(10 / 3)
    assert score.notes == ()


def test_the_judge_sees_question_references_and_answer(server, scored):
    scored("judge", contexts=CONTEXTS)
    assert sorted(
        (request.material for request in server.asked), key=lambda each: QUESTIONS.index(each["question"])
    ) == [
        {"question": question, "references": list(references), "answer": answer}
        for question, references, answer in zip(QUESTIONS, REFERENCES, ANSWERS, strict=True)
    ]


def test_herons_score_is_the_ratio_of_the_sums_of_marks(server, scored):
    marks(server, '{"answer_1": 10, "answer_2": 8}', '{"answer_1": 5, "answer_2": 1}', "8 8")
    score = scored("judge_heron")
    assert score.value == pytest.approx(100 * 17 / 23)
    assert score.per_sample == pytest.approx((80, 20, 100))
    assert score.low <= score.value <= score.high


def test_herons_judge_sees_the_context_and_the_first_reference_before_the_answer(server, scored):
    scored("judge_heron", contexts=CONTEXTS)
    first = next(request for request in server.asked if request.material["question"] == QUESTIONS[0])
    assert list(first.material.items()) == [
        ("context", CONTEXTS[0]), ("question", QUESTIONS[0]), ("answer_1", "白い犬"), ("answer_2", "犬")
    ]  # fmt: skip


def test_an_answer_may_be_better_than_the_reference(server, scored):
    marks(server, "5 10", "5 10", "5 10")
    assert scored("judge_heron").value == 200


@pytest.mark.parametrize("unread", ["４点くらい", "", '{"mark": 7}', None])
def test_a_judgement_that_cannot_be_read_is_left_out_and_told(server, scored, unread):
    marks(server, '{"mark": 5}', unread, '{"mark": 4}')
    score = scored("judge")
    assert score.value == 4.5
    assert score.per_sample == (5, None, 4)
    assert score.notes == ("1 of 3 judgements could not be read, and are left out",)
    assert 4 <= score.low <= score.high <= 5


def test_a_pair_that_cannot_be_read_leaves_the_references_mark_out_too(server, scored):
    marks(server, "8 4", "8", "10 10")
    score = scored("judge_heron")
    assert score.value == pytest.approx(100 * 14 / 18)
    assert score.per_sample == pytest.approx((50, None, 100))
    assert score.notes == ("1 of 3 judgements could not be read, and are left out",)


@pytest.mark.parametrize(("name", "wanted"), [("judge", '"mark": 3'), ("judge_heron", '"answer_1": 3, "answer_2": 3')])
def test_if_no_judgement_can_be_read_there_is_no_score(server, scored, name, wanted):
    server.mark = lambda request: "答えたくありません。"
    with pytest.raises(ScoreError) as caught:
        scored(name)
    assert str(caught.value) == (
        "none of 3 judgements of tiny could be read\n  '答えたくありません。'\n"
        f"hint: take a model that follows instructions; wanted were marks such as {wanted}"
    )


def test_an_empty_answer_is_not_sent_and_counts_as_0(server, scored):
    score = scored("judge", ["犬", " ", ""])
    assert score.per_sample == (5, 0, 0)
    assert score.notes == ()
    assert len(server.asked) == 1
    assert scored("judge", ["", "", ""]).value == 0
    assert len(server.asked) == 1


def test_beside_an_empty_answer_the_reference_keeps_its_mark(server, scored):
    score = scored("judge_heron", ["白い犬", "", ""])
    assert score.per_sample == (100, 0, 0)
    assert score.value == pytest.approx(100 / 3)


def test_an_endpoint_that_fails_is_an_error_and_no_score(server, scored):
    server.replies = [Reply(401, "no")] * 3
    with pytest.raises(ScoreError, match="does not take the request: HTTP 401"):
        scored("judge")
    server.replies = [Reply(500, "oh")] * 99
    with pytest.raises(ScoreError, match="gave no answer in 7 tries, last: HTTP 500"):
        scored("judge")


def test_answers_that_were_judged_are_not_sent_again(server, scored):
    first = scored("judge")
    assert scored("judge") == first
    assert len(server.asked) == 3
    scored("judge", ["犬", "緑の車", "三人です"])
    assert len(server.asked) == 4


def test_pictures_go_along_where_the_judge_is_to_see_them(server, scored):
    bitmap = io.BytesIO()
    Image.new("RGB", (2, 2), "red").save(bitmap, "bmp")
    images = ((b"\xff\xd8\xff\xe0jpeg", b"\x89PNG..."), (bitmap.getvalue(),), (b"GIF89a",))
    scored("judge", images=images)
    assert all(isinstance(request.body["messages"][0]["content"], str) for request in server.asked)
    server.asked.clear()
    scored("judge", images=images, sends_images=True)
    sent = {request.material["answer"]: request.body["messages"][0]["content"][1:] for request in server.asked}
    kinds = {answer: [part["image_url"]["url"].split(";")[0] for part in parts] for answer, parts in sent.items()}
    assert kinds == {
        "犬": ["data:image/jpeg", "data:image/png"],
        "青い車": ["data:image/png"],
        "三人です": ["data:image/gif"],
    }
    assert sent["犬"][0] == {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/4GpwZWc="}}


def test_the_signature_tells_protocol_model_host_and_what_is_seen(server, scored):
    host = server.url.split("/")[2]
    name, size, refs, protocol, judge, sees, _ = scored("judge").signature.split("|")
    assert (name, size, refs, judge, sees) == ("judge", "n:3", "refs:1-2", f"judge:tiny@{host}", "sees:text")
    assert protocol.startswith("protocol:five-1-")
    assert "|protocol:heron-1-" in scored("judge_heron").signature


def test_the_key_does_not_move_the_signature(scored, monkeypatch):
    before = scored("judge").signature
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert scored("judge").signature == before


def test_marks_of_two_judges_cannot_be_compared(scored):
    with pytest.raises(ScoreError, match="scores with different signatures cannot be compared"):
        paired_difference(scored("judge"), scored("judge", model="larger"))


@pytest.mark.parametrize("name", ["judge", "judge_heron"])
def test_no_judge_is_an_error_that_tells_how_to_give_one(name):
    with pytest.raises(ScoreError) as caught:
        prepare([name], Targets(REFERENCES))
    assert str(caught.value) == (
        f"`{name}` needs a judge, and none is given\n"
        "hint: `--judge-url URL --judge-model NAME`, or `score.judge: {url, model}` in the recipe: any endpoint that "
        "speaks OpenAI's chat completions"
    )


def test_a_sample_without_a_reference_is_an_error(server):
    with pytest.raises(ScoreError, match="`judge` needs a reference for every sample: 1 of 2 have none"):
        prepare(["judge"], Targets((("犬",), ()), judge=Judge(server.url, "tiny")))
    assert server.asked == []


def test_pictures_that_are_to_be_seen_and_are_not_there_are_an_error(scored):
    with pytest.raises(ScoreError) as caught:
        scored("judge", sends_images=True)
    assert str(caught.value) == (
        "`judge`: the judge is to see the pictures, and there are none\nhint: set sends_images off"
    )


def test_a_fault_in_the_key_is_told_before_anything_is_answered(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "a b")
    with pytest.raises(ScoreError, match="what OPENAI_API_KEY holds cannot be a key"):
        prepare(["judge"], Targets(REFERENCES, judge=Judge(server.url, "tiny")))


def test_replies_in_any_order_stay_with_their_samples(scored, server):
    server.replies = [Reply(503, "")] * 2  # what comes first is asked again, and answered last
    marks(server, '{"mark": 3}', '{"mark": 4}', '{"mark": 5}')
    assert scored("judge").per_sample == (3, 4, 5)
