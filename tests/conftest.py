"""Tiny parents for every test that needs real checkpoints: three folders as transformers writes them, and a recipe.

Their weights are random, so what they say is nonsense, but it is nonsense in Japanese that depends on every weight and
on the picture: enough for everything but the quality of the answers.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, trainers
from transformers import (
    AutoModelForImageTextToText,
    AutoTokenizer,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
)
from transformers.utils import logging

logging.disable_progress_bar()

ROOT = Path(__file__).parents[1]
IMAGE_SIDE, PATCH_SIDE = 30, 10
DONORS_SIDE, DONORS_PATCH, DONORS_TOKEN = 24, 12, "<eyes>"
SPECIAL_TOKENS = ["<unk>", "<s>", "</s>", "<pad>", "<image>", "[INST]", "[/INST]"]
TEXTS = [
    "大きな赤い丸が小さな青い四角の上にあります。",
    "小さな緑の星の左に大きな黄色い三角が見えます。",
    "真ん中にピンクのハートが3つあります。右に紫の十字",
    "ものはいくつありますか？何色ですか？はい。いいえ。画像を説明してください。",
    "A big red circle is above a small blue square. Describe the picture.",
]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '[INST]' if message['role'] == 'user' else '' }}"
    "{% for part in message['content'] %}{{ '<image>' if part['type'] == 'image' else part['text'] }}{% endfor %}"
    "{{ '[/INST]' if message['role'] == 'user' else eos_token }}{% endfor %}"
)
RECIPE = """
parents:
  vlm: vlm
  base: base
  llms: {ja: ja-llm}
blend: {method: dare_ties, depth: {groups: 2}}
evalset:
  search: {name: ja-scenes, split: search, samples: 4}
  finals: {name: ja-scenes, split: search, samples: 7}
  held_out: {name: ja-scenes, split: held_out, samples: 6}
generate: {question: 画像を説明してください。, max_new_tokens: 8}
score:
  objective: {cider: 1.0, chrf: 0.01}
  report: [exact, japanese]
search: {evaluations: 14, seed: 5, grid: 2, finalists: 2}
"""


# What importing the libraries costs is paid once; each command then runs in a process of its own, forked from there.
WARM_CLI = """
import gc, json, os, signal, sys
from vlmmerge import cli
cli._quieten_libraries()
import datasets
from transformers import (
    AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor, CLIPImageProcessorPil, CLIPVisionModel,
    LlavaForConditionalGeneration, LlavaProcessor, MistralForCausalLM, SiglipVisionModel,
)  # by class: their modules alone import next to nothing
import vlmmerge.backbone.swap, vlmmerge.console, vlmmerge.run, vlmmerge.search, vlmmerge.summary
gc.freeze()  # what the libraries are made of is never garbage: to look through it took a third of a command's time
print("warm", flush=True)
for line in sys.stdin:
    arguments, folder, environments = json.loads(line)
    pids = []
    for number, environment in enumerate(environments):
        pids.append(os.fork())
        if pids[-1] == 0:
            os.environ.update(environment)
            signal.alarm(600)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` starts jobs with Ctrl-C ignored
            os.chdir(os.path.join(folder, "cwd"))
            for descriptor, name in ((1, "stdout"), (2, "stderr")):
                path = os.path.join(folder, f"{name}{number or ''}")
                os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), descriptor)
            try:
                status = cli.main(arguments)
            except SystemExit as stop:  # wrong usage
                status = stop.code
            sys.stdout.flush()
            os._exit(status)  # taking down all that was imported would take a second
    print(pids[0], flush=True)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]), flush=True)
"""


@dataclass(frozen=True)
class Done:
    """A command that has ended: its exit status (negative: the signal that killed it) and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The error message, without the empty line that a progress bar leaves behind."""
        return self.err.strip()


class Cli:
    """Runs `vlmmerge` commands in processes of their own, one at a time, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "cwd").mkdir()
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", WARM_CLI], cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._read_line() == "warm\n"

    def start(self, *arguments: object, environments: Sequence[Mapping[str, str]] = ({},)) -> int:
        """Start a command, once with each of some variables; returns the first process's id. `wait` must follow."""
        # A new process takes seconds to start: `whole_run` and tests/export/test_selftest.py try what it is for.
        arguments += ("--no-self-test",) if arguments[:1] == ("evolve",) else ()
        assert self._process.stdin
        task = [[str(argument) for argument in arguments], str(self.folder), [dict(each) for each in environments]]
        print(json.dumps(task), file=self._process.stdin, flush=True)
        return int(self._read_line())

    def wait(self) -> Done:
        """Wait until the command has ended."""
        return self.wait_all()[0]

    def wait_all(self) -> list[Done]:
        """Wait until every process of the command has ended."""
        out, err = self.folder / "stdout", self.folder / "stderr"
        return [
            Done(status, *(each.with_name(f"{each.name}{number or ''}").read_text() for each in (out, err)))
            for number, status in enumerate(json.loads(self._read_line()))
        ]

    def run(self, *arguments: object) -> Done:
        """Run a command to its end."""
        self.start(*arguments)
        return self.wait()

    def close(self) -> None:
        """End the warm process."""
        self._process.communicate()

    def _read_line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()


@dataclass(frozen=True)
class WholeRun:
    """An evolution that nothing interrupted: its folder, and the command that has ended."""

    folder: Path
    done: Done

    @property
    def journal(self) -> bytes:
        return (self.folder / "journal.jsonl").read_bytes()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests keep nothing in the user's cache, and take nothing from it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLMMERGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def parents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints `base`, `ja-llm` (bfloat16) and `vlm` (float32). Never write in it."""
    folder = tmp_path_factory.mktemp("parents")
    write_parents(folder)
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tied_parents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `parents`, but every head is tied to its embeddings."""
    folder = tmp_path_factory.mktemp("tied-parents")
    write_parents(folder, is_tied=True)
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def with_donor(parents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny parents beside `donor`: a bfloat16 LLaVA with SigLIP's eyes, and its own language tower and token.

    Never write in it.
    """
    folder = tmp_path_factory.mktemp("with-donor")
    shutil.copytree(parents, folder, dirs_exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(parents / "vlm")
    tokenizer.add_special_tokens({"additional_special_tokens": [DONORS_TOKEN]})
    vlm = AutoModelForImageTextToText.from_pretrained(parents / "vlm")
    eyes = SiglipVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=DONORS_SIDE,
        patch_size=DONORS_PATCH, vision_use_head=False,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=eyes, text_config=vlm.config.text_config, image_token_index=vlm.config.image_token_id,
        vision_feature_layer=-1, vision_feature_select_strategy="full",
        image_seq_length=(DONORS_SIDE // DONORS_PATCH) ** 2,
    )  # fmt: skip
    config.text_config.vocab_size = len(tokenizer)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        donor = LlavaForConditionalGeneration(config).bfloat16()
        for parameter in donor.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    donor.generation_config = vlm.generation_config
    donor.save_pretrained(folder / "donor")
    pictures = SiglipImageProcessorPil(size={"height": DONORS_SIDE, "width": DONORS_SIDE})
    LlavaProcessor(
        pictures, tokenizer, patch_size=DONORS_PATCH, vision_feature_select_strategy="full", image_token="<image>",
        chat_template=tokenizer.chat_template,
    ).save_pretrained(folder / "donor")  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def recipe_file(parents: Path) -> Path:
    """A recipe that blends the tiny parents in seconds."""
    return parents / "recipe.yaml"


@pytest.fixture(scope="session")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """The command line, in real processes that start at once."""
    warm = Cli(tmp_path_factory.mktemp("cli"))
    yield warm
    warm.close()


@pytest.fixture(scope="session")
def whole_run(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> WholeRun:
    """The recipe evolved by a fresh `vlmmerge evolve --json`. Never write in its folder."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    command = [sys.executable, "-m", "vlmmerge.cli", "evolve", str(recipe_file), "--run", str(folder), "--json"]
    ended = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return WholeRun(folder, Done(ended.returncode, ended.stdout, ended.stderr))


def write_parents(folder: Path, *, is_tied: bool = False) -> None:
    """Write base, ja-llm and vlm, the same bytes each time; `is_tied` ties every head to its embeddings."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = make_tokenizer()
        base = MistralForCausalLM(make_language_config(tokenizer, is_tied)).bfloat16()
        draw_weights(base)
        ja_llm = MistralForCausalLM(base.config).bfloat16()
        ja_llm.load_state_dict(base.state_dict())
        nudge_weights(ja_llm)
        vlm = make_vlm(base, tokenizer, is_tied)
        draw_weights(vlm.model.vision_tower)
        draw_weights(vlm.model.multi_modal_projector)
        nudge_weights(vlm.model.language_model)
    for name, model in (("base", base), ("ja-llm", ja_llm), ("vlm", vlm)):
        model.save_pretrained(folder / name)
    for name in ("base", "ja-llm"):
        tokenizer.save_pretrained(folder / name)
    make_processor(tokenizer).save_pretrained(folder / "vlm")


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Characters and their frequent joins: every token that may be said is readable Japanese or English."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=180, special_tokens=SPECIAL_TOKENS, show_progress=False)
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
        padding_side="left", extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_language_config(tokenizer: PreTrainedTokenizerFast, is_tied: bool) -> MistralConfig:
    return MistralConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, sliding_window=None, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, tie_word_embeddings=is_tied,
    )  # fmt: skip


def make_vlm(
    base: MistralForCausalLM, tokenizer: PreTrainedTokenizerFast, is_tied: bool
) -> LlavaForConditionalGeneration:
    """A LLaVA in float32 whose language tower is the base's."""
    eyes = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=IMAGE_SIDE,
        patch_size=PATCH_SIDE, projection_dim=32,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=eyes, text_config=make_language_config(tokenizer, is_tied),
        image_token_index=SPECIAL_TOKENS.index("<image>"), vision_feature_layer=-1,
        image_seq_length=(IMAGE_SIDE // PATCH_SIDE) ** 2, tie_word_embeddings=is_tied,
    )  # fmt: skip
    vlm = LlavaForConditionalGeneration(config)
    vlm.model.language_model.load_state_dict(base.model.state_dict())
    vlm.lm_head.load_state_dict(base.lm_head.state_dict())
    vlm.generation_config = base.generation_config
    return vlm


def make_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    side = {"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    pictures = CLIPImageProcessorPil(size={"shortest_edge": IMAGE_SIDE}, crop_size=side)
    return LlavaProcessor(
        pictures, tokenizer, patch_size=PATCH_SIDE, vision_feature_select_strategy="default", image_token="<image>",
        num_additional_image_tokens=1, chat_template=CHAT_TEMPLATE,
    )  # fmt: skip


@torch.no_grad()
def draw_weights(module: torch.nn.Module) -> None:
    """Fill matrices with noise that is wide enough for no answer to be like another."""
    for parameter in module.parameters():
        if parameter.ndim > 1:
            parameter.copy_(torch.randn(parameter.shape) * 1.5 / parameter[0].numel() ** 0.5)


@torch.no_grad()
def nudge_weights(module: torch.nn.Module) -> None:
    """What a child's training might do: every weight moves by a fifth of its size or so."""
    for parameter in module.parameters():
        spread = 0.2 * parameter.float().std().clamp(min=0.05)
        parameter.add_((torch.randn(parameter.shape) * spread).to(parameter.dtype))
