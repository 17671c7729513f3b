"""Where parents stay, and slots on their way to a device."""

import pytest
import torch
from torch import Tensor

from vlmmerge.blend.residency import GIB, buffer_bytes, choose_residency, free_bytes, place, send_ahead
from vlmmerge.errors import VlmMergeError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("wanted", "num_free", "chosen"),
    [
        ("auto", None, "device"),
        ("auto", 100, "device"),
        ("auto", 99, "host"),
        ("device", None, "device"),
        ("device", 80, "device"),
        ("host", None, "host"),
        ("host", 1000, "host"),
    ],
)
def test_auto_takes_the_device_while_that_leaves_room_for_answering(
    wanted: str, num_free: int | None, chosen: str
) -> None:
    assert choose_residency(wanted, 80, num_free) == chosen


def test_a_device_that_is_wanted_and_too_small_is_told_with_both_sizes() -> None:
    with pytest.raises(VlmMergeError) as caught:
        choose_residency("device", 43 * GIB, 24 * GIB + GIB // 2)
    wanted = "blend.residency: the parents' language towers need 43.0 GiB on the device, and 24.5 GiB are free"
    assert wanted in str(caught.value)
    assert caught.value.hint == "take `residency: auto`, or `host`"


def test_a_device_without_room_for_two_slots_is_told_before_any_candidate_fails() -> None:
    """Each candidate of a search failed, out of memory."""
    with pytest.raises(VlmMergeError) as caught:
        choose_residency("auto", 40 * GIB, GIB, 3 * GIB // 2)
    assert caught.value.message == (
        "blend.residency: two slots on their way from host memory need 1.5 GiB on the device, and beside the model "
        "1.0 GiB are free"
    )
    assert caught.value.hint == "a larger GPU, several, or `generate.device: cpu`, which is slow"
    assert choose_residency("host", 40 * GIB, 2 * GIB, 3 * GIB // 2) == "host"


def test_a_cpu_has_no_memory_of_its_own_and_parents_stay_where_they_were_read() -> None:
    tensor = torch.ones(3)
    assert free_bytes(CPU) is None
    assert place(tensor, CPU, "host") is tensor and place(tensor, CPU, "device") is tensor


def items(count: int) -> list[tuple[str, dict[str, Tensor]]]:
    """Slots of several sizes, dtypes and numbers of parents."""
    generator = torch.Generator().manual_seed(0)
    dtypes = (torch.bfloat16, torch.float32, torch.float16)
    return [
        (
            f"slot {number}",
            {
                name: torch.randn(1 + 37 * number, 5, generator=generator).to(dtypes[(number + place) % 3])
                for place, name in enumerate(("base", "vlm", "ja")[: 1 + number % 3])
            },
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_slots_arrive_in_order_and_whole_though_they_share_two_buffers(count: int) -> None:
    sent, storages = items(count), []
    for (slot, tensors), (wanted, originals) in zip(send_ahead(sent, CPU), sent, strict=True):
        assert slot == wanted and list(tensors) == list(originals)
        for name, tensor in tensors.items():
            assert tensor.dtype == originals[name].dtype and torch.equal(tensor, originals[name])
            storages.append(tensor.untyped_storage().data_ptr())
            assert tensor.data_ptr() != originals[name].data_ptr()
    assert len(set(storages)) == min(count, 2)


def test_a_slot_stays_whole_while_the_next_one_is_on_its_way() -> None:
    """The next one is sent before the slot is handed out, so the two must not lie in one buffer."""
    sent = items(5)
    arriving = send_ahead(sent, CPU)
    held = next(arriving)[1]
    assert torch.equal(held["base"], sent[0][1]["base"])
    for number, (_, tensors) in enumerate(arriving, start=1):
        assert torch.equal(tensors["base"], sent[number][1]["base"])


def test_buffers_are_as_long_as_the_longest_slot() -> None:
    sent = items(7)
    (_, tensors), *_ = send_ahead(sent, CPU)
    longest = max(buffer_bytes(of_slot) for _, of_slot in sent)
    assert tensors["base"].untyped_storage().nbytes() == longest
    assert all(tensor.storage_offset() * tensor.element_size() % 512 == 0 for tensor in tensors.values())
