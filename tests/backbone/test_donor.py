"""`swap-vision --donor`: a model's language tower in another VLM's files."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, trainers
from transformers import LlavaConfig, LlavaForConditionalGeneration

if TYPE_CHECKING:
    from conftest import Cli

FEW = ["--samples", "3", "--max-loss", "1"]


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def test_the_donors_files_get_the_models_language_tower_and_nothing_else(
    cli: "Cli", with_donor: Path, tmp_path: Path
) -> None:
    model, donor, out = with_donor / "vlm", with_donor / "donor", tmp_path / "out"
    done = cli.run("swap-vision", model, "--donor", donor, "--out", out, *FEW, "--json")
    assert done.status == 0, done.err
    made, of_model, of_donor = (load_file(folder / "model.safetensors") for folder in (out, model, donor))
    assert made.keys() == of_donor.keys()
    for key, tensor in made.items():
        if not key.startswith("language_model."):
            assert bits(tensor) == bits(of_donor[key]), key
        elif tensor.shape == of_model[key].shape:
            assert bits(tensor) == bits(of_model[key].bfloat16()), key
        else:  # rows of tokens that the donor alone has
            rows = len(of_model[key])
            assert bits(tensor[:rows]) == bits(of_model[key].bfloat16()) and bits(tensor[rows:]) == bits(
                of_donor[key][rows:]
            )
    for name in ("config.json", "processor_config.json", "tokenizer.json", "chat_template.jinja"):
        assert (out / name).read_bytes() == (donor / name).read_bytes()
    told = json.loads(done.out)
    assert told["gate"]["evalset"] == "ja-scenes:held_out" and told["gate"]["metric"] == "cider"
    assert set(told["gate"]["result"]["models"]) == {"old eyes", "new eyes"}
    assert "vlmmerge swap-vision vlm --donor donor --out DIR" in (out / "README.md").read_text(encoding="utf-8")
    assert json.loads((out / "vlmmerge.json").read_text())["donor"]["name"] == "donor"


def test_a_tower_of_the_same_dtype_keeps_every_bit(cli: "Cli", parents: Path, tmp_path: Path) -> None:
    donor = tmp_path / "donor"
    shutil.copytree(parents / "vlm", donor)
    tensors = load_file(donor / "model.safetensors")
    for key in tensors:
        tensors[key] = tensors[key] + 0.25
    save_file(tensors, donor / "model.safetensors", {"format": "pt"})
    done = cli.run("swap-vision", parents / "vlm", "--donor", donor, "--out", tmp_path / "out", "--evalset", "none")
    assert done.status == 0, done.err
    made, own = load_file(tmp_path / "out/model.safetensors"), load_file(parents / "vlm/model.safetensors")
    for key, tensor in made.items():
        assert bits(tensor) == bits((own if key.startswith("language_model.") else tensors)[key]), key


def test_a_donor_of_other_shapes_is_refused_with_both_shapes(cli: "Cli", parents: Path, tmp_path: Path) -> None:
    config = LlavaConfig.from_pretrained(parents / "vlm")
    config.text_config.hidden_size = 48
    shutil.copytree(parents / "vlm", tmp_path / "wide")
    LlavaForConditionalGeneration(config).save_pretrained(tmp_path / "wide")
    done = cli.run("swap-vision", parents / "vlm", "--donor", tmp_path / "wide", "--out", tmp_path / "out")
    assert done.status == 1
    assert "error: the donor's language tower does not fit: parents do not fit" in done.err
    assert f"in `{tmp_path / 'wide'}`" in done.err and "(64, 48)" in done.err and "(64, 32)" in done.err
    assert "hint: give a donor whose language tower is of one kind with the model's" in done.err
    assert not (tmp_path / "out").exists()


def test_a_donor_of_another_vocabulary_is_refused(cli: "Cli", with_donor: Path, tmp_path: Path) -> None:
    donor = tmp_path / "donor"
    shutil.copytree(with_donor / "donor", donor)
    other = Tokenizer(models.BPE(unk_token="<unk>"))
    special = ["<unk>", "<s>", "</s>", "<pad>", "<image>", "[INST]", "[/INST]"]
    other.train_from_iterator(
        ["あります。この画像には何が写っていますか？大きな赤い丸"] * 9,
        trainers.BpeTrainer(vocab_size=90, special_tokens=special, show_progress=False),
    )
    other.save(str(donor / "tokenizer.json"))
    done = cli.run("swap-vision", with_donor / "vlm", "--donor", donor, "--out", tmp_path / "out")
    assert done.status == 1
    assert "error: the donor's language tower does not fit: " in done.err and "token" in done.err
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_no_vlm_is_refused(cli: "Cli", parents: Path, tmp_path: Path) -> None:
    for model, donor in ((parents / "ja-llm", parents / "vlm"), (parents / "vlm", parents / "ja-llm")):
        done = cli.run("swap-vision", model, "--donor", donor, "--out", tmp_path / "out")
        assert done.status == 1
        assert f"error: {parents / 'ja-llm'} is no vision-language model: it has no vision tower" in done.err
        assert "hint: MODEL and --donor are VLMs; a vision encoder alone is given by --encoder" in done.err


def test_an_interrupted_swap_leaves_nothing_behind(cli: "Cli", with_donor: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = cli.start(
        "swap-vision", with_donor / "vlm", "--donor", with_donor / "donor", "--out", out, "--max-loss", 1
    )
    while not (tmp_path / ".out.part" / "config.json").exists():
        time.sleep(0.01)
    os.kill(process, signal.SIGINT)
    done = cli.wait()
    assert done.status == 130, done.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_is_told_before_the_donor_is_opened(cli: "Cli", parents: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    done = cli.run("swap-vision", parents / "vlm", "--donor", "nowhere/donor", "--out", tmp_path)
    message = f"error: {tmp_path} is not empty and no export of vlmmerge\nhint: choose another --out"
    assert (done.status, done.message) == (1, message)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
