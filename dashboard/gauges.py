"""The gauges that stand above the charts of some kinds of panels, each drawn by a file of its own."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from cockpitlite.dashboard import gauge, noise
from cockpitlite.dashboard.readings import Readings
from cockpitlite.diagnosis.advice import Advice
from cockpitlite.panel import Panel

KINDS = ("parabola", "tests")


def has_one(panel: Panel) -> bool:
    """Whether a gauge belongs to a panel."""
    return panel.kind in KINDS


def figure(panel: Panel, readings: Readings, advice: Advice | None = None) -> go.Figure:
    """Return a panel's gauge."""
    if panel.kind == "tests":
        return noise.figure(panel, readings)
    return gauge.figure(panel, readings, gauge.advised(panel, advice))


def traces(panel: Panel, readings: Readings, advice: Advice | None = None) -> list[dict[str, Any]]:
    """Return what of a gauge changes while its run goes on."""
    if panel.kind == "tests":
        return noise.traces(panel, readings)
    return gauge.traces(panel, gauge.dial(panel, readings), gauge.advised(panel, advice))


def headline(panel: Panel, readings: Readings) -> float:
    """Return the median of the newest tenth, NaN where there is none."""
    return noise.headline(panel, readings) if panel.kind == "tests" else gauge.dial(panel, readings).median


def caption(panel: Panel, readings: Readings, advice: Advice | None = None) -> str:
    """Return what a gauge leaves out, in words, advice first."""
    if panel.kind == "tests":
        return noise.caption(panel, readings)
    return gauge.caption(panel, readings, gauge.advised(panel, advice))


def description(panel: Panel, readings: Readings) -> str:
    """Return what a gauge shows beside its headline, for those who do not see it."""
    return noise.description(panel, readings) if panel.kind == "tests" else ""


def told(panel: Panel, advice: Advice | None) -> str:
    """Return what the gauge of a panel advises, empty where nothing."""
    found = gauge.advised(panel, advice) if panel.kind == "parabola" else None
    return "" if found is None else found.words
