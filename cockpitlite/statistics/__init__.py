"""Typed quantities of one training step; an instrument demands them by naming their types in ``read``."""

from cockpitlite.activity import has_rectifiers, has_squashers
from cockpitlite.precision import wide_sum
from cockpitlite.statistics.activations import Activations, IdleUnits
from cockpitlite.statistics.binning import Tally, ascending, symmetric_log_edges
from cockpitlite.statistics.classes import ClassCounts, Decisions, RowSums
from cockpitlite.statistics.elements import Elements, PerSampleElements
from cockpitlite.statistics.gauss_newton import CurvatureDiagonal
from cockpitlite.statistics.gradient import ClippedGradient, Clipping, MeanGradient, StaleGradient, ZeroGradient
from cockpitlite.statistics.hessian import Hessian, Spectrum, Stability
from cockpitlite.statistics.inputs import InputFingerprint, InputScale
from cockpitlite.statistics.line import Descent, NextBatchSlopes, SameBatchSlopes, StepLine
from cockpitlite.statistics.loss import BatchLoss, SampleLosses
from cockpitlite.statistics.moments import SecondMoments
from cockpitlite.statistics.motion import Displacement, Origin, Weights
from cockpitlite.statistics.parabola import ParabolaFit
from cockpitlite.statistics.preconditioner import Preconditioner
from cockpitlite.statistics.samples import PerSampleNorms, PerSampleProjections
from cockpitlite.statistics.settings import BatchSize, Costs, Occasion, Scan, Settings, Waiting
from cockpitlite.statistics.statistic import Statistic, Supply, Want
from cockpitlite.statistics.step import Line, Memory, Step, Unavailable
from cockpitlite.statistics.targets import RealTargets
from cockpitlite.statistics.weights import WeightSpread

__all__ = [
    "Activations",
    "BatchLoss",
    "BatchSize",
    "ClassCounts",
    "ClippedGradient",
    "Clipping",
    "Costs",
    "CurvatureDiagonal",
    "Decisions",
    "Descent",
    "Displacement",
    "Elements",
    "Hessian",
    "IdleUnits",
    "InputFingerprint",
    "InputScale",
    "Line",
    "MeanGradient",
    "Memory",
    "NextBatchSlopes",
    "Occasion",
    "Origin",
    "ParabolaFit",
    "PerSampleElements",
    "PerSampleNorms",
    "PerSampleProjections",
    "Preconditioner",
    "RealTargets",
    "RowSums",
    "SameBatchSlopes",
    "SampleLosses",
    "Scan",
    "SecondMoments",
    "Settings",
    "Spectrum",
    "Stability",
    "StaleGradient",
    "Statistic",
    "Step",
    "StepLine",
    "Supply",
    "Tally",
    "Unavailable",
    "Waiting",
    "Want",
    "WeightSpread",
    "Weights",
    "ZeroGradient",
    "ascending",
    "has_rectifiers",
    "has_squashers",
    "symmetric_log_edges",
    "wide_sum",
]
