"""One live VLM: pictures' features once, then answers in batches; nothing of a stranger's runs."""

from vlmmerge.generate.features import Prompt
from vlmmerge.generate.live import LONGEST_CHAT, LiveVlm, best_device, chat, check_template, load_processor

__all__ = ["LONGEST_CHAT", "LiveVlm", "Prompt", "best_device", "chat", "check_template", "load_processor"]
