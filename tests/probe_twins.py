"""The slow twins of the probes: what the diagnosis looks at besides the loss, from the definitions, in plain loops."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from curvature_twins import logits_of, passed
from models import Problem
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from twins import Evaluation, Part, Step, Truth, Vectors, doubled, flat, stand_in

WIDTH = 1024  # words of a row of the checksum


def put_probes(found: Truth, index: int, problem: Problem, step: Step, here: Vectors, evaluation: Evaluation) -> None:
    """Work out all probes of one step but the activations'."""
    parts = step.parts_for(problem)
    put_inputs(found, index, [given(part) for part in parts])
    put_labels(found, index, parts)
    put_buffers(found, index, step, evaluation)
    put_weights(found, index, here)


# What the model was given ---------------------------------------------------------------------------------------------


class _Seen(Exception):
    """The model has been called."""


def given(part: Part) -> list[Tensor]:
    """Return the tensors that the model is called with, as they were in the run."""
    model = stand_in(part.problem, doubled(part.before.parameters), part.before.buffers)
    seen: list[Tensor] = []

    def see(module: nn.Module, args: Any, kwargs: Any) -> None:
        seen.extend(leaf.detach() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        raise _Seen

    model.register_forward_pre_hook(see, with_kwargs=True)
    try:
        part.problem.forward(model, *part.batch)
    except _Seen:
        return seen
    raise AssertionError("the model was not called")


def put_inputs(found: Truth, index: int, inputs: Sequence[Sequence[Tensor]]) -> None:
    sums = [checksum(tensors[0]) for tensors in inputs]
    whole = sums[0] if len(sums) == 1 else checksum(torch.tensor(sums))
    found.put(index, input_fingerprint=whole >> 12)
    floating = [next((tensor for tensor in tensors if tensor.is_floating_point()), None) for tensors in inputs]
    if any(tensor is None for tensor in floating):
        return
    arrays = [tensor.double().numpy() for tensor in floating if tensor is not None]
    values = np.concatenate([array.ravel() for array in arrays])
    found.put(index, input_mean=values.mean(), input_std=values.std(), input_min=values.min(), input_max=values.max())
    found.scale["input_mean", index] = max(abs(values.mean()), values.std())
    if arrays[0].ndim == 2:
        deviations = np.concatenate(arrays).std(0)
        varying = deviations[deviations > 0]
        found.put(index, input_spread=varying.max() / varying.min() if len(varying) else math.nan)


def checksum(tensor: Tensor) -> int:
    """Return the checksum in Python's integers, wrapped to 64 bits with a sign as a machine does it."""
    data = tensor.contiguous().numpy().tobytes()
    rows = max(1, -(-len(data) // (8 * WIDTH)))
    data = data.ljust(rows * 8 * WIDTH, b"\0")
    words = [int.from_bytes(data[at : at + 8], "little", signed=True) for at in range(0, len(data), 8)]
    count = len(words)
    if tensor.element_size() == 8:
        words = [word ^ (word >> 32) for word in words]
    while len(words) > 1:
        words += [0] * (-len(words) % WIDTH)
        sums = [
            sum(word * weight(place) for place, word in enumerate(words[at : at + WIDTH]))
            for at in range(0, len(words), WIDTH)
        ]
        words = [wrapped(one) ^ (wrapped(one) >> 32) for one in sums]
    return wrapped(words[0] + count)


def wrapped(number: int) -> int:
    return (number + 2**63) % 2**64 - 2**63


def weight(place: int) -> int:
    """Return the ``place``-th output of the published SplitMix64 generator seeded with 0, made odd."""
    z = 0x9E3779B97F4A7C15 * (place + 1) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return (z ^ (z >> 31)) | 1


# What the loss was given ----------------------------------------------------------------------------------------------


def put_labels(found: Truth, index: int, parts: Sequence[Part]) -> None:
    scored = logits_of(parts[0].problem)
    if scored is None:
        return
    pairs = []
    for part in parts:
        one = passed(part, doubled(part.before.parameters))
        pairs.append(scored(one.output, one.labels))
    logits = torch.cat([pair[0].detach() for pair in pairs])
    labels = torch.cat([pair[1].detach() for pair in pairs]).long().tolist()
    shares = [labels.count(label) / len(labels) for label in set(labels)]
    found.put(index, classes=logits.shape[1], labels=len(labels))
    found.put(index, label_entropy=-sum(share * math.log(share) for share in shares))
    found.scale["label_entropy", index] = 1.0  # 0 but for rounding where all labels are equal
    if (logits[:, 0] == 0).all() and logits.shape[1] == 2:  # choices between off and on, that need not sum to anything
        return
    rows = logits.tolist()
    found.put(
        index,
        probability_rows=sum(min(row) >= 0 and abs(sum(row) - 1) <= 1e-3 for row in rows) / len(rows),
        log_probability_rows=sum(max(row) <= 0 and abs(sum(map(math.exp, row)) - 1) <= 1e-3 for row in rows)
        / len(rows),
    )


# The gradient on its way, and the weights -----------------------------------------------------------------------------


def put_buffers(found: Truth, index: int, step: Step, evaluation: Evaluation) -> None:
    """Zeros are counted in the gradient as the run had it: another precision has others."""
    seen = step.clipped or dict(evaluation.gradient)
    missing = {name: math.nan for name, gradient in seen.items() if gradient is None}
    present = {name: gradient for name, gradient in seen.items() if gradient is not None}
    zeros = {name: (gradient == 0).double() for name, gradient in present.items()}
    shares = {name: share.mean().item() for name, share in zeros.items()}
    found.put_layers("zero_gradient", index, shares | missing, flat(zeros).mean().item())
    used = flat({name: gradient.double() for name, gradient in present.items()}).norm().item()
    left = evaluation.flat_gradient().norm().item()
    found.put(index, clip_factor=used / left if left else 1.0, stale_gradient=0.0)


def put_weights(found: Truth, index: int, here: Vectors) -> None:
    matrices = {name: tensor.flatten(1).numpy() for name, tensor in here.items() if tensor.dim() > 1}
    if not matrices:
        return
    everything = np.concatenate([matrix.ravel() for matrix in matrices.values()])
    found.put_layers("weight_std", index, {name: m.std() for name, m in matrices.items()}, everything.std())
    spreads = {name: row_spread(matrix) for name, matrix in matrices.items()}
    known = [spread for spread in spreads.values() if not math.isnan(spread)]
    found.put_layers("row_spread", index, spreads, min(known) if known else math.nan)


def row_spread(matrix: np.ndarray) -> float:
    if len(matrix) == 1:
        return math.nan
    away = max(np.linalg.norm(row - matrix.mean(0)) for row in matrix)
    longest = max(np.linalg.norm(row) for row in matrix)
    return float(away / longest) if longest else 0.0
