"""Graft a Japanese language model into a vision-language model, without training."""

__version__ = "0.1.0"
