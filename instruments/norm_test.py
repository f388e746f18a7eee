"""The norm test."""

from cockpitlite.instrument import Instrument, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import MeanGradient, PerSampleNorms, Unavailable


class NormTest(Instrument):
    """sqrt(Σ‖g_n − g‖² / (N(N−1)‖g‖²)) (Byrd et al. 2012, eq. 3.9): the relative error of the mini-batch gradient.

    Below 1 the batch tells the direction; far above 1 the gradient is mostly noise, and a larger batch pays. Its square
    is the sum of the squares of the inner-product and the orthogonality test. Costs the per-sample norms.
    """

    panel = Panel(
        "Norm test",
        "gradients",
        scale="log",
        marks=((1.0, "noise equals signal"),),
        help="Relative error of the batch gradient. Above 1 it is mostly noise: a larger batch would pay.",
    )
    preset = "economy"
    order = 32

    def read(self, mean: MeanGradient, norms: PerSampleNorms) -> Readings:
        """Return the relative error."""
        if norms.samples < 2:
            raise Unavailable("the spread over samples is not defined for a batch of one", undefined=("norm_test",))
        pairs = norms.samples * (norms.samples - 1)
        return (norms.deviation / (pairs * mean.squared_norm)).clamp(min=0).sqrt()
