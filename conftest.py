"""Where there is no GPU, kernels are tested in Triton's interpreter, which Triton must know when it is first imported.

That is here, before tests/conftest.py: transformers imports Triton too.
"""

import importlib.util

import pytest
import torch

# No doctests are in them, and without Triton (it is for Linux) they cannot be imported.
collect_ignore = ["vlmmerge/blend/kernels.py", "vlmmerge/blend/device_cuts.py"]

if importlib.util.find_spec("triton"):
    with pytest.MonkeyPatch.context() as patch:
        if not torch.cuda.is_available():
            patch.setenv("TRITON_INTERPRET", "1")
        import vlmmerge.blend.kernels  # noqa: F401
