"""The learning rate."""

import torch
from torch import Tensor

from cockpitlite.instrument import Instrument, Layered, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import Settings


class LearningRate(Instrument):
    """The learning rate that each parameter group used in the step; its series is the first group's. Free."""

    panel = Panel(
        "Learning rate",
        "step size",
        scale="log",
        layered=True,
        per="group",
        steady=True,
        help="As used by the step, after any scheduler. One line per parameter group.",
    )
    preset = "economy"
    on_both_schedules = True  # the diagnosis must know a warm-up from a constant rate
    order = 60

    def read(self, settings: Settings) -> Readings:
        """Return the rate of each group."""
        each = [group.get("lr", float("nan")) for group in settings.groups]
        kept = next((rate for rate in each if isinstance(rate, Tensor)), None)  # a capturable optimizer's on the device
        rates = each if kept is None else torch.stack([_beside(kept, rate) for rate in each])
        return Layered(rates[0], [str(index) for index in range(len(settings.groups))], rates)


def _beside(kept: Tensor, rate: Tensor | float) -> Tensor:
    return torch.as_tensor(rate, dtype=kept.dtype).to(kept.device, non_blocking=True)
