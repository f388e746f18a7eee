"""What the model is given to train on."""

from cockpitlite.instrument import Instrument, Provided, Reading, Readings
from cockpitlite.statistics import InputFingerprint, InputScale, Occasion, RealTargets


class InputStatistics(Instrument):
    """Mean, standard deviation, minimum and maximum of the model's first floating-point input, as ``input_mean``,
    ``input_std``, ``input_min`` and ``input_max``.

    Networks are initialised for inputs with a mean near 0 and a standard deviation near 1. Where the input is a matrix
    ``[sample, feature]``, ``input_spread`` is the largest standard deviation of a feature over the smallest of those
    that vary at all: beyond 100, one learning rate does not suit all of them. Where the loss compares real numbers, by
    a function of `torch.nn`, ``target_mean`` and ``target_std`` are those of the targets, and ``target_each_std`` is
    the standard deviation over the samples, as root mean square over the outputs: its square is the squared error of
    guessing each output's mean. Over all forwards of the step together; unavailable where only whole numbers are given,
    such as tokens. Costs four passes over the input and four over the targets, on every fifth step of the diagnosis
    schedule.
    """

    name = "input_mean"
    preset = "economy"
    on_diagnosis_schedule = True
    order = 94

    def read(self, inputs: InputScale, targets: RealTargets, occasion: Occasion) -> Readings:
        """Return what is known of the scales."""
        if not occasion.regular:
            return {}
        least, most = inputs.range
        readings: dict[str, Reading | Provided] = {
            "input_mean": inputs.mean,
            "input_std": inputs.std,
            "input_min": least,
            "input_max": most,
        }
        if inputs.spread is not None:
            readings["input_spread"] = inputs.spread
        if targets.known:
            readings |= {"target_mean": targets.mean, "target_std": targets.std}
            if targets.each_std is not None:
                readings["target_each_std"] = targets.each_std
        return readings


class Fingerprint(Instrument):
    """A checksum of the model's first input: equal for equal batches, and for no others that will ever be met.

    The same number step after step is the same batch again and again. A whole number below 2^51 in magnitude, exact in
    the run file, that nothing can be read from but whether it is another. Costs three passes over the input, on the
    diagnosis schedule only.
    """

    name = "input_fingerprint"
    preset = "economy"
    on_diagnosis_schedule = True
    order = 94

    def read(self, fingerprint: InputFingerprint) -> Readings:
        """Return the checksum."""
        return fingerprint.value
