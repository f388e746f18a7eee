"""Attributes of HTML elements whose names Python cannot spell."""

from __future__ import annotations

from typing import Any


def attributes(**words: str) -> Any:
    """Return attributes whose names have a hyphen, written with an underscore: ``aria_label`` is ``aria-label``."""
    return {name.replace("_", "-"): word for name, word in words.items()}
