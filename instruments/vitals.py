"""Whether the run is alive and how fast, and what watching it costs."""

import math

from cockpitlite.instrument import Instrument, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import BatchSize, Costs, Scan, Waiting


class Vitals(Instrument):
    """The first non-finite value with its place, the panel's own share of the time, and the memory in use.

    Demanding the scan makes tracked steps look at every input, parameter, layer output, loss, gradient and update; the
    first non-finite one becomes an event of the run. ``cost_share`` is what watching has cost of the time of training
    over the last 500 steps, without pauses such as a validation: the time by which tracked steps exceed the usual
    untracked one, what the hooks of untracked steps take, and what the thread takes that writes. Where every step is
    tracked there is nothing to compare with, and it is the time that our own code takes. ``memory`` is in bytes: on a
    GPU the most that tensors have taken, else what the process holds. Costs one pass over the activations.
    """

    panel = Panel(
        "Cost of watching",
        "performance",
        unit="share of time",
        readings=("cost_share",),
        help="What watching takes of the time of training, over the last 500 steps; a validation does not count.",
    )
    preset = "economy"
    order = 90

    def read(self, scan: Scan, costs: Costs) -> Readings:
        """Return the costs; what the scan found is told as an event."""
        return {"cost_share": costs.share, "memory": costs.memory}


class Interval(Instrument):
    """The steps from the last tracked step to this one: what the schedule has come to; none on the first. Free."""

    panel = Panel(
        "Steps between tracked steps",
        "performance",
        unit="steps",
        steady=True,
        help="How often the panel is measured; by default as often as the allowed share of the time pays for.",
    )
    preset = "economy"
    order = 90

    def read(self, costs: Costs) -> Readings:
        """Return the steps since the last tracked one."""
        return {} if math.isnan(costs.interval) else {"interval": costs.interval}


class Throughput(Instrument):
    """Samples per second, over the last 200 steps, watching included; and the GPU's ``joules_per_sample``.

    Energy is NVML's count since the last tracked step, where there is an NVIDIA GPU and ``nvidia-ml-py`` is installed;
    elsewhere there is no such reading. None on the first step. Free.
    """

    panel = Panel(
        "Throughput",
        "performance",
        unit="samples/s",
        readings=("samples_per_second",),
        help="Samples that training passes through in a second, everything included.",
    )
    preset = "economy"
    order = 91

    def read(self, costs: Costs, batch: BatchSize) -> Readings:
        """Return samples per second, and joules per sample where they can be known."""
        if math.isnan(costs.step_seconds):
            return {}
        readings: dict[str, float] = {"samples_per_second": batch.samples / costs.step_seconds}
        if not math.isnan(costs.watts):
            readings["joules_per_sample"] = costs.watts * costs.step_seconds / batch.samples
        return readings


class DataWait(Instrument):
    """The share of the time of training, over the last 200 steps, between a step's end and the next forward.

    It goes to loading, preparing and moving data, and to whatever else the loop does there. Gradient accumulation
    counts up to the first forward. Left out are evaluations of the model and pauses of more than 16 usual steps. On a
    GPU it is the time in which the device stood idle, or moved data: a loop that waits for a number of the last step
    keeps no device waiting. None in the first two steps; unavailable without the model. Free.
    """

    panel = Panel(
        "Waiting for data",
        "performance",
        unit="share of time",
        healthy=(None, 0.5),
        help="The time between a step and the next forward. Above half, training waits more than it computes.",
    )
    preset = "economy"
    order = 91

    def read(self, waiting: Waiting) -> Readings:
        """Return the share; none while it is unknown."""
        return {} if math.isnan(waiting.share) else {"data_wait": waiting.share}
