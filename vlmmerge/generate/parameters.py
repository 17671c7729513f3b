"""A live model's parameters, wherever accelerate keeps them.

Knows accelerate's hooks. Does not know what the parameters are for.
"""

from typing import Any

from torch import Tensor


def live_parameters(model: Any) -> dict[str, Tensor]:
    """The parameters by name; those that share storage come once, under their first name.

    Of a layer that waits in host memory, the tensors that are sent to a GPU whenever it works: what is written to them
    is what it works with.
    """
    named = model.named_parameters()
    return {name: _waiting(model, name) if parameter.is_meta else parameter for name, parameter in named}


def _waiting(model: Any, name: str) -> Tensor:
    module, _, own = name.rpartition(".")
    hook = model.get_submodule(module)._hf_hook
    hooks = [each for each in getattr(hook, "hooks", [hook]) if getattr(each, "weights_map", None) is not None]
    tensor: Tensor = hooks[0].weights_map[own]
    return tensor
