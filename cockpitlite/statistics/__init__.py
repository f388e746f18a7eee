"""Typed quantities of one training step; an instrument demands them by naming their types in ``read``."""

from cockpitlite.statistics.gradient import ClippedGradient, MeanGradient
from cockpitlite.statistics.line import Descent, NextBatchSlopes, SameBatchSlopes, StepLine
from cockpitlite.statistics.loss import BatchLoss, SampleLosses
from cockpitlite.statistics.motion import Displacement, Origin, Weights
from cockpitlite.statistics.parabola import ParabolaFit
from cockpitlite.statistics.samples import PerSampleNorms, PerSampleProjections
from cockpitlite.statistics.settings import BatchSize, Costs, Scan, Settings
from cockpitlite.statistics.statistic import Statistic, Supply, Want
from cockpitlite.statistics.step import Line, Step, Unavailable

__all__ = [
    "BatchLoss",
    "BatchSize",
    "ClippedGradient",
    "Costs",
    "Descent",
    "Displacement",
    "Line",
    "MeanGradient",
    "NextBatchSlopes",
    "Origin",
    "ParabolaFit",
    "PerSampleNorms",
    "PerSampleProjections",
    "SameBatchSlopes",
    "SampleLosses",
    "Scan",
    "Settings",
    "Statistic",
    "Step",
    "StepLine",
    "Supply",
    "Unavailable",
    "Want",
    "Weights",
]
