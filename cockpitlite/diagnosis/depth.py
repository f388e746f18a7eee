"""Rules about gradients on their way back through the layers: they vanish or explode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.blocks import LayerRows
from cockpitlite.diagnosis.course import rose_early, stuck, suffers
from cockpitlite.diagnosis.finding import Evidence, Finding
from cockpitlite.diagnosis.layers import matrices, middle
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import rule
from cockpitlite.diagnosis.units import surely_dead
from cockpitlite.diagnosis.words import number
from cockpitlite.store import Steps, Values

_LOOK = 20  # tracked steps looked at for the profile
_LOOK_FAR = 100  # and for bursts


@dataclass(frozen=True)
class _Profile:
    """Gradient norms ``[T, L]`` of the weight matrices in the model's order.

    ``ratios`` are those of the first quarter of them over the last quarter, at each step; ``rest`` is the ratio without
    the very first, whose gradient also follows the scale of the inputs. ``along`` is the rank correlation of the norm
    with the depth: 1 where every layer has a smaller gradient than the one after it.
    """

    steps: Steps
    ratios: Values
    names: list[str]
    norms: Values
    rest: float
    along: float

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The norms of the first and the last layer."""
        return tuple(Evidence.of("grad_norm", self.steps, self.norms[:, end], self.names[end]) for end in (0, -1))

    @property
    def ratio(self) -> float:
        """The ratio in the middle of the steps."""
        return float(np.median(self.ratios))

    @property
    def falls(self) -> bool:
        """Whether the gradient falls towards the input, from layer to layer and not in the first alone."""
        return self.along > t.ALONG and self.rest < self.ratio**t.SHARED

    @property
    def rises(self) -> bool:
        """Whether it grows so."""
        return self.along < -t.ALONG and self.rest > self.ratio**t.SHARED

    @property
    def words(self) -> str:
        """The first and the last layer with their norms."""
        first, last = (float(np.median(self.norms[:, end])) for end in (0, -1))
        return (
            f"The gradient norm of {self.names[0]} is {number(first)}, that of {self.names[-1]} "
            f"{number(last)} (medians of {len(self.steps)} tracked steps, {int(self.steps[0]):,} to "
            f"{int(self.steps[-1]):,}; {len(self.names)} weight matrices)."
        )


@rule("F4a", needs=("grad_norm",), silenced_by=("R0", "F0", "F5", "F6a", "F6c", "F9b", "F18", "F19"), fault=True)
def vanishing_gradients(readings: Readings) -> Finding | None:
    """Gradients vanish on their way back: the first layers get a far smaller one than the last layers.

    From three weight matrices on: the gradient norm of the first quarter of them over that of the last is below 1/100
    and falls from layer to layer. A warning below 1/1000, or where the loss has blown up or hardly fallen; nearly
    certain below 1e-5. Biases, norms and embeddings are left out, and it is silent where a layer is dead. Healthy nets
    had 0.56 to 1.1.
    """
    profile = _profile(readings, _LOOK)
    if not (profile.ratio < t.VANISHING and profile.falls) or surely_dead(readings):
        return None
    sure = profile.ratio < t.SURELY_VANISHING
    if not sure and not readings.derived(stuck):
        return None
    return Finding(
        code="F4a",
        severity="warning",
        confidence=0.95 if profile.ratio < t.VANISHED else 0.8 if sure else 0.7,
        title=f"Gradients vanish: {profile.names[0]} gets {_part(profile.ratio)} of the last layers' gradient",
        explanation=f"{profile.words} It falls from layer to layer towards the input: the first ones hardly learn.",
        evidence=profile.evidence,
        suggestion=(
            "Use norms, residual connections or ReLU-like activations, and an initialisation made for the activation "
            "(Kaiming for ReLU, Xavier for tanh). A higher learning rate does not help."
        ),
        since=_since(readings, profile.names, profile.ratio < t.VANISHING),
    )


@rule("F4b", needs=("grad_norm",), silenced_by=("R0", "F0", "F6a", "F6c", "F8c", "F8d", "F15"), fault=True)
def exploding_gradients(readings: Readings) -> Finding | None:
    """Gradients explode on their way back, or in bursts.

    From three weight matrices on: the gradient norm of the first quarter of them is more than 70 times that of the last
    and grows from layer to layer towards the input. Or, as in recurrent nets over long sequences: at three or more of
    the last hundred tracked steps the whole gradient is ten times as long as usual and as at the start. A warning from
    1000 on, for bursts, or where the loss has blown up or hardly fallen; else a note.
    """
    return _grows(readings) or _bursts(readings)


def _grows(readings: Readings) -> Finding | None:
    try:
        profile = _profile(readings, _LOOK)
    except Unjudged:
        return None
    if not (profile.ratio > t.EXPLODING and profile.rises):
        return None
    sure = profile.ratio > t.SURELY_EXPLODING
    return Finding(
        code="F4b",
        severity="warning" if sure or readings.derived(suffers) else "info",
        confidence=0.9 if sure else 0.7,
        title=f"Gradients explode: {profile.names[0]} gets {number(profile.ratio)} times the last layers' gradient",
        explanation=f"{profile.words} It grows from layer to layer towards the input.",
        evidence=profile.evidence,
        suggestion=(
            "Clip the gradient norm (at 1, say), start with smaller weights, or use norms and residual connections."
        ),
        since=_since(readings, profile.names, below=False),
    )


def _bursts(readings: Readings) -> Finding | None:
    steps, norms = readings.recent("grad_norm", _LOOK_FAR, t.FEW)
    if readings.derived(rose_early):
        return None
    _, first = readings.first("grad_norm", 10)
    usual = max(middle(norms), middle(first))
    high = np.flatnonzero(norms > t.BURST_GRADIENT * usual)
    if len(high) < t.BURSTS:
        return None
    top = int(steps[high[np.argmax(norms[high])]])
    layer = _largest_layer(readings, top)
    return Finding(
        code="F4b",
        severity="warning",
        confidence=0.7,
        title=f"Gradients explode in bursts{f', most in {layer}' if layer else ''}",
        explanation=(
            f"At {len(high)} of the last {len(steps)} tracked steps the gradient was more than ten times as long as "
            f"usual ({number(usual)}); the longest was {number(float(np.max(norms[high])))}, at step {top:,}."
        ),
        evidence=(Evidence.of("grad_norm", steps[high], norms[high]),),
        suggestion=(
            "Clip the gradient norm, a little above its usual length. In a recurrent net also shorten the sequences "
            "that gradients go back through, or start with smaller recurrent weights."
        ),
        since=int(steps[high[0]]),
    )


def _profile(readings: Readings, count: int) -> _Profile:
    steps, layers, values = readings.recent_layers("grad_norm", count, t.FEW)
    chosen = [index for index in matrices(readings, layers) if np.isfinite(values[:, index]).all()]
    if len(chosen) < t.DEEP:
        raise Unjudged(f"{t.DEEP} weight matrices are needed for a profile over the depth, there are {len(chosen)}")
    norms = values[:, chosen]
    rest = float(np.median(_ratios(norms[:, 1:])))
    names = [layers[index] for index in chosen]
    return _Profile(steps, _ratios(norms), names, norms, rest, _rank_correlation(np.median(norms, axis=0)))


def _ratios(norms: Values) -> Values:
    """Return the norm of the first quarter of the layers over that of the last, for each step."""
    part = max(1, norms.shape[1] // 4)
    last = np.median(norms[:, -part:], axis=1)
    return np.asarray(np.median(norms[:, :part], axis=1) / np.maximum(last, np.finfo(np.float64).tiny))


def _rank_correlation(norms: Values) -> float:
    """Return Spearman's correlation of norms with their position; ties share a rank."""
    _, inverse, counts = np.unique(norms, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    if np.ptp(ranks) == 0:
        return 0.0
    return float(np.corrcoef(ranks, np.arange(len(norms)))[0, 1])


def _since(readings: Readings, names: list[str], below: bool) -> int:
    def holds(rows: LayerRows) -> NDArray[np.bool_]:
        ratios = _ratios(rows.of(names))
        return np.asarray(ratios < t.VANISHING if below else ratios > t.EXPLODING)

    return readings.holding_since("grad_norm", (tuple(names), below), holds)


def _largest_layer(readings: Readings, step: int) -> str:
    at, layers, values = readings.at(step).recent_layers("grad_norm", 1)
    if not len(at) or int(at[-1]) != step or not np.isfinite(values[-1]).any():
        return ""
    return layers[int(np.nanargmax(values[-1]))]


def _part(ratio: float) -> str:
    return f"1/{number(1 / ratio)}" if ratio > 0 else "nothing"
