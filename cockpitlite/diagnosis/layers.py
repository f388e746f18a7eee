"""Which tensors are weights between layers, in the model's order: what rules on depth, scale and balance compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cockpitlite.diagnosis.readings import Readings
from cockpitlite.store import Steps, Values


@dataclass(frozen=True)
class Described:
    """A layer that owns parameters, as the run describes its model: its class, their count and their own names."""

    name: str
    kind: str
    parameters: int
    tensors: tuple[str, ...]


def described(readings: Readings) -> list[Described]:
    """Return the layers that own parameters, in the model's order; none where the run does not describe them."""
    model = readings.meta.get("model")
    layers: Any = model.get("layers") if isinstance(model, dict) else None
    return [
        Described(
            str(layer.get("name", "")),
            str(layer.get("class", "")),
            int(layer.get("parameters") or 0),
            tuple(map(str, layer.get("tensors") or ())),
        )
        for layer in (layers if isinstance(layers, list) else [])
        if isinstance(layer, dict)
    ]


def matrices(readings: Readings, names: Sequence[str]) -> list[int]:
    """Return the positions of the weight matrices among parameters: no biases, norms or embeddings.

    Rows of an embedding that no sample used have no gradient, and norms and biases live on a scale of their own.
    """
    _, wide, _ = readings.recent_layers("weight_std", 1)
    known = set(wide)
    classes = readings.derived(_classes)
    return [index for index, name in enumerate(names) if _is_matrix(name, known, classes)]


def size(readings: Readings, name: str) -> int:
    """Return how many parameters the layer that owns a tensor has, 0 where that is unknown."""
    return next((layer.parameters for layer in described(readings) if layer.name == _owner(name)), 0)


def began_at_zero(readings: Readings) -> bool:
    """Whether a weight matrix began at 0, as last layers often do: until it has grown, the others hardly move."""
    at, names, stds = readings.first_layers("weight_std", 1)
    return bool(len(at)) and int(at[0]) == 0 and bool(np.any(stds[0][matrices(readings, names)] == 0))


def followed_by_norm(readings: Readings, name: str) -> bool:
    """Whether a norm comes after the layer that owns a tensor, so that the scale of its weights does not matter."""
    layers = described(readings)
    owners = [layer.name for layer in layers]
    after = owners.index(_owner(name)) + 1 if _owner(name) in owners else len(owners)
    return after < len(layers) and "Norm" in layers[after].kind


def first_is_norm(readings: Readings) -> bool:
    """Whether the first layer with parameters is a norm, which takes out the scale of the inputs."""
    layers = described(readings)
    return bool(layers) and "Norm" in layers[0].kind


def has_batch_norm(readings: Readings) -> bool:
    """Whether any layer is a batch norm."""
    return any("BatchNorm" in layer.kind for layer in described(readings))


def has_layers_after(readings: Readings, name: str) -> bool:
    """Whether layers with parameters surely come after a module without any, by the order in which a model has them.

    That is, after the last one that belongs to the same part of the model, or further on among its numbered siblings.
    """
    owners = [layer.name for layer in described(readings)]
    part, _, number = name.rpartition(".")
    siblings = [owner for owner in owners if not part or owner.startswith(f"{part}.")]
    for sibling in siblings:
        place = sibling[len(part) + 1 if part else 0 :].partition(".")[0]
        if number.isdecimal() and place.isdecimal() and int(place) > int(number):
            return True
    return bool(part and siblings) and owners.index(siblings[-1]) < len(owners) - 1


def unbroken(steps: Steps, holds: NDArray[np.bool_]) -> int:
    """Return the step since which something has held without a break; the last one where it does not hold there."""
    broken = np.flatnonzero(~holds)
    return int(steps[min(broken[-1] + 1, len(steps) - 1)]) if len(broken) else int(steps[0])


def over_rows(values: Values) -> tuple[Values, Values]:
    """Return least and largest value of each column ``[L]`` over the rows, without NaN; NaN where there is no other."""
    known = np.isfinite(values)
    some = known.any(axis=0)
    low = np.where(some, np.where(known, values, np.inf).min(axis=0), np.nan)
    return low, np.where(some, np.where(known, values, -np.inf).max(axis=0), np.nan)


def middle(values: Values) -> float:
    """Return the median of the values that are finite, NaN where none is."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else float("nan")


def _is_matrix(name: str, known: set[str], classes: dict[str, str]) -> bool:
    kind = classes.get(_owner(name), "")
    if "Norm" in kind or "Embedding" in kind or "embed" in name.lower():
        return False
    return name in known if known else "weight" in name.rpartition(".")[2]


def _classes(readings: Readings) -> dict[str, str]:
    return {layer.name: layer.kind for layer in described(readings)}


def _owner(name: str) -> str:
    return name.rpartition(".")[0]
