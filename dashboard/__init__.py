"""The live page of a run file or a folder of run files; needs no torch."""

from __future__ import annotations

from cockpitlite.dashboard.app import create_app
from cockpitlite.dashboard.serving import serve

__all__ = ["create_app", "serve"]
