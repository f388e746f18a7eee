"""The simple gradient noise scale."""

from cockpitlite.instrument import Instrument, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import MeanGradient, PerSampleNorms, Unavailable


class NoiseScale(Instrument):
    """tr(Σ)/‖G‖², both parts unbiased (McCandlish et al. 2018, arXiv:1812.06162, eq. 2.9).

    Σ is the covariance of single samples' gradients and G the gradient of the whole data. It is about the batch size
    beyond which more data parallelism stops paying. The parts are readings of their own, ``noise_trace`` and
    ``grad_signal``: smooth them first and divide last, since a single step's ratio can be negative. Costs the
    per-sample norms.
    """

    panel = Panel(
        "Gradient noise scale",
        "gradients",
        unit="samples",
        scale="log",
        ratio=("noise_trace", "grad_signal"),
        help="About the batch size beyond which larger batches stop paying. Negative in a single step where the signal "
        "is lost in the noise; the smooth line divides smoothed parts.",
    )
    preset = "economy"
    order = 35

    def read(self, mean: MeanGradient, norms: PerSampleNorms) -> Readings:
        """Return the ratio and its parts."""
        if norms.samples < 2:
            raise Unavailable(
                "the spread over samples is not defined for a batch of one",
                undefined=("noise_scale", "noise_trace", "grad_signal"),
            )
        trace = norms.deviation / (norms.samples - 1)
        signal = mean.squared_norm - trace / norms.samples
        return {"noise_scale": trace / signal, "noise_trace": trace, "grad_signal": signal}
