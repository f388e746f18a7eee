"""The orthogonality test."""

from cockpitlite.instrument import Instrument, Readings
from cockpitlite.instruments.norm_test import TESTS
from cockpitlite.statistics import MeanGradient, PerSampleNorms, PerSampleProjections, Unavailable


class OrthoTest(Instrument):
    """sqrt(Σ‖g_n − (g_nᵀg/‖g‖²) g‖² / (N(N−1)‖g‖²)) (Bollapragada et al. 2017, eq. 3.3): the error across the gradient.

    Costs the per-sample norms and one projection.
    """

    panel = TESTS
    preset = "economy"
    order = 34

    def read(self, mean: MeanGradient, norms: PerSampleNorms, projections: PerSampleProjections) -> Readings:
        """Return the relative error across the mean gradient."""
        if norms.samples < 2:
            raise Unavailable("the spread over samples is not defined for a batch of one", undefined=("ortho_test",))
        pairs = norms.samples * (norms.samples - 1)
        across = norms.deviation - projections.deviation / mean.squared_norm
        return (across / (pairs * mean.squared_norm)).clamp(min=0).sqrt()
