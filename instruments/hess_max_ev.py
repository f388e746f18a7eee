"""The largest eigenvalue of the Hessian."""

from cockpitlite.instrument import Instrument, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import Spectrum


class HessMaxEv(Instrument):
    """λ_max of the batch loss's Hessian at θ_t, the sharpness; ``hess_max_ev_residual`` is ‖Hx − λx‖.

    The largest eigenvalue, not the largest in magnitude. In full-batch gradient descent it climbs to 2/lr and stays
    there (Cohen et al. 2021, arXiv:2103.00065; see EdgeOfStability). Followed by Lanczos' method from the eigenvectors
    of the last probe: within a residual of the value there is an eigenvalue of H. Costs 32 Hessian products on the
    first tracked step and 16 on each later one, shared with HessMinEv.
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
