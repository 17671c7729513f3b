"""Asking an endpoint: what is tried again, what is an error at once, and what no message ever holds."""

import socket
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.score.judge.fakejudge import FakeJudge, Reply, completion, serving, silence
from vlmmerge.errors import ScoreError
from vlmmerge.score import Judge
from vlmmerge.score.judge.asking import ask_all
from vlmmerge.score.judge.endpoint import wait_seconds

KEY = "sk-very-secret-123"
BUSY = Reply(429, {"error": {"message": "slow down", "type": "requests"}})
MARKED = Reply(body=completion('{"mark": 3}'))


@pytest.fixture
def server():
    with serving() as judge:
        yield judge


@pytest.fixture
def judge_of(tmp_path, monkeypatch):
    """Settings for a server, which waits for nothing; the key is set."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def make(server: FakeJudge, **settings):
        return Judge(server.url, "tiny", **{"first_wait": 0.001, "cache": tmp_path / "cache", **settings})

    return make


def ask(judge, text="何点？"):
    return ask_all(judge, [text], "asking")[0]


def test_a_request_is_a_chat_completion_of_temperature_0_with_the_key_in_its_header(server, judge_of):
    server.replies = [MARKED]
    assert ask(judge_of(server)) == '{"mark": 3}'
    (request,) = server.asked
    assert request.path == "/v1/chat/completions"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.body == {"model": "tiny", "temperature": 0, "messages": [{"role": "user", "content": "何点？"}]}


def test_without_a_key_there_is_no_header(server, judge_of, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    server.replies = [MARKED]
    ask(judge_of(server))
    assert "Authorization" not in server.asked[0].headers


def test_the_key_may_stand_in_another_variable(server, judge_of, monkeypatch):
    monkeypatch.setenv("MY_KEY", "other\n")
    server.replies = [MARKED]
    ask(judge_of(server, api_key_variable="MY_KEY"))
    assert server.asked[0].headers["Authorization"] == "Bearer other"


@pytest.mark.parametrize(
    "trouble",
    [
        BUSY,
        Reply(429, "", {"Retry-After": "0"}),
        Reply(429, "", {"Retry-After": "soon"}),
        Reply(500, "oh"),
        Reply(503, "<html>"),
        Reply(200, '{"choices": [{"mess'),
        Reply(200, {"error": {"message": "overloaded"}}),
        Reply(200, {"choices": []}),
        Reply(200, "null"),
        Reply(200, None),
    ],
)
def test_what_may_pass_is_tried_again(server, judge_of, trouble):
    server.replies = [trouble, trouble, MARKED]
    assert ask(judge_of(server)) == '{"mark": 3}'
    assert len(server.asked) == 3


def test_silence_is_tried_again(server, judge_of):
    server.mark = silence()
    with pytest.raises(ScoreError) as caught:
        ask(judge_of(server, patience=0.05, max_retries=2))
    assert len(server.asked) == 3
    assert str(caught.value) == (
        f"the judge at {judge_of(server).host} gave no answer in 3 tries, last: silence for 0.05 s\n"
        "hint: run it again later: judgements that were given are kept"
    )


def test_after_the_last_try_the_servers_words_are_told(server, judge_of):
    server.replies = [BUSY] * 9
    with pytest.raises(ScoreError) as caught:
        ask(judge_of(server, max_retries=1))
    assert len(server.asked) == 2
    assert str(caught.value) == (
        f"the judge at {judge_of(server).host} gave no answer in 2 tries, last: HTTP 429\n"
        '  {"error": {"message": "slow down", "type": "requests"}}\n'
        "hint: run it again later: judgements that were given are kept"
    )


def test_a_server_that_wants_to_be_left_alone_for_an_hour_is_left_alone(server, judge_of):
    server.replies = [Reply(429, "quota", {"Retry-After": "3600"})]
    with pytest.raises(ScoreError, match="asks to come back in 3,600 s: HTTP 429\n  quota"):
        ask(judge_of(server))
    assert len(server.asked) == 1


def test_a_wait_is_as_long_as_the_server_asks_in_seconds_or_by_a_date():
    soon = datetime.now(UTC) + timedelta(seconds=100)
    assert wait_seconds(0, format_datetime(soon, usegmt=True), 1.0) == pytest.approx(99, abs=2)
    assert wait_seconds(0, format_datetime(soon.replace(tzinfo=None)), 1.0) == pytest.approx(99, abs=2)
    assert [wait_seconds(1, header, 1.0) for header in ("7", "-3", "nan", "inf", "x", "")] == [7, 2, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (401, "set OPENAI_API_KEY to a key for {host}; it is not accepted"),
        (403, "the key in OPENAI_API_KEY may not use this model"),
        (404, "check the url, which mostly ends with /v1, and the model's name, tiny"),
        (400, "check the judge's url and model"),
        (302, "check the judge's url and model"),
    ],
)
def test_a_refused_request_is_an_error_at_once(server, judge_of, status, hint):
    server.replies = [Reply(status, {"error": {"message": "no\nway"}}, {"Location": server.url})]
    judge = judge_of(server)
    with pytest.raises(ScoreError) as caught:
        ask(judge)
    assert len(server.asked) == 1
    assert str(caught.value) == (
        f"the judge at {judge.host} does not take the request: HTTP {status}\n"
        f'  {{"error": {{"message": "no\\nway"}}}}\nhint: {hint.format(host=judge.host)}'
    )


def test_a_missing_key_is_told_where_one_is_wanted(server, judge_of, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    server.replies = [Reply(401, "who are you?")]
    with pytest.raises(ScoreError, match=r"hint: set OPENAI_API_KEY to a key for .*; it is not set"):
        ask(judge_of(server))


def test_a_key_goes_to_no_other_host(server, judge_of):
    """urllib follows redirections by itself and takes the headers along."""
    with serving() as other:
        server.replies = [Reply(302, "", {"Location": f"{other.url}/chat/completions"})]
        with pytest.raises(ScoreError, match="does not take the request: HTTP 302"):
            ask(judge_of(server))
    assert other.asked == []


def test_a_connection_refused_is_an_error_at_once(judge_of):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        judge = judge_of(FakeJudge(url=f"http://127.0.0.1:{free.getsockname()[1]}/v1"))
    with pytest.raises(ScoreError) as caught:
        ask(judge)
    assert str(caught.value) == (
        f"the judge at {judge.host} cannot be reached\n  [Errno 111] Connection refused\n"
        f"hint: check the url, {judge.url}, and that the server runs"
    )


@pytest.mark.parametrize(
    "refusal",
    [Reply(body=completion(None)), Reply(400, {"error": {"message": "long " * 99, "code": "content_filter"}})],
)
def test_a_refusal_to_judge_is_an_empty_reply(server, judge_of, refusal):
    server.replies = [refusal]
    assert ask(judge_of(server)) == ""


def test_the_key_is_in_no_message_and_no_file(server, judge_of, tmp_path):
    judge = judge_of(server)
    server.replies = [Reply(401, {"error": {"message": f"Incorrect API key: {KEY}"}})]
    with pytest.raises(ScoreError, match=r"Incorrect API key: \(key\)"):
        ask(judge)
    server.replies = [MARKED]
    ask(judge)
    kept = [file.read_text() for file in tmp_path.rglob("*.json")]
    assert kept and not any(KEY in text for text in kept)
    assert KEY not in repr(judge)


@pytest.mark.parametrize("key", ["two\nlines", "キー", "a b"])
def test_what_cannot_be_a_key_is_an_error_that_does_not_show_it(server, judge_of, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ScoreError) as caught:
        ask(judge_of(server))
    assert str(caught.value) == (
        "what OPENAI_API_KEY holds cannot be a key: not all is plain ASCII\nhint: set it again, to the key alone"
    )


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://host/v1", "file:///etc/passwd", "http://", "http://h/v1?x=1", "http://h:no/v1", ""]
)
def test_a_url_that_is_no_endpoint_is_an_error(url):
    with pytest.raises(ScoreError) as caught:
        Judge(url, "tiny")
    assert str(caught.value) == (
        f"the judge's url is no endpoint: {url}\nhint: such as https://api.openai.com/v1 or http://localhost:8000/v1"
    )


def test_a_url_with_a_login_is_an_error_that_does_not_show_it():
    with pytest.raises(ScoreError) as caught:
        Judge("https://me:secret@host/v1", "tiny")
    assert str(caught.value) == (
        "the judge's url holds a login, which would be written down\n"
        "hint: put the key into the environment variable OPENAI_API_KEY"
    )


@pytest.mark.parametrize("settings", [{"model": ""}, {"concurrency": 0}, {"max_retries": -1}, {"patience": 0}])
def test_settings_without_sense_are_an_error(settings):
    with pytest.raises(ScoreError, match="the judge needs a model's name, a concurrency of at least 1, no fewer than"):
        Judge("http://localhost/v1", **{"model": "tiny", **settings})


def test_as_many_requests_as_allowed_are_under_way_and_no_more(server, judge_of):
    together = threading.Barrier(3, timeout=10)  # breaks, and with it the connection, unless three come at once

    def mark(request):
        together.wait()
        return request.text

    server.mark = mark
    texts = [f"質問{number}" for number in range(9)]
    assert ask_all(judge_of(server, concurrency=3), texts, "asking") == texts
    assert server.most_at_once == 3


def test_of_requests_that_are_alike_one_is_sent(server, judge_of):
    server.mark = lambda request: request.text
    assert ask_all(judge_of(server), ["あ", "い", "あ", "あ"], "asking") == ["あ", "い", "あ", "あ"]
    assert len(server.asked) == 2


def test_after_an_error_nothing_more_is_sent(server, judge_of):
    """The one that waits for its next try is not tried again, and those in the queue not at all."""
    server.replies = [Reply(500, "oh"), Reply(401, "no")]
    with pytest.raises(ScoreError, match="HTTP 401"):
        ask_all(judge_of(server, concurrency=2, first_wait=3.0), [f"{number}" for number in range(9)], "asking")
    assert len(server.asked) == 2


def test_a_reply_that_is_kept_is_not_asked_for_again(server, judge_of):
    server.replies = [MARKED]
    judge = judge_of(server)
    assert ask(judge) == ask(judge) == '{"mark": 3}'
    assert len(server.asked) == 1


def test_another_model_or_endpoint_or_text_is_asked_anew_and_another_key_is_not(server, judge_of, monkeypatch):
    server.mark = lambda request: "1"
    judge = judge_of(server)
    ask(judge)
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    ask(judge)
    assert len(server.asked) == 1
    ask(judge, "何点でしょう？")
    ask(Judge(server.url, "larger", cache=judge.cache))
    ask(Judge(server.url + "/beta", "tiny", cache=judge.cache))
    assert len(server.asked) == 4


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"reply": "5"}', '{"request_sha256": "0", "reply": "5"}', "\0\xff"])
def test_a_damaged_file_of_the_cache_is_asked_again_and_mended(server, judge_of, damage):
    server.mark = lambda request: '{"mark": 2}'
    judge = judge_of(server)
    ask(judge)
    (file,) = judge.cache.rglob("*.json")
    whole = file.read_text()
    file.write_bytes(damage.encode("latin1"))
    assert ask(judge) == '{"mark": 2}'
    assert len(server.asked) == 2
    assert file.read_text() == whole
    assert [path for path in judge.cache.rglob("*") if path.is_file()] == [file]


def test_what_was_answered_before_an_error_is_kept(server, judge_of):
    server.replies = [MARKED, Reply(401, "no")]
    judge = judge_of(server, concurrency=1)
    with pytest.raises(ScoreError):
        ask_all(judge, ["一", "二"], "asking")
    server.replies = [MARKED]
    assert ask_all(judge, ["一", "二"], "asking") == ['{"mark": 3}'] * 2
    assert [request.text for request in server.asked] == ["一", "二", "二"]


def test_a_cache_that_cannot_be_written_is_an_error(server, judge_of, tmp_path):
    (tmp_path / "file").write_text("")
    server.replies = [MARKED]
    with pytest.raises(ScoreError) as caught:
        ask(judge_of(server, cache=tmp_path / "file"))
    assert str(caught.value) == (
        f"cannot keep a judgement in {tmp_path / 'file'}: Not a directory\n"
        "hint: make room, or let XDG_CACHE_HOME name another folder"
    )


def test_replies_are_kept_in_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Judge("http://localhost/v1", "tiny").cache_folder == tmp_path / "vlmmerge" / "judge"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert str(Judge("http://localhost/v1", "tiny").cache_folder) == "/home/me/.cache/vlmmerge/judge"
