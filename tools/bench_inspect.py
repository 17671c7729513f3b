"""Measure inspecting: `python tools/bench_inspect.py --work /big/disk/bench`.

Writes three checkpoints with Mistral-7B's shapes and LLaVA-1.6's keys as sparse files (15 GB each by length, a few
MB on the disk) with a tokenizer of 32000 tokens trained on made-up words, and three parents of 886 M parameters with
random weights (5 GB), then prints

- seconds and peak memory of `vlmmerge inspect` on the three of 7B, whole processes, median of 5, beside those of an
  interpreter that does nothing;
- seconds of `vlmmerge --help`;
- the speed at which `vlmmerge inspect --deltas` reads the three of 886 M, as a share of plain reads of the same files,
  from memory and from the disk.

A figure that was not reached is printed as such.
"""

import argparse
import json
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench_blend import MEASURE, OF_FILES, Shape, key, machine, show, vlm_key, write_parents
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

MISTRAL_7B = Shape(layers=32, hidden=4096, intermediate=14336, key_value=1024, vocabulary=32000)
VLM_ROWS, EYES, LAYERS_OF_EYES = 32064, 1024, 24
GIB, MIB = 2**30, 2**20
REPEATS = 5
SHARDS = 3
WANTED_SECONDS, WANTED_MIB, WANTED_HELP, WANTED_SHARE = 3.0, 300.0, 0.5, 0.8
READ_AT_ONCE = 2**23
PROGRAM = ["-m", "vlmmerge.cli"]
# Prints how many bytes are compared, and in how many seconds.
COMPARE = """
import sys, time
from vlmmerge.inspection.deltas import compare, num_bytes_compared, paired_towers
from vlmmerge.inspection import inspect
towers, start = paired_towers(inspect(sys.argv[1:])), time.perf_counter()
compare(towers, lambda num_bytes: None)
print(num_bytes_compared(towers), time.perf_counter() - start)
"""
MISTRAL = {
    "architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000,
    "hidden_act": "silu", "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096, "bos_token_id": 1,
    "eos_token_id": 2, "max_position_embeddings": 32768, "tie_word_embeddings": False,
}  # fmt: skip
# As the hub's file says it: what is the class's default is not said.
LLAVA = {
    "architectures": ["LlavaNextForConditionalGeneration"], "model_type": "llava_next", "image_token_index": 32000,
    "text_config": {
        "model_type": "mistral", "intermediate_size": 14336, "num_key_value_heads": 8, "vocab_size": VLM_ROWS,
        "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "sliding_window": None, "max_position_embeddings": 32768,
    },
    "vision_config": {"model_type": "clip_vision_model", "hidden_size": EYES, "num_hidden_layers": LAYERS_OF_EYES},
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="an empty folder on a disk with 6 GB")
    parser.add_argument("--only", nargs="+", choices=["headers", "deltas"], default=["headers", "deltas"])
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True)
    try:
        print(f"{machine('cpu')}\n\n| what | wanted | measured | |\n|---|---|---|---|")
        if "headers" in arguments.only:
            measure_headers(arguments.work / "7b")
        if "deltas" in arguments.only:
            measure_deltas(arguments.work / "parents")
    finally:
        shutil.rmtree(arguments.work)


def measure_headers(folder: Path) -> None:
    """Seconds and memory of whole processes that read no weights."""
    write_sparse_parents(folder)
    nothing = [run_process(["-c", "pass"]) for _ in range(REPEATS)]
    inspected = [run_process([*PROGRAM, "inspect", *parents_in(folder)]) for _ in range(REPEATS)]
    seconds, beyond = median(inspected, 0), median(inspected, 1) - median(nothing, 1)
    show("inspect three of 7B", f"<= {WANTED_SECONDS:g} s", f"{seconds:.2f} s", seconds <= WANTED_SECONDS)
    show("its memory beyond the interpreter", f"<= {WANTED_MIB:g} MiB", f"{beyond:.0f} MiB", beyond <= WANTED_MIB)
    helped = median([run_process([*PROGRAM, "--help"]) for _ in range(REPEATS)], 0)
    show("--help", f"<= {WANTED_HELP:g} s", f"{helped:.2f} s", helped <= WANTED_HELP)


def measure_deltas(folder: Path) -> None:
    """The speed of reading and comparing all weights, beside a plain read of the same files one after the other."""
    write_parents(OF_FILES, folder)
    os.sync()
    files = sorted(folder.rglob("*.safetensors"))
    num_bytes = sum(file.stat().st_size for file in files)
    for where, prepare in (("from memory", read_all), ("from the disk", forget_all)):
        plain, compared = [], []
        for _ in range(REPEATS):
            prepare(files)
            start = time.perf_counter()
            read_all(files)
            plain.append(num_bytes / (time.perf_counter() - start))
            prepare(files)
            done = subprocess.run([sys.executable, "-c", COMPARE, *parents_in(folder)], capture_output=True, check=True)
            bytes_read, seconds = map(float, done.stdout.split())
            compared.append(bytes_read / seconds)
        share = statistics.median(compared) / statistics.median(plain)
        speeds = (
            f"{statistics.median(compared) / GIB:.2f} GiB/s against {statistics.median(plain) / GIB:.2f} GiB/s plain"
        )
        measured = f"{speeds}: {100 * share:.0f} %"
        wanted = f">= {100 * WANTED_SHARE:.0f} %" if prepare is forget_all else ""
        show(f"--deltas, {where}", wanted, measured, share >= WANTED_SHARE)

    peak, of_torch = (run_process(arguments)[1] for arguments in (deltas_of(folder), ["-c", "import torch"]))
    show("--deltas, peak memory", "", f"{peak:.0f} MiB, of which torch alone {of_torch:.0f} MiB")


def deltas_of(folder: Path) -> list[str]:
    return [*PROGRAM, "inspect", *parents_in(folder), "--deltas"]


def parents_in(folder: Path) -> list[str]:
    return [str(folder / name) for name in ("vlm", "ja", "base")]


def run_process(arguments: Sequence[str]) -> tuple[float, float]:
    """Seconds and peak MiB of an interpreter with these arguments."""
    command = [sys.executable, "-c", MEASURE, sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, peak = map(float, done.stdout.split()[-2:])
    return seconds, peak * (1 if sys.platform == "darwin" else 1024) / MIB


def median(runs: Sequence[tuple[float, float]], place: int) -> float:
    return statistics.median(run[place] for run in runs)


def read_all(files: Sequence[Path]) -> None:
    block = bytearray(READ_AT_ONCE)
    for file in files:
        with file.open("rb", buffering=0) as stream:
            while stream.readinto(block):
                pass


def forget_all(files: Sequence[Path]) -> None:
    """Have the system drop the files from its memory."""
    for file in files:
        with file.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def write_sparse_parents(folder: Path) -> None:
    """Write `base`, `ja` and `vlm` of 7B: all headers are true, and all weights are holes."""
    tokens = make_tokenizer()
    slots = MISTRAL_7B.slots()
    rows = {slot: (VLM_ROWS, *shape[1:]) if slot.has_token_rows else shape for slot, shape in slots.items()}
    for name in ("base", "ja"):
        write_sparse(folder / name, {key(slot): shape for slot, shape in slots.items()}, MISTRAL)
        write_tokenizer(folder / name, tokens, [])
    write_sparse(folder / "vlm", {vlm_key(slot): shape for slot, shape in rows.items()} | eyes(), LLAVA)
    write_tokenizer(folder / "vlm", tokens, ["<image>", "<pad>"])


def eyes() -> dict[str, tuple[int, ...]]:
    """CLIP's shapes under the keys of LLaVA-1.6 on the hub, and the projector's."""
    within: dict[str, tuple[int, ...]] = {"layer_norm1": (EYES,), "layer_norm2": (EYES,)}
    within |= {f"self_attn.{part}_proj": (EYES, EYES) for part in "qkv"} | {"self_attn.out_proj": (EYES, EYES)}
    within |= {"mlp.fc1": (4 * EYES, EYES), "mlp.fc2": (EYES, 4 * EYES)}
    top = "vision_tower.vision_model"
    found = {
        f"{top}.embeddings.class_embedding": (EYES,),
        f"{top}.embeddings.patch_embedding.weight": (EYES, 3, 14, 14),
        f"{top}.embeddings.position_embedding.weight": (577, EYES),
        "image_newline": (MISTRAL_7B.hidden,),
    }
    for layer in range(LAYERS_OF_EYES):
        for role, shape in within.items():
            found[f"{top}.encoder.layers.{layer}.{role}.weight"] = shape
            found[f"{top}.encoder.layers.{layer}.{role}.bias"] = shape[:1]
    for number, width in ((1, EYES), (2, MISTRAL_7B.hidden)):
        found[f"multi_modal_projector.linear_{number}.weight"] = (MISTRAL_7B.hidden, width)
        found[f"multi_modal_projector.linear_{number}.bias"] = (MISTRAL_7B.hidden,)
    return found


def write_sparse(folder: Path, shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any]) -> None:
    """Write a checkpoint in shards: headers, and files of the right length."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    names, weight_map = list(shapes), {}
    for shard in range(SHARDS):
        file = folder / f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        header, end = {}, 0
        for name in names[shard * len(names) // SHARDS : (shard + 1) * len(names) // SHARDS]:
            start, end = end, end + 2 * math.prod(shapes[name])
            header[name] = {"dtype": "BF16", "shape": shapes[name], "data_offsets": [start, end]}
            weight_map[name] = file.name
        text = json.dumps(header).encode()
        file.write_bytes(len(text).to_bytes(8, "little") + text)
        os.truncate(file, 8 + len(text) + end)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def make_tokenizer() -> dict[str, Any]:
    """A tokenizer.json as Mistral's is: 32000 tokens and bytes to fall back to, trained on made-up words."""
    rng, num_rows = random.Random(0), MISTRAL_7B.vocabulary
    syllables = [one + other for one in "bcdfghjklmnprstvwz" for other in "aeiou"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 5))) for _ in range(60_000)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=num_rows, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(words, trainer)
    assert tokenizer.get_vocab_size() == num_rows
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = None
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return dict(json.loads(tokenizer.to_str()))


def write_tokenizer(folder: Path, tokens: Mapping[str, Any], more: Sequence[str]) -> None:
    """Write a tokenizer.json with some tokens more."""
    added = [token for token in tokens["added_tokens"] if token["id"] < 3]
    added += [{**added[0], "id": MISTRAL_7B.vocabulary + place, "content": token} for place, token in enumerate(more)]
    (folder / "tokenizer.json").write_text(json.dumps({**tokens, "added_tokens": added}, ensure_ascii=False))


if __name__ == "__main__":
    main()
