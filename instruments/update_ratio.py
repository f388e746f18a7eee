"""The length of the step beside the length of the weights."""

from cockpitlite.instrument import Instrument, Layered, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import Displacement, Weights


class UpdateRatio(Instrument):
    """‖d‖/‖θ‖ per tensor and in total: for comparing layers, and for extremes.

    At the best learning rates it was measured between 0.004 and 0.08, so the often quoted 1e-3 is no target. Below 1e-5
    a tensor practically stands still, above 0.1 it is rewritten. Infinite for a tensor of zeros that moved. Costs one
    pass over the parameters.
    """

    panel = Panel(
        "Update / weight",
        "step size",
        scale="log",
        layered=True,
        healthy=(1e-5, 0.1),
        help="Length of the step over the length of the weights. Compare layers with each other; below 1e-5 a layer "
        "stands still, above 0.1 it is rewritten.",
    )
    preset = "economy"
    order = 41

    def read(self, step: Displacement, weights: Weights) -> Readings:
        """Return the ratios."""
        return Layered(step.norms.norm() / weights.norms.norm(), step.names, step.norms / weights.norms)
