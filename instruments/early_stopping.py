"""The evidence-based criterion for stopping early."""

from cockpitlite.instrument import Instrument, Layered, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import MeanGradient, SecondMoments, Unavailable

EPSILON = 1e-5


class EarlyStopping(Instrument):
    """1 − (N/D) Σ_j g_j² / (S_jj + 1e-5), S_jj the unbiased variance over the samples (Mahsereci et al. 2017, eq. 7).

    Above 0 the gradient is no larger than the noise alone would make it: what is still being fitted may be noise
    (arXiv:1703.09580). Per tensor the sum and D are the tensor's. Depends on the scale of the loss through its ε. With
    ``samples=K`` it is a plug-in estimate. Costs the elementwise second moments.
    """

    panel = Panel(
        "Early stopping",
        "gradients",
        layered=True,
        healthy=(None, 0.0),
        marks=((0.0, "stop above"),),
        help="Above 0 the gradient is no larger than sampling noise explains: further training may fit noise.",
    )
    preset = "business"
    order = 38

    def read(self, mean: MeanGradient, moments: SecondMoments) -> Readings:
        """Return the criterion for all parameters and for each tensor."""
        samples = moments.samples
        if samples < 2:
            raise Unavailable(
                "the spread over samples is not defined for a batch of one", undefined=("early_stopping",)
            )
        pairs = zip(mean.each, moments.deviations, strict=True)
        total, layers = moments.means([g.square() / (d / (samples - 1) + EPSILON) for g, d in pairs])
        return Layered(1 - samples * total, moments.names, 1 - samples * layers)
