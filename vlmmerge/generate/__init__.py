"""One live VLM: pictures' features once, then answers in batches; nothing of a stranger's runs."""

from vlmmerge.generate.chat import LONGEST_CHAT, chat, check_template, load_processor
from vlmmerge.generate.features import Prompt
from vlmmerge.generate.live import LiveVlm, best_device

__all__ = ["LONGEST_CHAT", "LiveVlm", "Prompt", "best_device", "chat", "check_template", "load_processor"]
