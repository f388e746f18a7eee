"""The largest eigenvalue of the Hessian."""

from cockpitlite.instrument import Instrument, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import Spectrum


class HessMaxEv(Instrument):
    """λ_max of the batch loss's Hessian at θ_t, the sharpness; ``hess_max_ev_residual`` is ‖Hx − λx‖.

    The largest eigenvalue, not the largest in magnitude. In full-batch gradient descent it climbs to 2/lr and stays
    there (Cohen et al. 2021, arXiv:2103.00065; see EdgeOfStability). Followed from the steepest directions of the last
    probe: never above the largest eigenvalue but for rounding, and within a residual there is an eigenvalue of H. Where
    another direction takes the lead, a step may fall short. Costs 32 Hessian products on the first tracked step and 5
    on each later one (16 up to 4096 parameters).
    """

    panel = Panel(
        "Largest eigenvalue",
        "curvature",
        scale="log",
        help="Sharpness: how strongly the loss curves upward in the steepest direction.",
    )
    preset = "full"
    order = 53

    def read(self, spectrum: Spectrum) -> Readings:
        """Return the eigenvalue and its residual."""
        found = spectrum.largest
        return {"hess_max_ev": found.value, "hess_max_ev_residual": found.residual}
