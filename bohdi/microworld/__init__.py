"""The micro-world: a test bed of tiny models with exactly checkable questions, shipped with the package."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the shipped models (`qwen`, `mistral`, `phi`, `target`), as `build` writes it."""

BENCHMARK = WEIGHTS / "heldout.jsonl"
"""The shipped held-out questions: one JSON object a line with `question`, `answer` and `path`."""
