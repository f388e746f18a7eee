"""What the loss function of a classifier is given: the labels of the batch, and rows that should be scores."""

import torch

from cockpitlite.instrument import Instrument, Provided, Reading, Readings
from cockpitlite.statistics import Decisions, Occasion, RowSums


class Labels(Instrument):
    """The number C of ``classes`` that the loss chooses from, and ``label_entropy``, −Σ p ln p over the batch's labels.

    ``labels`` is how many labels that were: samples, tokens or pixels. Their entropy is that of their source less about
    (C − 1) / (2 · ``labels``), and at most ln ``labels``. A loss far above ln C at the first step is a bad start, one
    far above ``label_entropy`` later on is worse than guessing. An entropy far below ln C is a batch of few classes:
    rare ones, few samples, or data sorted by class. Of a binary cross-entropy every score is one choice between two,
    and ``unit_scores`` is the share of them in 0 to 1: where it stays at 1, a sigmoid came before. Labels that the loss
    ignores are not counted. Costs one pass over the labels, on the diagnosis schedule only.
    """

    name = "classes"
    preset = "economy"
    on_diagnosis_schedule = True
    order = 95

    def read(self, decisions: Decisions) -> Readings:
        """Return what is known of the labels."""
        labels = decisions.targets.sum()
        shares = decisions.targets / labels
        readings: dict[str, Reading | Provided] = {
            "classes": decisions.classes,
            "labels": labels,
            "label_entropy": -torch.xlogy(shares, shares).sum(),
        }
        switches = [one.logits[:, 1] for one in decisions.each if one.given == "switches"]
        if len(switches) == len(decisions.each):
            scores = torch.cat(switches)
            readings["unit_scores"] = ((scores >= 0) & (scores <= 1)).float().mean()
        return readings


class ProbabilityRows(Instrument):
    """The share of the rows given to cross-entropy that are probabilities already: nowhere negative, with the sum 1.

    It takes scores, and puts them through a softmax of its own: after a second one it cannot fall below
    ln(e + C − 1) − 1. ``log_probability_rows`` is the share that are logarithms of probabilities, which do no harm
    there. The negative log-likelihood takes nothing else, and ``unnormalized_rows`` is the share that are none.
    Unavailable where the model computes its loss itself. Costs three passes over the scores, on every fifth
    step of the diagnosis schedule.
    """

    preset = "economy"
    on_diagnosis_schedule = True
    order = 95

    def read(self, rows: RowSums, occasion: Occasion) -> Readings:
        """Return the shares."""
        if not occasion.regular:
            return {}
        if rows.given == "scores":
            return {"probability_rows": rows.probabilities, "log_probability_rows": rows.logarithms}
        return {"probability_rows": rows.probabilities, "unnormalized_rows": 1 - rows.logarithms}
