"""How far the step size is from the largest one at which the iteration is stable."""

from cockpitlite.instrument import Instrument, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import Stability


class EdgeOfStability(Instrument):
    """lr·λ_max over its stable limit; 1 is the edge (Cohen et al. 2021, arXiv:2103.00065; 2022, arXiv:2207.14484).

    SGD: lr·λ_max/2; with momentum β: lr(1 − dampening)λ_max/(2 + 2β), Nesterov's lr·λ_max(1 + 2β)/(2 + 2β). Adam:
    lr·λ_max(P⁻¹H)(1 − β1)/(2 + 2β1), P = (1 − β1^t)(√(v/(1 − β2^t)) + ε) of the step's own update; RMSprop and Adagrad
    likewise. Around 1 with full or large batches is normal; with small batches training stays below. In Adam's first
    1/(1 − β2) steps it means little. Where the optimizer rescales the gradient it costs as many Hessian products as
    HessMaxEv, else nothing beside that.
    """

    panel = Panel(
        "Edge of stability",
        "curvature",
        scale="log",
        marks=((1.0, "edge"),),
        help="Learning rate × sharpness over the stable limit of this optimizer. Hovering around 1 is normal for large "
        "batches.",
    )
    preset = "full"
    order = 52

    def read(self, stability: Stability) -> Readings:
        """Return the ratio."""
        return stability.ratio
