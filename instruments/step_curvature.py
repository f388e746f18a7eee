"""The curvature of the batch loss along the step and along the gradient."""

from cockpitlite.instrument import Instrument, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import Displacement, Hessian


class StepCurvature(Instrument):
    """dᵀHd/‖d‖² along the step d and, as ``grad_curvature``, gᵀHg/‖g‖² along the gradient, at the start of the step.

    Exact second derivatives on the step's own batch, where ``alpha_curvature`` is fitted through two batches. lr times
    the second is 1 where one step of plain SGD ends at the bottom of its line. Costs two Hessian products.
    """

    panel = Panel(
        "Curvature of the batch loss",
        "curvature",
        readings=("step_curvature", "grad_curvature"),
        marks=((0.0, "flat"),),
        help="Second derivative of the batch's loss along the step that was taken, and along the gradient.",
    )
    preset = "business"
    order = 26

    def read(self, hessian: Hessian, step: Displacement) -> Readings:
        """Return both Rayleigh quotients; NaN along a vector of length zero."""
        return {"step_curvature": hessian.along(step.each), "grad_curvature": hessian.along(hessian.gradient())}
