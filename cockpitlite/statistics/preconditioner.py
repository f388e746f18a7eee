"""What the optimizer divides its gradient by, and how large lr·λ_max may grow before its iteration is unstable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from cockpitlite.precision import widest
from cockpitlite.statistics.settings import Settings
from cockpitlite.statistics.statistic import Statistic, Supply
from cockpitlite.statistics.step import Unavailable

_Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Preconditioner(Statistic):
    """lr/P per element as ``scales`` (one tensor per parameter, 0 where a parameter is not updated).

    ``factor`` times λ_max of the scaled Hessian is 1 at the edge of stability. ``rate`` is the learning rate where it
    is all there is to scale by, the same for every parameter, else None.
    """

    scales: Sequence[Tensor]
    factor: float | Tensor
    rate: float | Tensor | None
    needs_model: ClassVar[bool] = True

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Read the optimizer's state as the step left it: its second moments are those the step divided by."""
        step = supply.step
        optimizer = step.optimizer
        kind = next((kind for kind in _KINDS if isinstance(optimizer, kind)), None)
        if kind is None:
            raise Unavailable(f"the edge of stability is not known for {type(optimizer).__name__}")
        scale, factor = _KINDS[kind]
        groups = supply(Settings).each
        factors = {str(factor(group)) for group in step.groups}
        if len(factors) > 1:
            raise Unavailable("the parameter groups have different momenta, and with them different edges")
        scales = []
        for parameter, start, group in zip(step.parameters, step.start, groups, strict=True):
            state = optimizer.state.get(parameter, {})
            missing = parameter.grad is None and not state
            scales.append(torch.zeros_like(start) if missing else _full(scale(group, state), start))
        rates = [group["lr"] for group in step.groups]
        plain = kind is torch.optim.SGD and all(rate is rates[0] or rate == rates[0] for rate in rates)
        return cls(scales, factor(step.groups[0]), rates[0] if plain else None)


def _full(scale: Tensor | float, like: nn.Parameter | Tensor) -> Tensor:
    if not isinstance(scale, Tensor):
        return torch.full_like(like, float(scale))
    return scale.to(like, non_blocking=True).expand_as(like)


# Each optimizer: lr/P of an element, and the factor that makes lr·λ_max(P⁻¹H) one at the edge.


def _sgd_factor(group: _Settings) -> float:
    """Return 1/2, (1 − dampening)/(2 + 2β), or (1 + 2β)/(2 + 2β) of Nesterov (Cohen et al. 2021, arXiv:2103.00065)."""
    momentum = group["momentum"]
    if group["nesterov"]:
        return float((1 + 2 * momentum) / (2 + 2 * momentum))
    dampening = group["dampening"] if momentum else 0.0
    return float((1 - dampening) / (2 + 2 * momentum))


def _adam_scale(group: _Settings, state: Mapping[str, Any]) -> Tensor | float:
    """Return lr/P, P = (1 − β1^t)(√(v/(1 − β2^t)) + ε) (Cohen et al. 2022, arXiv:2207.14484)."""
    if "exp_avg_sq" not in state:
        return 0.0
    beta1, beta2 = group["betas"]
    taken = widest(torch.as_tensor(state["step"]))
    squares: Tensor = state["max_exp_avg_sq"] if group.get("amsgrad") else state["exp_avg_sq"]
    first, second = (1 - beta1**taken), (1 - beta2**taken)
    root = (widest(squares) / second.to(squares.device, non_blocking=True)).sqrt()
    scale: Tensor = group["lr"] / (first.to(squares.device, non_blocking=True) * (root + group["eps"]))
    return scale


def _adam_factor(group: _Settings) -> float:
    beta1 = group["betas"][0]
    return float((1 - beta1) / (2 + 2 * beta1))


def _rmsprop_scale(group: _Settings, state: Mapping[str, Any]) -> Tensor | float:
    if "square_avg" not in state:
        return 0.0
    squares: Tensor = state["square_avg"]
    if group["centered"]:
        squares = squares - state["grad_avg"].square()
    scale: Tensor = group["lr"] / (squares.clamp(min=0).sqrt() + group["eps"])
    return scale


def _rmsprop_factor(group: _Settings) -> float:
    return float(1 / (2 + 2 * group["momentum"]))


def _adagrad_scale(group: _Settings, state: Mapping[str, Any]) -> Tensor | float:
    taken = widest(torch.as_tensor(state["step"]))
    rate = group["lr"] / (1 + (taken - 1) * group["lr_decay"])
    scale: Tensor = rate.to(state["sum"].device, non_blocking=True) / (widest(state["sum"]).sqrt() + group["eps"])
    return scale


_KINDS: dict[type[torch.optim.Optimizer], tuple[Any, Any]] = {
    torch.optim.SGD: (lambda group, state: group["lr"], _sgd_factor),
    torch.optim.Adam: (_adam_scale, _adam_factor),
    torch.optim.AdamW: (_adam_scale, _adam_factor),
    torch.optim.RMSprop: (_rmsprop_scale, _rmsprop_factor),
    torch.optim.Adagrad: (_adagrad_scale, lambda group: 0.5),
}
