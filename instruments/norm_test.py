"""The norm test."""

from cockpitlite.instrument import Instrument, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import MeanGradient, PerSampleNorms, Unavailable

TESTS = Panel(
    "Gradient tests",
    "gradients",
    name="gradient_tests",
    kind="tests",
    scale="log",
    healthy=(None, 0.95),  # above, nine tenths of the squared length are noise
    help="Relative error of the batch gradient: as a whole (norm test), along its own direction (inner test: do the "
    "samples agree that it is downhill?) and across it (ortho test). The square of the whole is the share of its "
    "squared length that is noise: from half on a larger batch would pay, and near 1 the other two tell nothing.",
)


class NormTest(Instrument):
    """sqrt(Σ‖g_n − g‖² / (N(N−1)‖g‖²)) (Byrd et al. 2012, eq. 3.9): the relative error of the mini-batch gradient.

    Up to about 0.95 the batch tells the direction. Its square is the share of ‖g‖² that is noise: at 0.71 as much noise
    as signal, with the batch as large as the noise scale (see NoiseScale), and more where a larger batch pays. A batch
    of nothing but noise has about 1, seldom much more, as g holds the noise too. The square is also the sum of the
    squares of the inner-product and the orthogonality test. Costs the per-sample norms.
    """

    panel = TESTS
    preset = "economy"
    order = 32

    def read(self, mean: MeanGradient, norms: PerSampleNorms) -> Readings:
        """Return the relative error."""
        if norms.samples < 2:
            raise Unavailable("the spread over samples is not defined for a batch of one", undefined=("norm_test",))
        pairs = norms.samples * (norms.samples - 1)
        return (norms.deviation / (pairs * mean.squared_norm)).clamp(min=0).sqrt()
