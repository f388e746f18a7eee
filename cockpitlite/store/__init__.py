"""The run file: one SQLite database per run, written by one process and read by any number, and all of its SQL.

NaN is stored as NULL (SQLite has no NaN); infinities are kept. Nothing in the file is ever executed or unpickled.
"""

from cockpitlite.store.afterwards import describe_further
from cockpitlite.store.connection import explained
from cockpitlite.store.contents import (
    LIVE_SECONDS,
    MOST_BINS,
    SUFFIX,
    Column,
    Event,
    Histogram,
    RunFileError,
    Steps,
    Values,
)
from cockpitlite.store.liveness import is_live, is_there, this_process
from cockpitlite.store.pyramid import Outline
from cockpitlite.store.run import Run, find_runs, load
from cockpitlite.store.stretches_by_layer import LayerStretches
from cockpitlite.store.wholeness import log_of
from cockpitlite.store.writer import RunWriter

__all__ = [
    "LIVE_SECONDS",
    "MOST_BINS",
    "SUFFIX",
    "Column",
    "Event",
    "Histogram",
    "LayerStretches",
    "Outline",
    "Run",
    "RunFileError",
    "RunWriter",
    "Steps",
    "Values",
    "describe_further",
    "explained",
    "find_runs",
    "is_live",
    "is_there",
    "load",
    "log_of",
    "this_process",
]
