"""The trace of the Hessian."""

from typing import Literal, get_args

import torch

from cockpitlite.instrument import Instrument, Layered, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import CurvatureDiagonal, Hessian, wide_sum

Curvature = Literal["hessian", "hutchinson", "ggn_mc", "ggn_exact", "diag_h"]


class HessTrace(Instrument):
    """tr H of the batch loss at θ_t, per tensor and in total: the sum of all curvatures.

    Large and growing says that the loss gets sharper all around. Always unbiased by default: where the model is linear
    in each tensor but for kinks (rectifiers, convolutions, pooling; no normalisation, no attention) the trace is that
    of the generalised Gauss-Newton matrix, known well from one backward of labels drawn from the model's own
    distribution. Elsewhere it is ``hutchinson``, vᵀHv with random signs v, of which ``probes`` are averaged, one
    Hessian product each. ``hess_trace_std`` bounds the standard error: by how much the draws scatter, or by ‖Hv‖ of
    this step or, where that is larger, of those before. ``ggn_mc``, ``ggn_exact`` and ``diag_h`` sum a diagonal
    instead: of the generalised Gauss-Newton matrix, drawn or exact, or of the Hessian (by BackPACK).
    """

    panel = Panel(
        "Trace of the Hessian",
        "curvature",
        layered=True,
        help="Sum of the curvatures of the batch loss in all directions, per tensor and in total.",
    )
    preset = "business"
    order = 50

    def __init__(self, curvature: Curvature = "hessian", probes: int = 1) -> None:
        """Choose the matrix and how it is measured; ``probes`` count for Hutchinson's estimate only."""
        if curvature not in get_args(Curvature):
            raise ValueError(f"curvature is one of {', '.join(get_args(Curvature))}; got {curvature!r}")
        if not isinstance(probes, int) or probes < 1:
            raise ValueError(f"probes is a number of random vectors, at least 1; got {probes!r}")
        self.curvature = curvature
        self.probes = probes

    def read(self, hessian: Hessian, diagonal: CurvatureDiagonal) -> Readings:
        """Return the trace of each tensor and their sum."""
        if self.curvature == "hessian" or self.curvature == "hutchinson":
            known = diagonal.trace_of_hessian() if self.curvature == "hessian" else None
            found = hessian.trace(self.probes) if known is None else known
            trace = Layered(found.total, hessian.names, found.by_tensor)
            return {"hess_trace": trace, "hess_trace_std": found.standard_error}
        traces = torch.stack([wide_sum(part) for part in diagonal(self.curvature)])
        return Layered(traces.sum(), hessian.names, traces)
