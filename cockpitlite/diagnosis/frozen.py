"""The rule about parameters that take no gradient: frozen on purpose, or by accident behind trained ones."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cockpitlite.diagnosis import thresholds as t
from cockpitlite.diagnosis.finding import Finding
from cockpitlite.diagnosis.layers import Described, described
from cockpitlite.diagnosis.readings import Readings, Unjudged
from cockpitlite.diagnosis.rule import rule
from cockpitlite.diagnosis.words import listed, plural

_ON_PURPOSE = {"target", "teacher", "ema", "momentum", "average", "reference", "lora", "adapter"}


@dataclass(frozen=True)
class _Layer:
    """A layer, and whether it has tensors that are trained and tensors that are frozen."""

    described: Described
    trained: bool
    frozen: bool

    @property
    def name(self) -> str:
        """Its name in the model."""
        return self.described.name

    @property
    def shape(self) -> tuple[str, int]:
        """What a copy of it has in common with it."""
        return self.described.kind, self.described.parameters

    @property
    def named_so(self) -> bool:
        """Whether its name says that it is frozen on purpose."""
        return not _ON_PURPOSE.isdisjoint(re.split(r"[._\d]+", self.name.lower()))


@rule("F9d", fault=True)
def frozen_behind_trained(readings: Readings) -> Finding | None:
    """Layers are frozen behind trained ones, or a layer is frozen by half.

    Fine-tuning freezes the first layers and trains those behind them: that is a note. A frozen layer behind a trained
    one, or the weights of a layer without its bias, is a warning: a `requires_grad_(False)` that was forgotten, as a
    rule. Left alone: norms, embeddings and free parameters, copies of other layers (target networks), whatever is
    called a teacher or an average; and a note where it is so in three places or more, as with adapters.
    """
    layers = _layers(readings)
    frozen = [layer for layer in layers if layer.frozen]
    if not frozen or not any(layer.trained for layer in layers):
        return None
    begin = next(place for place, layer in enumerate(layers) if layer.trained)
    behind = [list(run) for still, run in itertools.groupby(layers[begin:], lambda one: not one.trained) if still]
    behind = [run for run in behind if not _on_purpose(run, layers)]
    halved = [layer for layer in layers if layer.trained and layer.frozen and not layer.named_so]
    since = _since(readings)
    if not behind and not halved:
        return _fine_tuning(frozen, since)
    repeated = len(behind) + len(halved) >= t.REPEATED_FREEZE
    names = [layer.name for run in behind for layer in run] + [layer.name for layer in halved]
    first = layers[begin].name
    where = f"behind {first}, which is trained" if behind else "by half: one of its tensors is trained, another is not"
    return Finding(
        code="F9d",
        severity="info" if repeated else "warning",
        confidence=0.5 if repeated else 0.8,
        title=f"{len(names):,} {plural('layer', len(names))} {_is(names)} frozen {where}: {listed(names)}",
        explanation=(
            "Parameters that ask for no gradient are never trained. "
            + (
                "It is so in several places, as with adapters or where biases alone are trained."
                if repeated
                else "Who fine-tunes freezes the first layers and trains those behind them; here it is the other way."
            )
        ),
        suggestion=(
            "Nothing, if that is meant. Else call requires_grad_(True) on what is to be trained, before the optimizer "
            "is made."
        ),
        since=since,
    )


def _fine_tuning(frozen: Sequence[_Layer], since: int) -> Finding:
    names = [layer.name for layer in frozen]
    return Finding(
        code="F9d",
        severity="info",
        confidence=0.9,
        title=f"{len(names):,} {plural('layer', len(names))} {_is(names)} frozen, as in fine-tuning: {listed(names)}",
        explanation="They ask for no gradient and stay as they are; what comes behind them is trained.",
        suggestion="Nothing, if that is meant.",
        since=since,
    )


def _layers(readings: Readings) -> list[_Layer]:
    """Return the layers between which gradients flow, in the model's order."""
    events = readings.events("parameters")
    if not events:
        raise Unjudged("the run does not say which parameters are frozen")
    frozen = set(map(str, events[-1].data.get("frozen") or ()))
    found = []
    for layer in described(readings):
        own = [f"{layer.name}.{tensor}".lstrip(".") for tensor in layer.tensors if re.search("weight|bias", tensor)]
        if own and not re.search("Norm|Embedding", layer.kind):
            still = [name in frozen for name in own]
            found.append(_Layer(layer, trained=not all(still), frozen=any(still)))
    return found


def _on_purpose(run: Sequence[_Layer], layers: Sequence[_Layer]) -> bool:
    """Whether frozen layers are a copy of others, as a target network is, or are called so."""
    if all(layer.named_so for layer in run):
        return True
    shapes = [layer.shape for layer in run]
    trained = [layer.shape if layer.trained else None for layer in layers]
    return len(run) > 1 and any(trained[at : at + len(run)] == shapes for at in range(len(trained)))


def _since(readings: Readings) -> int:
    """Return the step since which just these are frozen."""
    events = readings.events("parameters")
    same = itertools.takewhile(lambda event: event.data.get("frozen") == events[-1].data.get("frozen"), events[::-1])
    return list(same)[-1].step


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
