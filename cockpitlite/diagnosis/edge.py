"""The note on training at the edge of stability."""

from __future__ import annotations

import numpy as np

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.diagnosis.rate import family, second_beta
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import FAULT, rule
from cockpitlite.diagnosis.words import number


@rule("R7", needs=("edge_of_stability", "batch_size"), silenced_by=(FAULT, "R1", "R1b", "R2"))
def edge_of_stability(readings: Readings) -> Finding | None:
    """Training runs at the edge of stability, as large batches do: a note that this is normal.

    Learning rate times sharpness, over the limit of the optimizer, is between 0.8 and 1.5 in the middle of the last
    five readings, with 256 samples in a batch or more; with fewer, noise limits the step and the ratio says little.
    Under Adam not before 1/(1 - second beta) steps.
    """
    steps, ratios = readings.recent("edge_of_stability", 5, t.ROWS)
    _, sizes = readings.recent("batch_size", 1, 1)
    if not sizes[-1] >= t.LARGE_BATCH:
        raise Unjudged(f"it is looked for in batches of {t.LARGE_BATCH} samples and more")
    if family(readings) == "adam" and readings.now < 1 / (1 - min(second_beta(readings), 0.9999)):
        raise Unjudged("the optimizer's averages are too young")
    middle = float(np.median(ratios))
    if not t.EDGE[0] <= middle <= t.EDGE[1]:
        return None
    return Finding(
        code="R7",
        severity="info",
        confidence=0.7,
        title="Training runs at the edge of stability, as large batches do",
        explanation=(
            f"Learning rate times sharpness is {number(middle)} times the largest stable value (median of the last "
            f"{len(steps)} readings). The sharpness adapts to the learning rate there, and the loss goes on falling, "
            "not at every step."
        ),
        evidence=(Evidence.of("edge_of_stability", steps, ratios),),
        suggestion="Nothing. A larger learning rate finds flatter ground; a smaller one makes the loss smoother.",
        since=int(steps[0]),
    )
