"""The gradient's signal-to-noise ratio, averaged over the parameters."""

from cockpitlite.instrument import Instrument, Layered, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import MeanGradient, SecondMoments

EPSILON = 1e-5


class MeanGsnr(Instrument):
    """(1/D) Σ_j g_j² / (var_j + 1e-5), var_j the biased variance over the samples (Liu et al. 2020, arXiv:2001.07384).

    Large: the samples agree about most parameters, and what is learnt carries over to unseen data. It falls as training
    goes on. Per tensor it is the mean over the tensor. Depends on the scale of the loss through its ε. With
    ``samples=K`` it is a plug-in estimate. Costs the elementwise second moments.
    """

    panel = Panel(
        "Mean GSNR",
        "gradients",
        scale="log",
        layered=True,
        help="Squared gradient over its variance across samples, averaged over parameters: high where they agree.",
    )
    preset = "business"
    order = 36

    def read(self, mean: MeanGradient, moments: SecondMoments) -> Readings:
        """Return the mean over all parameters and over each tensor."""
        pairs = zip(mean.each, moments.deviations, strict=True)
        total, layers = moments.means([g.square() / (d / moments.samples + EPSILON) for g, d in pairs])
        return Layered(total, moments.names, layers)
