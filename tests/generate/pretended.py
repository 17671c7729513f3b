"""GPUs that are only pretended: tensors say that they are on one, and are computed on the CPU.

Whatever would fail on real GPUs since two tensors lie on different ones fails here too; what is computed is what a CPU
computes. So a model over several GPUs can be tried where there is none, hooks, caches, blends and all. Kernels, streams
and memory of real ones are not tried.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from vlmmerge.generate.limits import try_out

KIND = "pretended"
aten = torch.ops.aten
COPIES = (aten.copy_.default,)
# An index may come from the host.
INDEXED = (aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default)


class OnGpu(Tensor):
    """A tensor that says it is on a GPU; `inner` has its values, on the CPU."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor, device: torch.device | None = None, requires_grad: bool = False) -> Any:
        if device is None:  # as accelerate makes a parameter of another one's class
            return inner if isinstance(inner, OnGpu) else torch.nn.Parameter(inner, requires_grad=False)
        shape = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        with torch.inference_mode(False):
            made = Tensor._make_wrapper_subclass(cls, inner.size(), **shape, device=device)
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.inner.untyped_storage()

    def tolist(self) -> Any:
        return self.inner.tolist()

    def __repr__(self, **_: Any) -> str:
        return f"{self.inner} on {self.device}"


def gpu(number: int) -> torch.device:
    """A pretended GPU, within `try_with_gpus`."""
    return torch.device(KIND, number)


def try_with_gpus(task: Callable[[], object]) -> str:
    """Run a task with pretended GPUs, in a copy of this process, for torch cannot forget a kind of device.

    Returns:
        Why it failed; empty if it did not.
    """

    def with_gpus() -> None:
        torch.set_num_threads(1)
        _setup_privateuseone_for_python_backend(KIND)
        torch._C._set_only_lift_cpu_tensors(True)
        with torch.no_grad(), PretendedGpus():
            task()

    return try_out(with_gpus)


class PretendedGpus(TorchDispatchMode):
    """Within it, tensors can be made on GPUs and moved to them."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the CPU, if it could run where its tensors say that they are."""
    leaves, _ = tree_flatten((args, kwargs))
    tensors = [each for each in leaves if isinstance(each, Tensor)]
    wanted = [each for each in leaves if isinstance(each, torch.device)]
    place = wanted[0] if wanted else place_of(func, tensors)
    changed = {id(each.inner): each for each in tensors if isinstance(each, OnGpu)}

    def unwrap(each: Any) -> Any:
        if isinstance(each, torch.device) and each.type == KIND:
            return torch.device("cpu")
        return each.inner if isinstance(each, OnGpu) else each

    def wrap(each: Any) -> Any:
        if not isinstance(each, Tensor):
            return each
        if id(each) in changed and changed[id(each)].device == place:  # in place
            return changed[id(each)]
        is_moved = bool(wanted and tensors) and tensors[0].device != place
        each = each.clone() if is_moved else each
        return OnGpu(each, place) if place.type == KIND else each

    inner_args, inner_kwargs = tree_map(unwrap, (args, kwargs))
    return tree_map(wrap, func(*inner_args, **inner_kwargs))


def place_of(func: Any, tensors: list[Tensor]) -> torch.device:
    """Where an operation runs. It does not if its tensors, numbers apart, are in different places."""
    if func in COPIES or not tensors:
        return tensors[0].device if tensors else torch.device("cpu")
    counted = tensors[:1] if func in INDEXED else [each for each in tensors if each.ndim] or tensors
    places = {each.device for each in counted}
    if len(places) > 1:
        raise RuntimeError(f"{func}: tensors on {', '.join(sorted(map(str, places)))}")
    return counted[0].device
