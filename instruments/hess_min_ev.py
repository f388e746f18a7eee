"""The smallest eigenvalue of the Hessian."""

from cockpitlite.instrument import Instrument, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import Spectrum


class HessMinEv(Instrument):
    """λ_min of the batch loss's Hessian at θ_t; ``hess_min_ev_residual`` is ‖Hx − λx‖.

    Negative nearly always: the loss of a network bends downward in some direction. Far below 0 beside λ_max says that
    the iterate is near a saddle. An upper bound: at this end eigenvalues lie close together, and it takes many probes
    to tell them apart. Costs as many Hessian products as HessMaxEv, but none beside it on the first tracked step.
    """

    panel = Panel(
        "Smallest eigenvalue",
        "curvature",
        marks=((0.0, "flat"),),
        help="How strongly the loss bends downward in its most negative direction.",
    )
    preset = "full"
    order = 54

    def read(self, spectrum: Spectrum) -> Readings:
        """Return the eigenvalue and its residual."""
        found = spectrum.smallest
        return {"hess_min_ev": found.value, "hess_min_ev_residual": found.residual}
