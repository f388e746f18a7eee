"""How the outputs of the layers are distributed."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cockpitlite.instrument import Instrument, Layered, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import Activations as Outputs
from cockpitlite.statistics import IdleUnits, Unavailable, has_rectifiers, has_squashers


class Activations(Instrument):
    """Mean and spread of every layer's output, as ``activation_mean`` and ``activation_std``.

    Neither should vanish nor explode from layer to layer. Totals are means over the layers: modules without parts, in
    the order they are called; functions such as ``F.relu`` are not seen. Costs one pass over the outputs.
    """

    panel = Panel(
        "Spread of activations",
        "performance",
        scale="log",
        layered=True,
        readings=("activation_std",),
        help="Standard deviation of each layer's output over the batch: it should not vanish or explode with depth.",
    )
    preset = "full"
    order = 84

    def read(self, outputs: Outputs) -> Readings:
        """Return mean and spread of each layer."""
        return {
            "activation_mean": Layered(outputs.means.mean(), outputs.names, outputs.means),
            "activation_std": Layered(outputs.spreads.mean(), outputs.names, outputs.spreads),
        }


class DeadUnits(Instrument):
    """The share of a ReLU layer's units that are 0 on the whole batch: features, or channels over all positions.

    More than half of a layer means that it learns little; nearly all that it is dead, which a learning rate once too
    large leaves behind. Only of layers that are a ReLU, and unavailable without any. Costs one pass over the outputs,
    on the diagnosis schedule only.
    """

    panel = Panel(
        "Dead units",
        "performance",
        layered=True,
        healthy=(None, 0.5),
        help="Share of the units of each ReLU layer that are 0 on every sample of the batch.",
    )
    preset = "economy"
    on_diagnosis_schedule = True
    order = 85

    @classmethod
    def applies_to(cls, model: nn.Module) -> bool:
        """Whether the model has a ReLU module."""
        return has_rectifiers(model)

    def read(self, units: IdleUnits) -> Readings:
        """Return the share of each ReLU, and their mean."""
        return _layered(units.dead, "no ReLU was called in this step")


class SaturatedUnits(Instrument):
    """The share of a layer's outputs beyond ±0.97 for a tanh, outside 0.02 to 0.98 for a sigmoid.

    There the slope is nearly 0 and gradients vanish on the way back. Only of layers of these kinds, and unavailable
    without any. Costs one pass over the outputs, on the diagnosis schedule only.
    """

    panel = Panel(
        "Saturated units",
        "performance",
        layered=True,
        healthy=(None, 0.5),
        help="Share of the outputs of each tanh or sigmoid layer where its slope is nearly 0.",
    )
    preset = "economy"
    on_diagnosis_schedule = True
    order = 86

    @classmethod
    def applies_to(cls, model: nn.Module) -> bool:
        """Whether the model has a tanh or sigmoid module."""
        return has_squashers(model)

    def read(self, units: IdleUnits) -> Readings:
        """Return the share of each layer that can saturate, and their mean."""
        return _layered(units.saturated, "no tanh or sigmoid was called in this step")


def _layered(shares: Mapping[str, Tensor], otherwise: str) -> Layered:
    if not shares:
        raise Unavailable(otherwise)
    values = torch.stack(list(shares.values()))
    return Layered(values.mean(), list(shares), values)
