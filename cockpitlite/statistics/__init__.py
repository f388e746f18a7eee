"""Typed quantities of one training step; an instrument demands them by naming their types in ``read``."""

from cockpitlite.activity import has_rectifiers, has_squashers
from cockpitlite.precision import wide_sum
from cockpitlite.statistics.activations import Activations
from cockpitlite.statistics.binning import Tally, ascending, symmetric_log_edges
from cockpitlite.statistics.classes import ClassCounts
from cockpitlite.statistics.elements import Elements, PerSampleElements
from cockpitlite.statistics.gauss_newton import CurvatureDiagonal
from cockpitlite.statistics.gradient import ClippedGradient, MeanGradient
from cockpitlite.statistics.hessian import Hessian, Spectrum, Stability
from cockpitlite.statistics.line import Descent, NextBatchSlopes, SameBatchSlopes, StepLine
from cockpitlite.statistics.loss import BatchLoss, SampleLosses
from cockpitlite.statistics.moments import SecondMoments
from cockpitlite.statistics.motion import Displacement, Origin, Weights
from cockpitlite.statistics.parabola import ParabolaFit
from cockpitlite.statistics.preconditioner import Preconditioner
from cockpitlite.statistics.samples import PerSampleNorms, PerSampleProjections
from cockpitlite.statistics.settings import BatchSize, Costs, Scan, Settings
from cockpitlite.statistics.statistic import Statistic, Supply, Want
from cockpitlite.statistics.step import Line, Memory, Step, Unavailable

__all__ = [
    "Activations",
    "BatchLoss",
    "BatchSize",
    "ClassCounts",
    "ClippedGradient",
    "Costs",
    "CurvatureDiagonal",
    "Descent",
    "Displacement",
    "Elements",
    "Hessian",
    "Line",
    "MeanGradient",
    "Memory",
    "NextBatchSlopes",
    "Origin",
    "ParabolaFit",
    "PerSampleElements",
    "PerSampleNorms",
    "PerSampleProjections",
    "Preconditioner",
    "SameBatchSlopes",
    "SampleLosses",
    "Scan",
    "SecondMoments",
    "Settings",
    "Spectrum",
    "Stability",
    "Statistic",
    "Step",
    "StepLine",
    "Supply",
    "Tally",
    "Unavailable",
    "Want",
    "Weights",
    "ascending",
    "has_rectifiers",
    "has_squashers",
    "symmetric_log_edges",
    "wide_sum",
]
