"""A winner as an ordinary Hugging Face folder, with its card and its test, on the hub if wanted."""

from vlmmerge.export.folder import PROVENANCE, UNWATCHED, ExportWatcher, export, export_blend, num_bytes_written

__all__ = ["PROVENANCE", "UNWATCHED", "ExportWatcher", "export", "export_blend", "num_bytes_written"]
