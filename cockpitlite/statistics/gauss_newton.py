"""Diagonals of the generalised Gauss-Newton matrix (GGN) and of the Hessian."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from cockpitlite.backpacked import Unknown, backpack_diagonal
from cockpitlite.curvature import TraceEstimate, no_less_than_usual
from cockpitlite.heads import Column, Evaluation, Heads, NoHeads, dealt_out
from cockpitlite.losses import has_shared_term
from cockpitlite.precision import wide_sum, widest
from cockpitlite.records import Backward
from cockpitlite.replay import dense
from cockpitlite.statistics.account import Account
from cockpitlite.statistics.evaluation import Again
from cockpitlite.statistics.piecewise import depends_only_on, is_linear_in_each
from cockpitlite.statistics.rule import CHUNK
from cockpitlite.statistics.statistic import Statistic, Supply, Want
from cockpitlite.statistics.step import Step, Unavailable
from cockpitlite.statistics.survey import Asked, Found, add_to, side_by_side, surveyed

Kind = Literal["ggn_mc", "ggn_exact", "diag_h"]
KINDS: tuple[Kind, ...] = ("ggn_mc", "ggn_exact", "diag_h")

DRAWN_LABELS = 64  # labels drawn at the least for a Monte-Carlo diagonal: several a sample in small batches,
GROUPS = 16  # and squares that each of its elements is a mean of; as many groups of samples, where those interact
MOST_COLUMNS = 512  # backward passes that an exact diagonal may take


@dataclass(frozen=True)
class CurvatureDiagonal(Statistic):
    """Diagonals of curvature matrices of the batch loss at θ_t, one tensor per parameter.

    ``ggn_exact`` is that of the GGN JᵀH_L J, J the derivative of what the loss function is given and H_L the loss's
    Hessian there; ``diag_h`` that of the Hessian. BackPACK computes both where it knows every layer and the loss; for
    the first our own engine takes over elsewhere, with one backward for each output of a sample. ``ggn_mc`` is an
    unbiased estimate of the first by one backward, from labels drawn from the model's own distribution; where samples
    interact, by one for each of 16 groups of them. ``drawn`` is then what each draw adds to its trace.
    """

    step: Step
    again: Again
    known: dict[str, list[Tensor]] = field(default_factory=dict)
    drawn: list[Tensor] = field(default_factory=list)
    wants: ClassVar[frozenset[Want]] = frozenset({Want.FORWARD})
    needs_model: ClassVar[bool] = True
    rests_on: ClassVar[str] = "replay"

    @classmethod
    def of(cls, supply: Supply) -> Self:
        """Nothing is computed until a diagonal is asked for."""
        return cls(supply.step, supply(Again))

    def __call__(self, kind: Kind) -> list[Tensor]:
        """Return a diagonal; NaN where the batch did not evaluate to the loss that was computed."""
        if kind not in self.known:
            try:
                found = self._found(kind)
            except NoHeads as reason:
                raise Unavailable(str(reason)) from reason
            self.known[kind] = [self.step.trusted("replay", part) for part in found]
        return self.known[kind]

    def trace_of_hessian(self) -> TraceEstimate | None:
        """Return tr H from drawn labels, where the GGN has the same trace; None where that is not known.

        The draws are independent, so the scatter of what they add bounds the standard error: it holds the differences
        between samples too. Draws that miss a rare label know neither: the mean of the steps before counts where it is
        the larger. NaN for a tensor that is frozen.
        """
        step = self.step
        if not self._shares_trace:
            return None
        by_tensor = torch.stack([wide_sum(part) for part in self("ggn_mc")])
        added = widest(torch.cat(self.drawn))
        variance, step.memory.scatter = no_less_than_usual(len(added) * added.var(), step.memory.scatter)
        frozen = torch.tensor(step.frozen).to(by_tensor.device, non_blocking=True)
        return TraceEstimate(by_tensor.sum(), by_tensor.masked_fill(frozen, torch.nan), variance.sqrt())

    @cached_property
    def _shares_trace(self) -> bool:
        """Whether the model is found to be linear in each tensor, on the way to losses of a known form.

        One that was not is not looked at again, and costs nothing more.
        """
        memory = self.step.memory
        if memory.curved or any(has_shared_term(backward) for backward in self.step.backwards):
            return False
        wanted = memory.calls_wanted
        try:
            shares = all(_is_linear(evaluation) for evaluation in self.again.with_calls)
            if shares:
                self("ggn_mc")
        except Unavailable:
            shares = False
        if not shares:
            memory.curved, memory.calls_wanted = True, wanted
        return shares

    def _found(self, kind: Kind) -> list[Tensor]:
        step = self.step
        if not step.backwards:
            raise Unavailable("no backward was seen in this step, so its batch cannot be evaluated again")
        parts = [self._of_one(index, kind) for index in range(len(step.backwards))]
        return [sum(of_each[1:], of_each[0]) for of_each in zip(*parts, strict=True)]

    def _of_one(self, index: int, kind: Kind) -> list[Tensor]:
        """Ask BackPACK for what is exact of a backward; where it does not know the model, the GGN is within reach."""
        step, backward = self.step, self.step.backwards[index]
        if kind != "ggn_mc":
            try:
                if step.sign < 0:
                    raise Unknown("the loss is maximised")
                return backpack_diagonal(backward, step.parameters, step.start, kind)
            except Unknown as reason:
                if kind == "diag_h":
                    told = f"the diagonal of the Hessian is computed by BackPACK, and {reason}"
                    raise Unavailable(told) from reason
        diagonal, traces = _own_diagonal(step, backward, self.again.with_calls[index], kind)
        if kind == "ggn_mc":
            self.drawn.append(traces)
        return diagonal


def _is_linear(evaluation: Evaluation) -> bool:
    """Whether a loss depends on the parameters through heads that are linear in each of them, and no other way."""
    replay, ends = evaluation.replay, [head.given for head in evaluation.heads]
    return not replay.calls_python and depends_only_on(replay.loss, ends) and is_linear_in_each(ends)


def _draws(backward: Backward, heads: Heads) -> int:
    """Return how often labels are drawn: for labels enough in all, and for squares enough in each element."""
    return max(1, -(-DRAWN_LABELS // max(1, heads.rows)), -(-GROUPS // (backward.samples or GROUPS)))


def _own_diagonal(step: Step, backward: Backward, evaluation: Evaluation, kind: Kind) -> tuple[list[Tensor], Tensor]:
    """Return the sum over samples of squares of what roots of the loss's Hessian contribute to the gradient.

    And what each column of each sample adds to the trace of that diagonal, one after another.
    """
    heads = Heads(evaluation, step.generator, step.sign)
    _check(step, heads)
    if kind == "ggn_mc":
        draws = _draws(backward, heads)
        columns: Iterable[Column] = ([part / draws**0.5 for part in heads.drawn()] for _ in range(draws))
    else:
        columns = _all_columns(heads, backward)
    assert backward.samples is not None
    groups = min(GROUPS, backward.samples) if kind == "ggn_mc" else backward.samples
    seen = replace(backward, givens=[], nodes=[], trace=None, scale=None, forwards=evaluation.forwards, spread={})
    squared = functools.partial(_by_samples if _mixes_samples(backward) else _by_calls_or_samples, groups=groups)
    total: dict[int, Tensor] = {}
    traces = []
    for column in columns:
        found = squared(step, seen, evaluation, column)
        add_to(total, found.moments)
        assert found.squared is not None
        traces.append(found.squared)
    parts = [total[index] if index in total else torch.zeros_like(start) for index, start in enumerate(step.start)]
    return parts, torch.cat(traces)


def _check(step: Step, heads: Heads) -> None:
    """Ask once, waiting for the device, whether the loss has the curvature that its kind has."""
    if step.memory.known_loss is None and bool(heads.finite):
        step.memory.known_loss = bool(heads.sound)
    if step.memory.known_loss is False:
        raise Unavailable(
            "the loss is not known to be a sum over softmaxes or single outputs, so its curvature in the model's "
            "output is not known"
        )


def _all_columns(heads: Heads, backward: Backward) -> Iterable[Column]:
    """Return the columns of a root of H_L: one for each output of a sample, all samples at once."""
    samples = backward.samples
    assert samples is not None
    if any(z.shape[0] % samples for z in heads.inputs):
        raise Unavailable("which outputs belong to which sample was not seen; use curvature='ggn_mc'")
    width = sum(z.numel() // samples for z in heads.inputs)
    if width > MOST_COLUMNS:
        raise Unavailable(f"an exact diagonal would take {width} backward passes a step; use curvature='ggn_mc'")
    return heads.columns(samples)


def _mixes_samples(backward: Backward) -> bool:
    """Whether a sample's output depends on the others, through the statistics of a batch."""
    return any(
        isinstance(part, nn.modules.batchnorm._BatchNorm) and (forward.modes[id(part)] or part.running_mean is None)
        for forward in backward.forwards
        for part in forward.root.modules()
    )


def _by_calls(step: Step, seen: Backward, evaluation: Evaluation, column: Column) -> Found[int]:
    """Send a column back once, and square what each sample contributes at the calls it passes."""
    seen = replace(seen, spread=evaluation.send(column))
    try:
        account = Account.of(replace(step, backwards=[seen], chosen=[None], unseen=False), seen, None)
        return account.survey(Asked(account.parameters, squares=True, moments=True))
    finally:
        evaluation.forget_gradients()


def _by_calls_or_samples(step: Step, seen: Backward, evaluation: Evaluation, column: Column, groups: int) -> Found[int]:
    """Take the calls where all parameters act through calls that can be divided among the samples."""
    try:
        return _by_calls(step, seen, evaluation, column)
    except Unavailable:
        return _by_samples(step, seen, evaluation, column, groups)


def _by_samples(step: Step, seen: Backward, evaluation: Evaluation, column: Column, groups: int) -> Found[int]:
    """Send a column back one group of samples at a time, for models whose samples interact.

    Independent draws may share a group: their products with each other are zero on average.
    """
    samples = seen.samples
    assert samples is not None
    if any(part.shape[0] % samples for part in column):
        raise Unavailable("which outputs belong to which sample was not seen, in a model whose samples interact")
    size = sum(start.numel() for start in step.start) + sum(part.numel() for part in column)
    parts = []
    for some in torch.arange(groups).split(max(1, CHUNK // size)):
        products = enumerate(evaluation.products([dealt_out(part, some, groups, samples) for part in column]))
        built = {index: dense(each) for index, each in products if each is not None}
        parts.append(surveyed(built, Asked(list(built), squares=True, moments=True)))
    return side_by_side(parts)
