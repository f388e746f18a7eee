"""How the outputs of the layers are distributed."""

from torch import nn

from cockpitlite.instrument import Instrument, Layered, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import Activations as Outputs
from cockpitlite.statistics import has_rectifiers, has_squashers


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
    large leaves behind. NaN for layers of other kinds, unavailable without any. Costs one pass over the outputs.
    """

    panel = Panel(
        "Dead units",
        "performance",
        layered=True,
        healthy=(None, 0.5),
        help="Share of the units of each ReLU layer that are 0 on every sample of the batch.",
    )
    preset = "full"
    order = 85

    @classmethod
    def applies_to(cls, model: nn.Module) -> bool:
        """Whether the model has a ReLU module."""
        return has_rectifiers(model)

    def read(self, outputs: Outputs) -> Readings:
        """Return the share of each layer that can have dead units, and their mean."""
        return Layered(outputs.dead.nanmean(), outputs.names, outputs.dead)


class SaturatedUnits(Instrument):
    """The share of a layer's outputs beyond ±0.97 for a tanh, outside 0.02 to 0.98 for a sigmoid.

    There the slope is nearly 0 and gradients vanish on the way back. NaN for layers of other kinds. Costs one pass over
    the outputs.
    """

    panel = Panel(
        "Saturated units",
        "performance",
        layered=True,
        healthy=(None, 0.5),
        help="Share of the outputs of each tanh or sigmoid layer where its slope is nearly 0.",
    )
    preset = "full"
    order = 86

    @classmethod
    def applies_to(cls, model: nn.Module) -> bool:
        """Whether the model has a tanh or sigmoid module."""
        return has_squashers(model)

    def read(self, outputs: Outputs) -> Readings:
        """Return the share of each layer that can saturate, and their mean."""
        return Layered(outputs.saturated.nanmean(), outputs.names, outputs.saturated)
