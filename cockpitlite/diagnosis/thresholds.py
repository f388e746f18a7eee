"""Every number a rule compares with, in one place, each with where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

Family = Literal["sgd", "momentum", "adam", "other"]

# The calibration runs: 11 small problems, three optimizers, 11 to 16 constant learning rates, 1 to 3 seeds.
FITTED = "fitted on 734 labelled runs of at most 400 steps"
CHOSEN = "chosen, not fitted"
RATES = "chosen on the benchmark of learning rates, docs/rates.md"
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
CERTAIN_RISE = Threshold(10.0, f"{CHOSEN}: times the first loss; what batches of few samples do not reach by chance")
FEWEST_SAMPLES = 2  # of which a batch has a spread
BLOW_UP_WITHOUT_ERROR = Threshold(2.0, f"{FITTED}: without that error, thrice the initial loss (0 of 165 good runs)")
RECOVERED = Threshold(0.8, f"{FITTED}: of the initial loss, as median of 20 to 30 steps after the peak")
RECOVERY_STEPS = (20, 30)
OVERCOME_RISE = Threshold(
    0.1,
    f"{RATES}: of the initial loss; 11 of 13 runs not by Adam that blew up and fell below it by step 50 were good",
)
DIVERGED = Threshold(1.05, f"{FITTED}: final over initial loss from which a calibration run was labelled diverged")
LATE_STEPS = 20  # losses whose median tells a late divergence from a single bad batch (chosen)

# Too small: at the end of a step the slope is still nearly what it was at its start.
SMALL: dict[Family, Pair] = {
    "sgd": Pair(Threshold(-0.87, f"{FITTED}: precision 144 of 146"), Threshold(-0.78, FITTED)),
    "momentum": Pair(Threshold(-0.95, f"{FITTED}, momentum 0.9: precision 74 of 79"), Threshold(-0.93, FITTED)),
    "adam": Pair(Threshold(-0.955, f"{FITTED}: precision 50 of 60"), Threshold(-0.92, FITTED)),
    "other": Pair(
        Threshold(-0.87, f"that of SGD; {RATES}: 32 of 41 too small runs with RMSprop, 2 of 35 good ones"),
        Threshold(-0.78, "that of SGD"),
    ),
}
COULD_BE_LARGER: dict[Family, Threshold] = {
    "sgd": Threshold(-0.5, FITTED),
    "momentum": Threshold(-0.7, FITTED),
    "adam": Threshold(-0.87, FITTED),
    "other": Threshold(-0.5, "that of SGD"),
}
WORTH_SAYING = Threshold(0.2, f"{FITTED}: least share of runs with such readings whose learning rate was too small")
UPHILL = Threshold(0.10, f"{FITTED}: share of steps against their own slope from which nothing is called too small")

# Too large without a blow-up: early, the slope has reversed at the end of a step.
LARGE: dict[Family, Pair] = {
    "momentum": Pair(Threshold(-0.3, FITTED), Threshold(0.60, f"{FITTED}: 4 of 4 right")),
    "adam": Pair(
        Threshold(0.0, "by definition: the step goes past the lowest point; 11 of 12 calibration runs were too large"),
        Threshold(0.0, "by definition: the step goes past the lowest point"),
    ),
}
LARGE_MARGIN: dict[Family, Threshold] = {
    "momentum": Threshold(0.1, f"{FITTED}: by how much the value less its error may miss the limit"),
    "adam": Threshold(0.2, f"{RATES}: by how much the value less its error may miss the limit"),
}
EARLY_STEPS = 100  # later the step length on the next batch rises towards 1 in every run
FALLEN = Threshold(0.3, f"{FITTED}: loss over initial loss below which the step length on the next batch tells nothing")
LEARNING: dict[Family, Threshold] = {
    "momentum": FALLEN,
    "adam": Threshold(
        0.05, f"{RATES}: loss over initial loss; steps past the lowest point still served good runs below"
    ),
}

# In range.
IN_RANGE: dict[Family, tuple[Threshold, Threshold]] = {
    "sgd": (Threshold(-0.5, FITTED), Threshold(0.4, f"{FITTED}: 26 of 38 such runs were good")),
    "momentum": (Threshold(-0.8, FITTED), Threshold(0.1, f"{FITTED}: 30 of 38 such runs were good")),
    "adam": (Threshold(-0.95, FITTED), Threshold(-0.2, f"{FITTED}: 54 of 60 such runs were good")),
    "other": (Threshold(-0.5, "that of SGD"), Threshold(0.4, "that of SGD")),
}
OTHER_SIDE = Threshold(1.0, "by definition: the step ends on the other side of the minimum, as high as it began")

# How many measured steps a verdict needs.
FEW = 5  # "too small" is nearly free of noise with five (fitted)
MANY = 10  # "too large" is not (fitted)
FIRST_VERDICT = 25  # steps of a run before which nothing found says nothing: every fifth is measured, FEW are needed

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
    "other": Threshold(1.2, "that of SGD"),
}
CAP: dict[Family, Threshold] = {
    "sgd": Threshold(10.0, f"{FITTED}: more at once overshoots, as curvature grows in training"),
    "momentum": Threshold(10.0, f"{FITTED}: more at once overshoots, as curvature grows in training"),
    "adam": Threshold(5.0, f"{FITTED}: one in seven of such Adam runs was already good"),
    "other": Threshold(5.0, "that of Adam"),
}
AFTER_BLOW_UP = Threshold(
    1 / 10, f"{RATES}: of 692 runs that blew up the best rate was 0.059 times theirs in the middle; docs/advice.md"
)
AFTER_SPIKE = Threshold(1 / 2, f"{CHOSEN}: all five good runs that blew up recovered by themselves")
AFTER_LARGE = Threshold(1 / 3, f"{FITTED}: part of the same 108 runs")
COULD_BE_SMALLER = Threshold(1 / 2, f"{CHOSEN}: at most; below it the median of the calibration runs that read alike")
AFTER_NONFINITE = Threshold(1 / 10, CHOSEN)
MOVES_TOO_FAR = Threshold(0.1, "step over weight norm; at the best rates of the calibration runs it was 0.004 to 0.08")

# No learnable signal, wrong sign: validated on 40 trials with injected faults.
WRONG_SIGN_UPHILL = Threshold(0.9, "40 trials with faults: both wrong signs, and 0 of 734 runs without (at most 0.34)")
WRONG_SIGN_RISE = Threshold(0.8, "40 trials with faults: both wrong signs, and 0 of 734 runs without")
NO_SIGNAL_SAME = Threshold(-0.85, "40 trials with faults: 9 of 12 such faults, 0 of 734 runs without")
NO_SIGNAL_LOSS = Threshold(0.97, "40 trials with faults: 9 of 12 such faults, 0 of 734 runs without")
WARMED_UP = Threshold(0.5, f"{CHOSEN}: learning rate of the measured steps over the present one")
WAKING_STEPS = 50  # in which weights that begin at 0 let the others move (chosen)
LEARNT = Threshold(0.8, f"{CHOSEN}: first loss over that of guessing; untrained models had 1.0 to 1.1")

# Steps that are never taken, and layers that are frozen.
REPEATED_FREEZE = 3  # places where layers are frozen behind trained ones, from which it is a pattern and meant (chosen)
STEPLESS = 50  # backwards without a step; accumulation over more of them before the very first step is rare (chosen)

# Whether training suffers from what looks odd.
STUCK_STEPS = 100  # before, a loss that has hardly fallen tells nothing (chosen)
ROWS = 3  # tracked batches in a row that must agree, so that no single odd one counts (chosen)

# Units that are dead or saturated.
FAULTS = "40 trials with injected faults"
DEAD = Threshold(0.5, f"{FAULTS}: share of a layer's units; healthy ones had at most 0.13")
SURELY_DEAD = Threshold(0.9, f"{FAULTS}: share of a layer's units; a bias of -10 had 1.0")
DEAD_GRADIENT = Threshold(0.9, f"{FAULTS}: share of gradient elements that are 0; healthy layers had 0.06 to 0.1")
NOTHING_FLOWS = Threshold(0.999, f"{CHOSEN}: share of all gradient elements that are 0, so that no layer stands out")
FEW_SAMPLES = 16  # below, many units are 0 on a whole batch by chance; only a layer that is all 0 counts then (chosen)
SATURATED = Threshold(0.5, f"{FAULTS}: share of a layer's outputs; the fault had 0.63")
SURELY_SATURATED = Threshold(0.9, CHOSEN)

# Gradients along the depth: those of the first layers over those of the last ones.
VANISHING = Threshold(1e-2, f"{FAULTS}: healthy nets had 0.56 to 1.1, deep ReLU ones 1.4e-3")
SURELY_VANISHING = Threshold(1e-3, "AutoTrainer (Zhang et al. 2021)")
VANISHED = Threshold(1e-5, f"{FAULTS}: eight sigmoid layers had 3e-6")
EXPLODING = Threshold(70.0, "AutoTrainer (Zhang et al. 2021); healthy nets had 0.56 to 1.1")
SURELY_EXPLODING = Threshold(1e3, CHOSEN)
DEEP = 3  # weight matrices from which there is a depth (chosen)
ALONG = Threshold(0.6, f"{CHOSEN}: least rank correlation of gradient norm and depth")
SHARED = Threshold(0.25, f"{CHOSEN}: power of the ratio that must be left without the very first matrix")
BURST_GRADIENT = Threshold(10.0, f"{CHOSEN}: times the median gradient norm, and the gradient norm at the start")
BURSTS = 3  # of them among the last tracked steps (chosen)

# Scale of inputs, of the first weights, of the first loss.
WIDE_INPUT = Threshold(10.0, f"{CHOSEN}: standard deviation; pixels from 0 to 255 have about 80")
NARROW_INPUT = Threshold(0.02, f"{FAULTS}: standard deviation; pixels divided by 255 twice had 0.004")
TINY_INPUT = Threshold(0.1, f"{CHOSEN}: largest magnitude; sparse inputs have a small deviation but values of 1")
OFFSET_INPUT = Threshold(3.0, f"{CHOSEN}: mean over standard deviation")
UNEVEN_INPUT = Threshold(1e3, f"{CHOSEN}: largest over smallest standard deviation of a feature")
MET_TARGETS = Threshold(
    0.1, f"{CHOSEN}: first loss over the size of the targets; absolute errors of a new model have 1"
)
FIRST_GRADIENT = Threshold(
    10.0, f"{CHOSEN}: gradient norm of the first weights over that of the others, or the reverse"
)
HIGH_LOSS = Threshold(1.5, f"{FAULTS}: cross-entropy at the start over ln C; healthy ones had 1.0 to 1.1")
HIGH_EXCESS = Threshold(1.5, f"{CHOSEN}: nats above ln C, which logits with a spread of 1.7 have")
OVERCOME = Threshold(0.5, f"{CHOSEN}: cross-entropy over ln C below which a bad start has been overcome")
WIDE_WEIGHTS = Threshold(4.0, f"{CHOSEN}: std · (parameters of the layer)^¼; usual initialisations have 0.2 to 2")
NARROW_WEIGHTS = Threshold(0.05, f"{CHOSEN}: std · (parameters of the layer)^¼; usual initialisations have 0.2 to 2")
EQUAL_UNITS = Threshold(1e-4, f"{CHOSEN}: relative distance of units; exactly 0 but for rounding")
SYMMETRIC_STEPS = 10  # after which weights that merely began equal have parted (chosen)

# What enters the loss, and how it is reduced.
NEARLY_ALL = Threshold(0.99, f"{CHOSEN}: share of the rows that enter cross-entropy; faults have 1.0")
SUMMED = Threshold(0.7, f"{CHOSEN}: loss over batch size · mean cross-entropy, and at most its inverse")
SUM_BATCH = 4  # samples from which a sum is told from a mean (chosen)

# What a model that looks at no input gets.
LABELS_PER_CLASS = 4  # labels of a batch for each class, from which their entropy is known to an eighth of a nat
OTHER_TERMS = Threshold(1.5, f"{CHOSEN}: first loss over that of guessing, above which more than predictions costs")

# Settings and shapes that no training needs.
LASTING_MOMENTUM = Threshold(0.995, f"{CHOSEN}: the largest in wide use is 0.99")
STRONG_DROPOUT = Threshold(0.9, f"{CHOSEN}: the largest in wide use is 0.8")
FEW_NORMED = 4  # values, whose standard deviation is off by 1 / √(2 · (4 − 1)) = 41 % and the variance by 82 %

# Gradients on their way to the optimizer.
STALE = Threshold(0.01, f"{CHOSEN}: what was left in the gradients over what was added; cleared ones have 0")
CLIPPED = Threshold(0.3, f"{CHOSEN}: median of gradient norm after over before clipping")
OFTEN_CLIPPED = Threshold(0.5, f"{CHOSEN}: share of the steps that are clipped")
UNDERFLOW = Threshold(0.5, f"{CHOSEN}: share of gradient elements that are 0, in the middle of all layers")
SKIPPED = 20  # steps; a GradScaler that looks for its scale skips fewer (chosen)
OFTEN_SKIPPED = Threshold(0.2, f"{CHOSEN}: share of all steps; a GradScaler at work skips one in 2000")

# Data.
STUCK_BATCH = 5  # equal batches in a row (chosen)
REPEATED = Threshold(0.3, f"{CHOSEN}: share of neighbouring batches that are equal")
LABELLED_BATCH = 8  # samples from which the labels of a batch tell how the data are mixed (chosen)
FEW_LABELS = Threshold(0.25, f"{CHOSEN}: entropy of a batch's labels over the most it could have")
FEW_CLASSES = Threshold(0.5, f"{CHOSEN}: classes in one batch over those of all looked at")

# Schedule and weight decay.
FALLEN_RATE = Threshold(0.01, f"{CHOSEN}: of the highest learning rate; a cosine to 0 spends 6 % of its steps below")
LONG_FALLEN = Threshold(0.5, f"{CHOSEN}: share of the run's steps spent below it")
DECAY_STEPS = 100  # after which a learning rate that has long been near 0 is told (chosen)
SHRUNK = Threshold(0.3, f"{CHOSEN}: weight norm over that at the start")
DECAYED_AWAY = Threshold(1.0, f"{CHOSEN}: sum of learning rate · weight decay, by which decay alone shrinks to 0.37")
DECAY_SHARE = Threshold(0.5, f"{CHOSEN}: part of the step, or of the gradient, that is weight decay")
EQUILIBRIUM = Threshold(0.3, "Kosson et al. 2023: step over weight norm / sqrt(2 · lr · decay) is 1 in equilibrium")

# Balance of the layers.
IMBALANCE = Threshold(1e3, "TheDeepChecker practice, not tested: largest over smallest step over weight norm")

# The loss stands still, jumps, or training runs at the edge.
PLATEAU_STEPS = 200  # before, no plateau is looked for
PLATEAU_SHARE = Threshold(0.2, "of the steps, the last ones; the naive form was tested and found weak")
PLATEAU_P = Threshold(0.1, f"{CHOSEN}: probability that a loss without a trend falls so by chance")
BEGUN = Threshold(0.9, f"{CHOSEN}: loss over initial loss; above, there was no progress that could have stopped")
NO_PROGRESS_NEXT = Threshold(0.8, "step length on the next batch; in theory no progress is to be expected from 1 on")
HELD_OUT_RISES = Threshold(1.1, f"{CHOSEN}: last logged losses on held-out samples over the lowest one")
HELD_OUT_RISES_FAR = Threshold(
    2.0, f"{CHOSEN}: and where it is more than a note; small batches rise by half and score as well"
)
FALLS_ON = Threshold(0.9, f"{CHOSEN}: loss of the batches over that when it was lowest on held-out samples")
FALLS_SLIGHTLY = Threshold(0.97, f"{CHOSEN}: that over the lowest one on held-out samples; from here on it is a note")
BY_HEART = Threshold(0.05, f"{CHOSEN}: loss of the batches over the lowest one on held-out samples")
HELD_OUT_LEFT = Threshold(0.1, f"{CHOSEN}: the lowest one over what guessing costs; below, all is learnt")
OTHER_SCALE = 3.0  # times guessing, above which a logged loss is a sum, or of another kind (chosen)
WAITING = Threshold(0.5, "share of the time before a forward; above, training waits more than it computes")
WORTH_LOADING_AHEAD = Threshold(1e-3, f"{CHOSEN}: seconds of it in a step")
GROWN_BYTES = Threshold(
    16e6, f"{CHOSEN}: of the trainings of docs/faults.md none without such a fault grew by more than 14"
)
GROWN_SHARE = Threshold(0.02, f"{CHOSEN}: of the memory in use")
STRAIGHT = Threshold(0.9, f"{CHOSEN}: share of its variance that a line explains; what fills up flattens")
NOISE_FLOOR = Threshold(10.0, f"{CHOSEN}: gradient noise scale over batch size")
SPIKE_SPREADS = Threshold(6.0, "robust standard deviations of the log-loss; stricter than ZClip's 2.5, not tested")
SPIKE_RISE = Threshold(1.5, "times the median loss, not tested")
SPIKE_MEMORY = 50  # losses that a spike is held against
ANEW = Threshold(0.8, f"{CHOSEN}: loss after a resumption over the first loss of the run, from which it began anew")
SPIKE_STEPS = 200  # for which a spike is remembered, and in which three are many
MANY_SPIKES = 3
EDGE = (Threshold(0.8, f"{CHOSEN}: ratio to the edge of stability"), Threshold(1.5, CHOSEN))
LARGE_BATCH = 256  # samples from which sharpness and not noise limits the learning rate (chosen)

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
