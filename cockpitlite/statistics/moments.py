"""Second moments of the per-sample gradients, element by element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from cockpitlite.precision import wide_sum
from cockpitlite.statistics.samples import SampleSurvey, SharedGradient
from cockpitlite.statistics.statistic import Statistic, Supply, Want


@dataclass(frozen=True)
class SecondMoments(Statistic):
    """Sums over all N samples of elementwise squares, one tensor per watched parameter.

    ``squares`` is Σ g_n², ``deviations`` Σ (g_n − g)². Where only K < N samples are looked at both are N/K times their
    sums (``estimated``): unbiased, but what divides by them is not.
    """

    names: Sequence[str]
    frozen: Sequence[bool]
    squares: Sequence[Tensor]
    deviations: Sequence[Tensor]
    samples: int
    estimated: bool
    wants: ClassVar[frozenset[Want]] = frozenset({Want.MOMENTS})
    needs_model: ClassVar[bool] = True
    rests_on: ClassVar[str] = "contributions"

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Sum over the samples looked at, and centre about the gradient of the whole batch."""
        step, survey = supply.step, supply(SampleSurvey)
        total, looked_at = step.samples, survey.looked_at
        squares, plain = _contributed(supply, survey)
        whole = step.signed(step.gradient)
        # Rounded contributions are centred about their own mean: it differs from the gradient by their rounding.
        centres = [s * (total / looked_at) for s in plain] if looked_at == total else whole
        each = zip(squares, plain, centres, strict=True)
        spread = [(total**2 * q - 2 * total * g * s + looked_at * g.square()).clamp(min=0) for q, s, g in each]
        share = total / looked_at
        return cls(
            step.names,
            step.frozen,
            [step.trusted("contributions", q * (total**2 * share)) for q in squares],
            [step.trusted("contributions", deviation * share) for deviation in spread],
            total,
            looked_at < total,
        )

    def means(self, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the mean of elementwise quantities over all parameters, and over each tensor ``[parameter]``.

        What is frozen does not count, and is NaN.
        """
        sums = torch.stack([wide_sum(part) for part in parts])
        sizes = torch.tensor(
            [0 if gone else p.numel() for p, gone in zip(parts, self.frozen, strict=True)], device="cpu"
        )
        counts = sizes.to(sums, non_blocking=True)
        counted = torch.where(counts > 0, sums, 0)
        return counted.sum() / counts.sum(), counted / counts


def _contributed(supply: Supply, survey: SampleSurvey) -> tuple[list[Tensor], list[Tensor]]:
    """Return Σ c_n² and Σ c_n over the samples looked at, with each sample's part of what they share."""
    step, shared = supply.step, supply(SharedGradient).each
    squares = _filled(survey.moments, step.gradient)
    if not survey.sums:
        plain = step.signed(step.gradient)
    else:
        plain = _filled(survey.sums, step.gradient)
    if shared is None:
        return squares, plain
    looked_at, total = survey.looked_at, step.samples
    if survey.sums:
        plain = [s + r * (looked_at / total) for s, r in zip(plain, shared, strict=True)]
    parts = zip(squares, plain, shared, strict=True)  # Σ(c + r/N)² = Σc² + 2 r/N Σ(c + r/N) − K (r/N)²
    squares = [(q + 2 * r / total * s - looked_at * (r / total).square()).clamp(min=0) for q, s, r in parts]
    return squares, plain


def _filled(found: Mapping[int, Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    """Return what was found for each parameter, zero for those that nothing reached."""
    return [found[index] if index in found else torch.zeros_like(each) for index, each in enumerate(like)]
