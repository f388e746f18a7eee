"""The normalized step length, from a noise-aware fit of a parabola to both ends of the step."""

from cockpitlite.instrument import Instrument, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import ParabolaFit, StepLine


class Alpha(Instrument):
    """How far the step went towards the minimum of the loss along its own direction (Schneider et al. 2021).

    A parabola w0 + w1 x + w2 x² is fitted by weighted least squares to the loss and its slope at both ends of the step,
    the start on the step's batch and the end on the next one: α = τ/x* − 1, x* the parabola's minimiser, τ the length
    of the step (arXiv:2102.06604). −1: no progress; 0: at the minimum; 1: on the other side, as high as before; above
    1: uphill.

    Mini-batch noise pulls it towards 0 for small learning rates (see AlphaSame, which does not have this bias).
    A parabola without a minimum gives −1; the curvature (see AlphaCurvature) tells this case. ``alpha_std`` is the
    standard error of α from the covariance of the fit. Where the spread over the samples is not known or is zero, α is
    the negative ratio of the slopes. NaN where the step had no length. The last step of a run has none.

    Costs two projections of the per-sample gradients.
    """

    panel = Panel(
        "Normalized step length α",
        "step size",
        kind="parabola",
        marks=((-1.0, "no progress"), (0.0, "minimum"), (1.0, "other side")),
        help="Position on the parabola along the step: −1 no progress, 0 at the minimum, 1 on the other side. Start "
        "and end of the step are measured on different batches: gradient noise pulls it towards 0.",
    )
    preset = "economy"
    order = 20

    def read(self, fit: ParabolaFit, line: StepLine) -> Readings:
        """Return α, its standard error, and the observations that were fitted."""
        readings = {"alpha": fit.position, "alpha_std": fit.standard_error}
        observed = {
            "f0": (line.loss_start, line.loss_start_variance),
            "f1": (line.loss_end, line.loss_end_variance),
            "d0": (line.slope_start, line.slope_start_variance),
            "d1": (line.slope_end, line.slope_end_variance),
        }
        for name, (value, variance) in observed.items():
            readings |= {f"alpha_{name}": fit.known(value), f"alpha_{name}_var": fit.known(variance)}
        return readings
