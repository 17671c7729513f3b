"""One live VLM: pictures' features once, then answers in batches; nothing of a stranger's runs."""

from vlmmerge.generate.attention import choose_attention
from vlmmerge.generate.chat import LONGEST_CHAT, chat, check_template, load_processor
from vlmmerge.generate.features import Prompt
from vlmmerge.generate.live import LiveVlm
from vlmmerge.generate.parameters import live_parameters
from vlmmerge.generate.placement import best_device, device_of

__all__ = [
    "LONGEST_CHAT",
    "LiveVlm",
    "Prompt",
    "best_device",
    "chat",
    "check_template",
    "choose_attention",
    "device_of",
    "live_parameters",
    "load_processor",
]
