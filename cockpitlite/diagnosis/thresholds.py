"""Every number a rule compares with, in one place, each with where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

Family = Literal["sgd", "momentum", "adam", "other"]

# The calibration runs: 11 small problems, three optimizers, 11 to 16 constant learning rates, 1 to 3 seeds.
FITTED = "fitted on 734 labelled runs of at most 400 steps"
CHOSEN = "chosen, not fitted"
TOYS = "chosen on 522 runs of small problems in numpy, 360 of them with a tiny rate (6 of which seemed to blow up)"


class Threshold(float):
    """A number that knows its provenance; it computes like any other number."""

    provenance: str

    def __new__(cls, value: float, provenance: str) -> Self:  # noqa: D102  # a float is made here, not in __init__
        number = super().__new__(cls, value)
        number.provenance = provenance
        return number


@dataclass(frozen=True)
class Pair:
    """Limits of the two paired step lengths: on the step's own batch and on the next one."""

    same: Threshold
    next: Threshold


# Too large: the loss blows up.
BLOW_UP_STEPS = (
    100  # nine in ten blow-ups of the calibration runs had happened by step 9; afterwards nothing shows them
)
BLOW_UP_SHARE = Threshold(0.2, f"{FITTED}: part of the initial loss it must exceed it by")
BLOW_UP_ERRORS = Threshold(
    8.0, f"{FITTED}: and standard errors of the initial batch loss on top (5 of 165 good, 0 small)"
)
LUCKY_ERRORS = Threshold(
    5.0, f"{TOYS}: by how many errors of it a first batch may lie below the typical loss by chance"
)
OUTLIER_ERRORS = Threshold(4.0, f"{TOYS}: up to how many standard errors above the typical loss is noise")
BLOW_UP_WITHOUT_ERROR = Threshold(2.0, f"{FITTED}: without that error, thrice the initial loss (0 of 165 good runs)")
RECOVERED = Threshold(0.8, f"{FITTED}: of the initial loss, as median of 20 to 30 steps after the peak")
RECOVERY_STEPS = (20, 30)
DIVERGED = Threshold(1.05, f"{FITTED}: final over initial loss from which a calibration run was labelled diverged")
LATE_STEPS = 20  # losses whose median tells a late divergence from a single bad batch (chosen)

# Too small: at the end of a step the slope is still nearly what it was at its start.
SMALL: dict[Family, Pair] = {
    "sgd": Pair(Threshold(-0.87, f"{FITTED}: precision 144 of 146"), Threshold(-0.78, FITTED)),
    "momentum": Pair(Threshold(-0.95, f"{FITTED}, momentum 0.9: precision 74 of 79"), Threshold(-0.93, FITTED)),
    "adam": Pair(Threshold(-0.955, f"{FITTED}: precision 50 of 60"), Threshold(-0.92, FITTED)),
    "other": Pair(
        Threshold(-0.99, "the stricter limit of Adam: no calibration run used such an optimizer"),
        Threshold(-0.985, "the stricter limit of Adam: no calibration run used such an optimizer"),
    ),
}
COULD_BE_LARGER: dict[Family, Threshold] = {
    "sgd": Threshold(-0.5, FITTED),
    "momentum": Threshold(-0.7, FITTED),
    "adam": Threshold(-0.87, FITTED),
    "other": Threshold(-0.87, "that of Adam"),
}
WORTH_SAYING = Threshold(0.2, f"{FITTED}: least share of runs with such readings whose learning rate was too small")
UPHILL = Threshold(0.10, f"{FITTED}: share of steps against their own slope from which nothing is called too small")

# Too large without a blow-up: early, the slope on unseen batches has reversed at the end of a step.
LARGE_NEXT: dict[Family, Threshold] = {
    "momentum": Threshold(0.60, f"{FITTED}: 4 of 4 right"),
    "adam": Threshold(0.25, f"{FITTED}: 12 of 14 right"),
    "other": Threshold(0.45, "the stricter limit of Adam: no calibration run used such an optimizer"),
}
LARGE_SAME = Threshold(-0.3, FITTED)
LARGE_MARGIN = Threshold(0.1, f"{FITTED}: by how much the value less its error may miss the limit")
EARLY_STEPS = 100  # later the step length on the next batch rises towards 1 in every run
FALLEN = Threshold(0.3, f"{FITTED}: loss over initial loss below which the step length on the next batch tells nothing")

# In range.
IN_RANGE: dict[Family, tuple[Threshold, Threshold]] = {
    "sgd": (Threshold(-0.5, FITTED), Threshold(0.4, f"{FITTED}: 26 of 38 such runs were good")),
    "momentum": (Threshold(-0.8, FITTED), Threshold(0.1, f"{FITTED}: 30 of 38 such runs were good")),
    "adam": (Threshold(-0.95, FITTED), Threshold(-0.2, f"{FITTED}: 54 of 60 such runs were good")),
    "other": (Threshold(-0.95, "that of Adam"), Threshold(-0.2, "that of Adam")),
}
OTHER_SIDE = Threshold(1.0, "by definition: the step ends on the other side of the minimum, as high as it began")

# How many measured steps a verdict needs.
FEW = 5  # "too small" is nearly free of noise with five (fitted)
MANY = 10  # "too large" is not (fitted)

# When the learning rate is not to be judged.
CONVERGED_LOSS = Threshold(0.05, f"{CHOSEN}: loss over initial loss of a run that has converged")
CONVERGED_GRADIENT = Threshold(1e-3, f"{CHOSEN}: gradient norm over its initial value of a run that has converged")
PROGRESS = Threshold(0.7, f"{CHOSEN}: loss over initial loss from which lowering the learning rate is annealing")
JUMP = Threshold(1.5, f"{CHOSEN}: a change of the learning rate by more than this at once starts a new judgement")
ABRUPT = Threshold(3.0, f"{CHOSEN}: and so many times further (on a log scale) than the change before it")
RISE = Threshold(1.05, f"{CHOSEN}: growth of the learning rate over the last fifth of the run that is a warm-up")
DECAYED = Threshold(0.9, f"{CHOSEN}: of the highest learning rate, below which it is being lowered")

# What to try.
REACH: dict[Family, Threshold] = {
    "sgd": Threshold(1.2, f"{FITTED}: 1 + step length to aim at"),
    "momentum": Threshold(0.6, f"{FITTED}: 1 + step length to aim at"),
    "adam": Threshold(0.35, f"{FITTED}: 1 + step length to aim at"),
    "other": Threshold(0.35, "that of Adam"),
}
CAP: dict[Family, Threshold] = {
    "sgd": Threshold(10.0, f"{FITTED}: more at once overshoots, as curvature grows in training"),
    "momentum": Threshold(10.0, f"{FITTED}: more at once overshoots, as curvature grows in training"),
    "adam": Threshold(5.0, f"{FITTED}: one in seven of such Adam runs was already good"),
    "other": Threshold(5.0, "that of Adam"),
}
AFTER_BLOW_UP = Threshold(
    1 / 4, f"{FITTED}: restarts at a quarter led to within twice the best loss in 81 % of 108 runs"
)
AFTER_SPIKE = Threshold(1 / 2, f"{CHOSEN}: all five good runs that blew up recovered by themselves")
AFTER_LARGE = Threshold(1 / 3, f"{FITTED}: part of the same 108 runs")
AFTER_NONFINITE = Threshold(1 / 10, CHOSEN)
MOVES_TOO_FAR = Threshold(0.1, "step over weight norm; at the best rates of the calibration runs it was 0.004 to 0.08")

# No learnable signal, wrong sign: validated on 40 trials with injected faults.
WRONG_SIGN_UPHILL = Threshold(0.9, "40 trials with faults: both wrong signs, and 0 of 734 runs without (at most 0.34)")
WRONG_SIGN_RISE = Threshold(0.8, "40 trials with faults: both wrong signs, and 0 of 734 runs without")
NO_SIGNAL_SAME = Threshold(-0.85, "40 trials with faults: 9 of 12 such faults, 0 of 734 runs without")
NO_SIGNAL_LOSS = Threshold(0.97, "40 trials with faults: 9 of 12 such faults, 0 of 734 runs without")

# How sure is sure.
CONFIDENT = Threshold(0.8, f"{CHOSEN}: a verdict is stated")
SUSPECT = Threshold(0.6, f"{CHOSEN}: a verdict is stated as probable; below, it is a note")
UNFAMILIAR = Threshold(0.7, f"{CHOSEN}: factor on the confidence for what no calibration run had")
CONCAVE = Threshold(-1.1, f"{FITTED}: least step length of any run; below it, the slope grows along the step")
COVERED_MOMENTUM = Threshold(0.95, f"{CHOSEN}: a momentum above this is too far from the calibrated 0.9")
HEAVY_MOMENTUM = Threshold(0.8, f"{CHOSEN}: factor on the confidence for such a momentum")
OTHER_TIME = Threshold(
    0.8, f"{CHOSEN}: factor on the confidence where a range fitted to steps 0 to 50 judges later ones"
)
