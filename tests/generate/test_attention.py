"""The attention that is taken is told, and one that is wanted is taken or refused."""

from pathlib import Path

import pytest
import torch

from vlmmerge.errors import VlmMergeError
from vlmmerge.evalsets import load
from vlmmerge.generate import LiveVlm, attention, choose_attention
from vlmmerge.recipe import Generate

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")


def test_auto_on_a_cpu_is_what_transformers_takes_by_itself(parents: Path) -> None:
    assert choose_attention(parents / "vlm", Generate(), CPU) == "sdpa"
    assert LiveVlm(parents / "vlm", Generate()).attention == "sdpa"


def test_an_attention_by_name_is_taken_and_says_the_same(parents: Path) -> None:
    samples = load("ja-scenes", "search_questions", 4)
    answers = []
    for name in ("sdpa", "eager"):
        vlm = LiveVlm(parents / "vlm", Generate(attention=name, max_new_tokens=4))
        assert vlm.attention == name == choose_attention(parents / "vlm", vlm.settings, CPU)
        answers.append(vlm.answer(vlm.prepare(samples)))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("number", [2, 3, 4])
def test_flash_attention_without_cuda_is_refused_with_what_to_install(parents: Path, number: int) -> None:
    wanted = f"flash_attention_{number}"
    with pytest.raises(VlmMergeError) as caught:
        LiveVlm(parents / "vlm", Generate(attention=wanted, device="cpu"))
    assert caught.value.message == f"generate.attention: {wanted} runs on CUDA only, and the model on cpu"
    if not torch.cuda.is_available():
        with pytest.raises(VlmMergeError) as caught:
            choose_attention(parents / "vlm", Generate(attention=wanted), CUDA)
        assert caught.value.message == f"generate.attention: {wanted} is not installed"
        assert caught.value.hint == f"{attention.INSTALL[wanted]}, or `generate.attention: auto`"


def test_auto_takes_the_newest_thatis_installed_and_fits_device_dtype_and_model(
    parents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU is needed to choose: what is installed and which GPU there is are told here."""
    monkeypatch.setattr(attention, "_taken", lambda folder, settings, name, trusts_code: name or "sdpa")
    installed = {"flash_attention_2", "flash_attention_4"}
    monkeypatch.setattr(attention, "is_installed", installed.__contains__)

    def taken(capability: tuple[int, int], dtype: str) -> str:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        return choose_attention(parents / "vlm", Generate(dtype=dtype), CUDA)

    assert taken((9, 0), "bfloat16") == "flash_attention_4"
    assert taken((8, 6), "bfloat16") == taken((8, 6), "float16") == "flash_attention_2"
    assert taken((7, 5), "bfloat16") == "sdpa"
    assert taken((9, 0), "auto") == taken((9, 0), "float32") == "sdpa", "the checkpoint is float32"
    with pytest.raises(VlmMergeError, match=r"flash_attention_2 runs in bfloat16 or float16 only, and the model in f"):
        choose_attention(parents / "vlm", Generate(attention="flash_attention_2"), CUDA)
    monkeypatch.setattr(attention, "_taken", lambda folder, settings, name, trusts_code: None if name else "eager")
    assert taken((9, 0), "bfloat16") == "eager", "the model supports none"
