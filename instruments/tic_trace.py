"""The Takeuchi information criterion, by traces."""

import torch

from cockpitlite.instrument import Instrument, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import CurvatureDiagonal, SecondMoments, wide_sum
from cockpitlite.statistics.gauss_newton import KINDS, Kind

EPSILON = 1e-7


class TicTrace(Instrument):
    """E‖g_n‖²/(Σ_j h_j + 1e-7), E the mean over samples, h a diagonal of the curvature (Thomas et al. 2020).

    The cheaper, steadier relative of TicDiag, with the same choices of h (arXiv:1906.07774). Free beside it.
    """

    panel = Panel(
        "TIC by traces",
        "curvature",
        scale="log",
        help="Takeuchi information criterion: total gradient noise over total curvature.",
    )
    preset = "business"
    order = 57

    def __init__(self, curvature: Kind = "ggn_mc") -> None:
        """Choose the diagonal."""
        if curvature not in KINDS:
            raise ValueError(f"curvature is one of {', '.join(KINDS)}; got {curvature!r}")
        self.curvature = curvature

    def read(self, moments: SecondMoments, diagonal: CurvatureDiagonal) -> Readings:
        """Return the criterion."""
        squares = torch.stack([wide_sum(q) for q in moments.squares]).sum() / moments.samples
        curvature = torch.stack([wide_sum(h) for h in diagonal(self.curvature)]).sum()
        return squares / (curvature + EPSILON)
