"""loading.py and limits.py: nothing of a stranger's runs, loops or fills the memory."""

import copy
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers.dynamic_module_utils
from PIL import Image

from vlmmerge.checkpoint import open_checkpoint
from vlmmerge.checkpoint.tokenizer import LONGEST_TOKEN, open_tokenizers
from vlmmerge.cli import _how_to_go_on, main, make_parser
from vlmmerge.errors import CheckpointError
from vlmmerge.evalsets import Sample
from vlmmerge.generate import LONGEST_CHAT, LiveVlm, check_template, limits, load_processor
from vlmmerge.generate.limits import try_out
from vlmmerge.recipe import Generate

LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}" + "{% endfor %}" * 3
CONFIGURATION = """
from pathlib import Path
from transformers import LlavaConfig
Path("RAN").touch()
class OwnConfig(LlavaConfig):
    model_type = "own_vlm"
"""
MODELING = """
from transformers import LlavaForConditionalGeneration
from .configuration_own import OwnConfig
class OwnModel(LlavaForConditionalGeneration):
    config_class = OwnConfig
"""


@pytest.fixture
def strange_vlm(parents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A VLM of a type that transformers does not know, with the code for it; that leaves a file `ran` when it runs."""
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = shutil.copytree(parents / "vlm", tmp_path / "strange")
    config = json.loads((folder / "config.json").read_text()) | {
        "model_type": "own_vlm",
        "auto_map": {
            "AutoConfig": "configuration_own.OwnConfig",
            "AutoModelForImageTextToText": "org/code--modeling_own.OwnModel",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "configuration_own.py").write_text(CONFIGURATION.replace("RAN", str(tmp_path / "ran")))
    (folder / "modeling_own.py").write_text(MODELING)
    return folder


def test_code_that_comes_with_a_model_does_not_run_and_is_named(strange_vlm: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        LiveVlm(strange_vlm, Generate())
    assert str(caught.value) == (
        f"{strange_vlm} wants code to be run that comes with it, for transformers has no class of its own for it\n"
        f"  class OwnConfig of configuration_own.py in {strange_vlm}\n"
        "  class OwnModel of modeling_own.py in hub repository org/code\n"
        "hint: read that code; if you trust it, add --trust-remote-code"
    )
    assert not (strange_vlm.parent / "ran").exists()


def test_code_that_is_trusted_runs(strange_vlm: Path) -> None:
    config = (strange_vlm / "config.json").read_text().replace("org/code--", "")
    (strange_vlm / "config.json").write_text(config)
    vlm = LiveVlm(strange_vlm, Generate(), trusts_code=True)
    assert type(vlm.model).__name__ == "OwnModel" and (strange_vlm.parent / "ran").exists()


def test_the_command_line_names_the_flag_and_keeps_it_for_a_resume(
    strange_vlm: Path, recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "it.png")
    assert main(["answer", str(strange_vlm), "--image", str(tmp_path / "it.png")]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "hint: read that code; if you trust it, add --trust-remote-code"
    )
    (tmp_path / "journal.jsonl").touch()
    words = ["evolve", str(recipe_file), "--run", str(tmp_path), "--set", "search.seed=3", "--trust-remote-code"]
    assert _how_to_go_on(make_parser().parse_args(words)) == f"; go on with: vlmmerge {' '.join(words)} --resume"


def test_code_is_not_run_where_transformers_has_a_class_even_if_it_is_trusted(strange_vlm: Path) -> None:
    config = json.loads((strange_vlm / "config.json").read_text()) | {"model_type": "llava"}
    (strange_vlm / "config.json").write_text(json.dumps(config))
    vlm = LiveVlm(strange_vlm, Generate(), trusts_code=True)
    assert type(vlm.model).__name__ == "LlavaForConditionalGeneration"
    assert not (strange_vlm.parent / "ran").exists()


def test_code_that_a_config_wants_goes_along_with_an_export(strange_vlm: Path, parents: Path) -> None:
    assert [file.name for file in open_checkpoint(strange_vlm).code_files()] == [
        "configuration_own.py",
        "modeling_own.py",
    ]
    assert open_checkpoint(parents / "vlm").code_files() == []


@pytest.mark.parametrize("config", [{"vision_config": {"model_type": 7}}, {"text_config": {"hidden_act": ["x"]}}])
def test_a_config_that_makes_transformers_stumble_is_told(
    parents: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    folder = shutil.copytree(parents / "vlm", tmp_path / "vlm")
    written = json.loads((folder / "config.json").read_text())
    for part, values in config.items():
        written[part] |= values
    (folder / "config.json").write_text(json.dumps(written))
    with pytest.raises(CheckpointError) as caught:
        LiveVlm(folder, Generate())
    assert caught.value.message == f"{folder}: transformers does not load it as an image-text-to-text model"


@pytest.fixture(scope="module")
def processor(parents: Path) -> Any:
    return load_processor(parents / "vlm")


def fault_of(processor: Any, template: str, *questions: str) -> CheckpointError:
    processor = copy.copy(processor)
    processor.chat_template = template
    samples = [Sample(question, (b"",), question, ()) for question in questions or ("何？",)]
    with pytest.raises(CheckpointError) as caught:
        check_template(processor, samples, Generate(), Path("model"))
    assert caught.value.message == "model: its chat template cannot be used"
    assert caught.value.hint.startswith("mend chat_template.jinja (or chat_template in ")
    return caught.value


@pytest.mark.parametrize("template", [LOOP, "{{ 7 ** (7 ** 9) }}", "{% set x = 7 ** (7 ** 9) %}"])
def test_a_chat_template_that_does_not_end_is_stopped(
    processor: Any, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CPU_SECONDS", 1)
    assert fault_of(processor, template).details == ("it does not end within 1 seconds of work",)


def test_a_chat_template_that_loops_for_one_question_only_is_stopped(
    processor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CPU_SECONDS", 1)
    template = "{% if 'two' in messages[0]['content'][1]['text'] %}" + LOOP + "{% endif %}"
    assert fault_of(processor, template, "one", "two", "three").details == ("it does not end within 1 seconds of work",)


@pytest.mark.parametrize(
    "template", ["{{ 'x' * 10**11 }}", "{% set x = ('x' * 10**10) | list %}", "{{ '%1000000000000d' % 1 }}"]
)
def test_a_chat_template_that_fills_the_memory_is_stopped(processor: Any, template: str) -> None:
    assert fault_of(processor, template).details == ("it takes more than 1 GiB of memory",)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ 'x' * 10**7 }}", "ValueError: it makes 10,000,000 characters of a question"),
        ("{% import 'os' as os %}", "TypeError: no loader for this environment specified"),
        ("{% include '/etc/passwd' %}", "TypeError: no loader for this environment specified"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError: access to attribute '__class__' of 'str' object is unsafe."),
        ("{{ messages.append(1) }}", "SecurityError: access to attribute 'append' of 'list' object is unsafe."),
        ("{{ cycler.__init__.__globals__.os.system('touch ran') }}", "SecurityError: access to attribute "),
        ("{% if %}", "TemplateSyntaxError: Expected an expression, got "),
        ("{{ raise_exception('no pictures, please') }}", "TemplateError: no pictures, please"),
    ],
)
def test_a_chat_template_that_fails_is_told(processor: Any, template: str, reason: str) -> None:
    (told,) = fault_of(processor, template).details
    assert told.startswith(reason)
    assert LONGEST_CHAT < 10**7 and not Path("ran").exists()


def test_preparing_checks_the_template_first(parents: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(parents / "vlm", tmp_path / "vlm")
    (folder / "chat_template.jinja").write_text("{{ 'x' * 10**11 }}")
    with pytest.raises(CheckpointError, match="its chat template cannot be used"):
        LiveVlm(folder, Generate()).prepare([Sample("it", (b"",), "何？", ())])


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (lambda: None, ""),
        (lambda: [][0], "IndexError: list index out of range"),
        (lambda: bytearray(2**31), "it takes more than 1 GiB of memory"),
        (lambda: os.kill(os.getpid(), 9), "it does not end within 10 seconds of work"),
        (lambda: exit(), "SystemExit: None"),
    ],
)
def test_whatever_is_tried_out_changes_nothing_here(task: Callable[[], object], reason: str) -> None:
    process = os.getpid()
    assert try_out(task) == reason and os.getpid() == process


def test_what_waits_for_ever_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WALL_SECONDS", 0.2)
    assert try_out(lambda: time.sleep(1000)).startswith("it does not end")


def test_a_tokenizer_with_a_token_of_a_million_characters_is_told(parents: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(parents / "vlm", tmp_path / "vlm")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["あ" * 10**6] = row = len(tokenizer["model"]["vocab"])
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    for open_it in (lambda: open_tokenizers({"vlm": folder}), lambda: load_processor(folder)):
        with pytest.raises(CheckpointError) as caught:
            open_it()
        assert str(caught.value) == (
            f"{folder}: token {row} of its tokenizer has 1,000,000 characters, wanted at most {LONGEST_TOKEN:,}\n"
            f"  it begins '{'あ' * 40}'\n"
            "hint: fetch the checkpoint again, or take the tokenizer of another release of it"
        )


def test_a_tokenizer_file_that_is_huge_or_nested_without_end_is_told(parents: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(parents / "vlm", tmp_path / "vlm")
    (folder / "tokenizer.json").write_text('{"model": ' + "[" * 10**6)
    for open_it in (lambda: open_tokenizers({"vlm": folder}), lambda: load_processor(folder)):
        with pytest.raises(CheckpointError):
            open_it()
    os.truncate(folder / "tokenizer.json", 2**26 + 1)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    assert caught.value.details == (f"tokenizer.json: {2**26 + 1} bytes, wanted at most {2**26}",)


def test_a_tokenizer_that_makes_its_library_panic_is_told(parents: Path, tmp_path: Path) -> None:
    """A panic of the library is no `Exception`, and ended in a traceback."""
    folder = shutil.copytree(parents / "vlm", tmp_path / "vlm")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["continuing_subword_prefix"] = "x" * 100
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(CheckpointError, match="its tokenizer cannot be opened"):
        open_tokenizers({"vlm": folder})
    with pytest.raises(CheckpointError, match="transformers does not load it as an image-text-to-text model"):
        load_processor(folder)
