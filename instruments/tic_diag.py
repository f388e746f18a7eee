"""The Takeuchi information criterion, by diagonals."""

import torch

from cockpitlite.instrument import Instrument, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import CurvatureDiagonal, SecondMoments, wide_sum
from cockpitlite.statistics.gauss_newton import KINDS, Kind

EPSILON = 1e-7


class TicDiag(Instrument):
    """Σ_j E[g_nj²]/(h_j + 1e-7), E the mean over samples, h a diagonal of the curvature (Thomas et al. 2020).

    The Takeuchi information criterion weighs gradient noise against curvature and estimates the gap between training
    and test loss (arXiv:1906.07774). By default h is the diagonal of the generalised Gauss-Newton matrix from drawn
    labels, at least 64 a step (an estimate, never negative); ``ggn_exact`` or ``diag_h`` on request. Depends on the
    scale of the loss through its ε. Costs the elementwise second moments and the diagonal.
    """

    panel = Panel(
        "TIC by diagonals",
        "curvature",
        scale="log",
        help="Takeuchi information criterion: gradient noise over curvature, element by element; about the "
        "generalisation gap.",
    )
    preset = "business"
    order = 56

    def __init__(self, curvature: Kind = "ggn_mc") -> None:
        """Choose the diagonal."""
        if curvature not in KINDS:
            raise ValueError(f"curvature is one of {', '.join(KINDS)}; got {curvature!r}")
        self.curvature = curvature

    def read(self, moments: SecondMoments, diagonal: CurvatureDiagonal) -> Readings:
        """Return the criterion."""
        pairs = zip(moments.squares, diagonal(self.curvature), strict=True)
        parts = [wide_sum(q / moments.samples / (h + EPSILON)) for q, h in pairs]
        return torch.stack(parts).sum()
