"""Measure answering: `python tools/bench_generate.py`; `--device cuda` for the GPU's part, `--json` for figures alone.

All are ratios in one run, medians of as many turns as `--repeats` says, against plain transformers:
`AutoModelForImageTextToText.generate` on pixels in batches of 8, left-padded, with its own default attention.

- demo: 256 samples of ja-scenes and the bundled VLM: a candidate's answers, features at hand as they are in a search;
  how many answers are the same; and in bfloat16, how many differ between batches of 1 and of 64;
- candidate: blend, answer, score with the bundled parents, against mergekit to disk, `from_pretrained`, `generate`,
  score;
- next: a LLaVA-NeXT-shaped random model of 0.3 B, pictures of mixed forms, answers of 24 tokens: each with one
  question, and each with eight, as JA-VG-VQA has them;
- with `--device cuda`: LLaVA-1.6-Mistral-7B's shapes, random weights, 64 pictures of mixed sizes, 48 tokens: prefill as
  a share of the measured rate of matrix products, decoding as a share of what the weights' bytes allow, each attention
  that is installed, peak memory.

A figure that was not reached is printed as such. mergekit comes with the `dev` extra.
"""

import argparse
import copy
import functools
import importlib.metadata
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlmmerge.evalsets import Sample, load
from vlmmerge.evaluate import Evaluator
from vlmmerge.generate import LiveVlm, Prompt, chat
from vlmmerge.generate.answering import Answerer
from vlmmerge.generate.attention import INSTALL, is_installed
from vlmmerge.generate.chat import as_answer
from vlmmerge.generate.features import look, make_prompt
from vlmmerge.plan import Plan, make_plan
from vlmmerge.recipe import Generate, load_recipe

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "recipes" / "demo.yaml"
PLAIN_BATCH = 8
WEIGHTS = {"vlm": 0.7, "ja-llm": 0.7}
# A forward pass of one token multiplies and adds each weight once.
FLOPS_PER_WEIGHT = 2


@dataclass(frozen=True)
class Subject:
    """A model and what it is asked."""

    model: Any
    processor: Any
    samples: Sequence[Sample]
    settings: Generate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--only", choices=["demo", "candidate", "next"], nargs="+", default=["demo", "candidate", "next"]
    )
    parser.add_argument("--samples", type=int, default=256, help="of the demo's; fewer for a quick look")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    arguments = parser.parse_args()
    os.environ["VLMMERGE_CACHE"] = tempfile.mkdtemp()  # nothing was found out before
    measure = {"demo": measure_demo, "candidate": measure_candidate, "next": measure_next}
    parts = [measure_gpu] if arguments.device == "cuda" else [measure[name] for name in arguments.only]
    rows = [row for part in parts for row in part(arguments.samples, arguments.repeats)]
    if arguments.json:
        print(json.dumps({"machine": machine(arguments.device), "figures": rows}))
        return
    print(f"{machine(arguments.device)}\n\n| figure | wanted | measured | |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['figure']} | {row['wanted']} | {row['measured']} | {'' if row['reached'] else 'NOT REACHED'} |")


def figure(name: str, measured: str, wanted: str = "", *, reached: bool = True, **numbers: float) -> dict[str, Any]:
    return {"figure": name, "wanted": wanted, "measured": measured, "reached": reached, **numbers}


def ratio(name: str, ours: float, plain: float, wanted: float, unit: str = "s") -> dict[str, Any]:
    measured = f"{plain / ours:.1f} x ({ours:.2f} {unit}, plain {plain:.2f} {unit})"
    return figure(name, measured, f">= {wanted} x", reached=plain / ours >= wanted, ours=ours, plain=plain)


def medians(repeats: int, *tasks: Callable[[], object]) -> list[float]:
    """Seconds of each task: the medians of turns in which each had its own."""
    turns = [[seconds(task) for task in tasks] for _ in range(repeats)]
    return [statistics.median(each) for each in zip(*turns, strict=True)]


def seconds(task: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    task()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def plain_batches(subject: Subject) -> list[Any]:
    """What plain transformers is given: the processor's own batches, in the samples' order."""
    processor = copy.copy(subject.processor)
    processor.tokenizer.padding_side = "left"
    batches = []
    for start in range(0, len(subject.samples), PLAIN_BATCH):
        inputs = [chat(processor, sample, subject.settings) for sample in subject.samples[start : start + PLAIN_BATCH]]
        batches.append(pad_left(inputs, processor.tokenizer.pad_token_id).to(subject.model.device))
    return batches


def pad_left(inputs: Sequence[Any], pad: int) -> Any:
    """As a processor pads several chats; pictures with fewer tiles are filled up with black ones."""
    width = max(each["input_ids"].shape[1] for each in inputs)
    fillers = {"input_ids": pad, "attention_mask": 0}
    batch = inputs[0].copy()
    for name in inputs[0]:
        values = [each[name] for each in inputs]
        if name in fillers:
            values = [
                torch.nn.functional.pad(value, (width - value.shape[1], 0), value=fillers[name]) for value in values
            ]
        elif name == "pixel_values" and values[0].ndim == 5:
            tiles = max(value.shape[1] for value in values)
            values = [torch.nn.functional.pad(value, (0,) * 7 + (tiles - value.shape[1],)) for value in values]
        batch[name] = torch.cat(values)
    return batch


def plain_answers(subject: Subject, batches: Sequence[Any]) -> list[str]:
    answers = []
    for batch in batches:
        pixels = batch["pixel_values"].to(subject.model.dtype)
        said = subject.model.generate(
            **{**batch, "pixel_values": pixels}, max_new_tokens=subject.settings.max_new_tokens, do_sample=False
        )
        new = said[:, batch["input_ids"].shape[1] :]
        answers += subject.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
    return [as_answer(answer, subject.settings) for answer in answers]


def measure_demo(num_samples: int, repeats: int) -> list[dict[str, Any]]:
    recipe = load_recipe(DEMO)
    samples = load("ja-scenes", "search", num_samples)
    vlm = LiveVlm(Path(recipe.parents.vlm), recipe.generate)
    subject = Subject(vlm.model, vlm.processor, samples, recipe.generate)
    batches = plain_batches(subject)
    looking = seconds(lambda: vlm.prepare(samples))
    again = seconds(lambda: vlm.prepare(samples))
    prompts = vlm.prepare(samples)
    searching = seconds(lambda: vlm.answer(prompts)) - seconds(lambda: vlm.answer(prompts))
    ours, plain = medians(repeats, lambda: vlm.answer(prompts), lambda: plain_answers(subject, batches))
    answers = vlm.answer(prompts)
    num_same = sum(map(str.__eq__, answers, plain_answers(subject, batches)))
    low = LiveVlm(Path(recipe.parents.vlm), recipe.generate.model_copy(update={"dtype": "bfloat16"}))
    few = low.prepare(samples[:64])
    num_other = sum(map(str.__ne__, low.answer(few), [low.answer([prompt])[0] for prompt in few]))
    return [
        ratio(f"demo, {num_samples} answers", ours, plain, 4),
        figure("the same answers", f"{num_same} of {num_samples}", "all", reached=num_same == num_samples),
        figure("looking at the pictures, once for all runs", f"{looking:.2f} s; from the store {again:.2f} s"),
        figure("the search for a size of batches, once for a machine", f"{searching:.1f} s"),
        figure("bfloat16: answers that differ in batches of 1 and of 64", f"{num_other} of {len(few)}"),
    ]


def measure_candidate(num_samples: int, repeats: int) -> list[dict[str, Any]]:
    plan = make_plan(load_recipe(DEMO, [f"evalset.search.samples={num_samples}"]))
    evaluator = Evaluator(plan)
    evaluator.evaluate_ratios(lambda: plan.uniform(WEIGHTS))  # reads parents, looks at pictures, finds its batches
    exam = evaluator.search_exam
    results: dict[str, list[str]] = {}

    def ours() -> None:
        evaluator.blender.write(plan.uniform(WEIGHTS))
        results["ours"] = evaluator.vlm.answer(exam.prompts)
        exam.scorer.score(results["ours"], intervals=False)

    with tempfile.TemporaryDirectory() as folder:
        write_for_mergekit(plan, Path(folder))

        def others() -> None:
            model = blend_as_others_do(plan, Path(folder))
            subject = Subject(model, evaluator.vlm.processor, exam.samples, plan.recipe.generate)
            results["others"] = plain_answers(subject, plain_batches(subject))
            exam.scorer.score(results["others"], intervals=False)

        own, theirs = medians(repeats, ours, others)
    num_same = sum(map(str.__eq__, results["ours"], results["others"]))
    return [
        ratio(f"a whole candidate, {num_samples} answers", own, theirs, 20),
        figure("the same answers", f"{num_same} of {num_samples}", "all", reached=num_same == num_samples),
    ]


def write_for_mergekit(plan: Plan, folder: Path) -> None:
    """The VLM's language tower as a model of its own, for mergekit knows no VLM, and mergekit's file."""
    base, vlm = plan.checkpoints["base"], plan.checkpoints["vlm"]
    keys = plan.anatomy.keys
    tower = {keys["base"][slot]: vlm.read(keys["vlm"][slot]) for slot in plan.anatomy.slots}
    (folder / "tower").mkdir()
    save_file(tower, folder / "tower" / "model.safetensors", metadata={"format": "pt"})
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / "tower" / name).write_bytes((base.folder / name).read_bytes())
    models = {"vlm": folder / "tower", "ja-llm": plan.checkpoints["ja-llm"].folder}
    config = {
        "merge_method": "task_arithmetic",
        "base_model": str(base.folder),
        "models": [{"model": str(models[name]), "parameters": {"weight": weight}} for name, weight in WEIGHTS.items()],
        "dtype": "float32",
    }
    (folder / "mergekit.yaml").write_text(yaml.safe_dump(config))


def blend_as_others_do(plan: Plan, folder: Path) -> Any:
    """mergekit writes a language model; it is put into a copy of the VLM, which transformers loads."""
    from transformers import AutoModelForImageTextToText

    program = Path(sys.executable).with_name("mergekit-yaml")
    command = [str(program), str(folder / "mergekit.yaml"), str(folder / "merged")]
    subprocess.run(command, check=True, capture_output=True)
    merged = load_file(folder / "merged" / "model.safetensors")
    vlm, keys = plan.checkpoints["vlm"], plan.anatomy.keys
    tensors = {key: vlm.read(key) for key in vlm.tensors}
    tensors |= {keys["vlm"][slot]: merged[keys["base"][slot]] for slot in plan.anatomy.slots}
    (folder / "vlm").mkdir(exist_ok=True)
    for file in vlm.folder.glob("*.json"):
        (folder / "vlm" / file.name).write_bytes(file.read_bytes())
    save_file(tensors, folder / "vlm" / "model.safetensors", metadata={"format": "pt"})
    return AutoModelForImageTextToText.from_pretrained(folder / "vlm", dtype="auto")


@dataclass(frozen=True)
class NextShape:
    """The sizes of a LLaVA-NeXT: its eyes, its language model, and the forms of its tiles."""

    vision: dict[str, Any]
    text: dict[str, Any]
    side: int
    patch: int
    tiles: tuple[tuple[int, int], ...]


SMALL = NextShape(
    vision=dict(hidden_size=512, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=8),
    text=dict(
        hidden_size=1024, intermediate_size=3584, num_hidden_layers=16, num_attention_heads=16, num_key_value_heads=4
    ),
    side=168, patch=14, tiles=((1, 2), (2, 1), (2, 2)),
)  # fmt: skip
OF_7B = NextShape(
    vision=dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16),
    text=dict(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
        vocab_size=32064, max_position_embeddings=32768, sliding_window=None, rope_theta=1e6,
    ),
    side=336, patch=14, tiles=((1, 2), (2, 1), (2, 2), (1, 3), (3, 1)),
)  # fmt: skip


def make_next(shape: NextShape, device: str, dtype: torch.dtype, attention: str | None = None) -> tuple[Any, Any]:
    """A LLaVA-NeXT of random weights, and its processor with the bundled tokenizer; answers have no end."""
    import transformers

    tokenizer = transformers.AutoProcessor.from_pretrained(ROOT / "recipes" / "demo-parents" / "vlm").tokenizer
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    forms = [[shape.side * rows, shape.side * columns] for rows, columns in shape.tiles]
    text = {"vocab_size": 32064, "max_position_embeddings": 8192, "sliding_window": None, **shape.text}
    config = transformers.LlavaNextConfig(
        vision_config=transformers.CLIPVisionConfig(image_size=shape.side, patch_size=shape.patch, **shape.vision),
        text_config=transformers.MistralConfig(**text, tie_word_embeddings=False), image_token_index=image_token,
        image_grid_pinpoints=forms, vision_feature_layer=-2, image_seq_length=(shape.side // shape.patch) ** 2,
        tie_word_embeddings=False,
    )  # fmt: skip
    with torch.device(device):
        torch.manual_seed(0)
        auto = transformers.AutoModelForImageTextToText
        model = auto.from_config(config, dtype=dtype, attn_implementation=attention).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    pictures = transformers.LlavaNextImageProcessorPil(
        size={"shortest_edge": shape.side}, crop_size={"height": shape.side, "width": shape.side},
        image_grid_pinpoints=forms,
    )  # fmt: skip
    processor = transformers.LlavaNextProcessor(
        pictures, tokenizer, patch_size=shape.patch, vision_feature_select_strategy="default", image_token="<image>",
        num_additional_image_tokens=1, chat_template=tokenizer.chat_template,
    )  # fmt: skip
    return model, processor


def pictures(number: int) -> list[bytes]:
    """Noise of mixed forms and sizes, as PNG files."""
    sizes = [(640, 480), (480, 640), (500, 500), (900, 300), (333, 500), (300, 700), (1024, 768), (640, 427)]
    files = []
    for index in range(number):
        width, height = sizes[index % len(sizes)]
        file = io.BytesIO()
        Image.effect_noise((width + index // len(sizes), height), 80).convert("RGB").save(file, "png")
        files.append(file.getvalue())
    return files


def questions(files: Sequence[bytes], each: int) -> list[Sample]:
    asked = ["何色ですか？", "画像を説明してください。", "ものはいくつありますか？", "大きな丸はどこにありますか？"]
    return [
        Sample(f"{index}/{number}", (file,), asked[number % len(asked)] * (1 + number // len(asked)), ())
        for index, file in enumerate(files)
        for number in range(each)
    ]


def prepare(subject: Subject) -> list[Prompt]:
    """Prompts with features, as `LiveVlm.prepare` makes them of a model in a folder."""
    known: dict[tuple[bytes, ...], Any] = {}
    prompts = []
    for sample in subject.samples:
        inputs = chat(subject.processor, sample, subject.settings).to(subject.model.device)
        with torch.inference_mode():
            if sample.images not in known:
                known[sample.images] = look(subject.model, inputs)
            prompts.append(make_prompt(inputs, known[sample.images]))
    return prompts


def measure_next(_: int, repeats: int) -> list[dict[str, Any]]:
    model, processor = make_next(SMALL, "cpu", torch.float32)
    num_weights = sum(parameter.numel() for parameter in model.parameters())
    rows = []
    for num_pictures, each in ((16, 1), (2, 8)):
        samples = questions(pictures(num_pictures), each)
        name = f"LLaVA-NeXT-shaped, {num_weights / 1e9:.2f} B, {num_pictures} pictures with {each} question(s) each"
        rows += beside_plain(name, Subject(model, processor, samples, Generate(max_new_tokens=24)), repeats)
    return rows


def beside_plain(name: str, subject: Subject, repeats: int) -> list[dict[str, Any]]:
    prompts, batches = prepare(subject), plain_batches(subject)
    answerer = Answerer(subject.model, subject.processor.tokenizer, subject.settings)
    said: dict[str, list[str]] = {}

    def ours() -> None:
        said["ours"] = answerer.answer(prompts)

    def plain() -> None:
        said["plain"] = plain_answers(subject, batches)

    ours()  # finds its batches
    own, theirs = medians(repeats, ours, plain)
    num_same = sum(map(str.__eq__, said["ours"], said["plain"]))
    return [
        ratio(name, own, theirs, 2),
        figure("the same answers", f"{num_same} of {len(prompts)}", "all", reached=num_same == len(prompts)),
    ]


def measure_gpu(_: int, repeats: int) -> list[dict[str, Any]]:
    settings = Generate(max_new_tokens=48)
    samples = questions(pictures(64), 1)
    rows = []
    attentions = [name for name in INSTALL if is_installed(name)] + ["sdpa"]
    for attention in attentions:
        torch.cuda.reset_peak_memory_stats()
        model, processor = make_next(OF_7B, "cuda", torch.bfloat16, attention)
        subject = Subject(model, processor, samples, settings)
        prompts = prepare(subject)
        answerer = Answerer(model, processor.tokenizer, settings)
        answerer.answer(prompts)  # finds its batches
        if attention == "sdpa":
            batches = plain_batches(subject)
            again = functools.partial(answerer.answer, prompts)
            ours, plain = medians(repeats, again, functools.partial(plain_answers, subject, batches))
            del again
            rows.append(ratio(f"64 pictures, 48 tokens, {attention}", ours, plain, 3))
        else:
            (ours,) = medians(repeats, functools.partial(answerer.answer, prompts))
            rows.append(figure(f"64 pictures, 48 tokens, {attention}", f"{ours:.2f} s", ours=ours))
        rows += phases(subject, prompts, ours, attention)
        peak = torch.cuda.max_memory_allocated() / 2**30
        rows.append(figure(f"peak memory, {attention}", f"{peak:.1f} GiB", peak_gib=peak))
        del model, subject, prompts, answerer
        torch.cuda.empty_cache()
    return rows


def phases(subject: Subject, prompts: Sequence[Prompt], whole: float, attention: str) -> list[dict[str, Any]]:
    """Prefill and decoding apart: with one new token an answer is its prefill."""
    tower = subject.model.get_decoder()
    num_weights = sum(parameter.numel() for parameter in tower.parameters())
    short = Answerer(
        subject.model, subject.processor.tokenizer, subject.settings.model_copy(update={"max_new_tokens": 1})
    )
    short.answer(prompts)
    (prefill,) = medians(3, lambda: short.answer(prompts))
    num_tokens = sum(len(prompt.token_ids) for prompt in prompts)
    share = FLOPS_PER_WEIGHT * num_weights * num_tokens / prefill / matrix_rate()
    step = (whole - prefill) / (subject.settings.max_new_tokens - 1)
    floor = 2 * num_weights / copy_rate()
    return [
        figure(f"prefill of matrix rate, {attention}", f"{share:.0%}", ">= 50 %", reached=share >= 0.5, share=share),
        figure(
            f"decoding of what the weights' bytes allow, {attention}", f"{floor / step:.0%}", ">= 60 %",
            reached=floor / step >= 0.6, share=floor / step,
        ),
    ]  # fmt: skip


def matrix_rate() -> float:
    """Additions and multiplications a second in bfloat16."""
    left: Tensor = torch.ones(8192, 8192, device="cuda", dtype=torch.bfloat16)
    (taken,) = medians(5, lambda: [left @ left for _ in range(10)])
    return 10 * 2 * 8192**3 / taken


def copy_rate() -> float:
    """Bytes a second that the device's memory reads."""
    source = torch.ones(2**31, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    (taken,) = medians(5, lambda: [target.copy_(source) for _ in range(10)])
    return 10 * 2 * len(source) / taken


def machine(device: str) -> str:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers")]
    name = (
        torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {torch.get_num_threads()} threads"
    )
    return ", ".join([time.strftime("%Y-%m-%d"), name, f"Python {platform.python_version()}", *versions])


if __name__ == "__main__":
    main()
