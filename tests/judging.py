"""The judge of the matrix: each instrument's readings in a run file against a row's truth, one verdict for each."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from curvature_twins import (
    Diagonals,
    Estimates,
    Spreads,
    bounds_of_counts,
    bounds_of_joint_counts,
    elements_of,
    put_activations,
    put_classes,
    put_curvature,
)
from matrix import Row, Trained
from probe_twins import put_probes
from test_bit_identity import End, differences, end_of
from twins import (
    ALPHAS,
    FIT,
    Evaluation,
    Journey,
    Leg,
    Recorder,
    Step,
    Truth,
    Vectors,
    diagnosed,
    doubled,
    evaluate_step,
    truth,
)

import cockpitlite
from cockpitlite.instruments import HessTrace, TicDiag, TicTrace

Pair = tuple[np.ndarray, np.ndarray]
Kind = Literal["exact", "estimated", "unavailable", "none", "missing", "wrong"]
READINGS: dict[str, tuple[str, ...]] = {  # of each instrument, the one it is named after first
    "loss": ("loss",),
    "loss_std": ("loss_std",),
    "accuracy": ("accuracy", "balanced_accuracy"),
    "class_loss": ("class_loss",),
    "learning_rate": ("learning_rate",),
    "batch_size": ("batch_size",),
    "alpha": ("alpha", "alpha_std", *FIT),
    "alpha_curvature": ("alpha_curvature",),
    "alpha_same": ("alpha_same", "slope_same_start", "slope_same_end"),
    "alpha_next": ("alpha_next", "slope_next_start", "slope_next_end"),
    "uphill": ("uphill",),
    "update_size": ("update_size",),
    "distance": ("distance",),
    "update_ratio": ("update_ratio",),
    "grad_norm": ("grad_norm",),
    "grad_norm_clipped": ("grad_norm_clipped",),
    "norm_test": ("norm_test",),
    "inner_test": ("inner_test",),
    "ortho_test": ("ortho_test",),
    "noise_scale": ("noise_scale", "noise_trace", "grad_signal"),
    "mean_gsnr": ("mean_gsnr",),
    "early_stopping": ("early_stopping",),
    "cabs": ("cabs",),
    "hess_trace": ("hess_trace",),
    "tic_diag": ("tic_diag",),
    "tic_trace": ("tic_trace",),
    "step_curvature": ("step_curvature", "grad_curvature"),
    "hess_max_ev": ("hess_max_ev",),
    "hess_min_ev": ("hess_min_ev",),
    "edge_of_stability": ("edge_of_stability",),
    "activations": ("activation_mean", "activation_std"),
    "dead_units": ("dead_units",),
    "saturated_units": ("saturated_units",),
    "zero_gradient": ("zero_gradient",),
    "clip_factor": ("clip_factor",),
    "stale_gradient": ("stale_gradient",),
    "input_mean": ("input_mean", "input_std", "input_min", "input_max", "input_spread"),
    "input_fingerprint": ("input_fingerprint",),
    "classes": ("classes", "labels", "label_entropy"),
    "probability_rows": ("probability_rows", "log_probability_rows"),
    "weight_std": ("weight_std",),
    "row_spread": ("row_spread",),
}
HISTOGRAMS = ("grad_hist_1d", "grad_hist_2d")
PLAUSIBLE = {
    "vitals": ("cost_share", "memory"),
    "interval": ("interval",),
    "throughput": ("samples_per_second",),
    "data_wait": ("data_wait",),
}
INSTRUMENTS = (*READINGS, *HISTOGRAMS, *PLAUSIBLE)
ESTIMATED = ("hess_trace", "tic_diag", "tic_trace")
DIAGNOSED = (*READINGS["alpha_same"], *READINGS["alpha_next"])
FIFTH = ("zero_gradient", *READINGS["input_mean"], *READINGS["probability_rows"], "weight_std", "row_spread")
PROBES = (  # on the diagnosis schedule, and those above on every fifth step of it
    *FIFTH,
    *(
        "dead_units",
        "saturated_units",
        "clip_factor",
        "stale_gradient",
        "input_fingerprint",
        "classes",
        "labels",
        "label_entropy",
    ),
)
OPTIONAL = ("alpha_std", "uphill")  # nothing is asked of a fit without a minimum; uphill is said wherever it is known
ITERATED = ("hess_max_ev", "hess_min_ev", "edge_of_stability")


@dataclass(frozen=True)
class Verdict:
    """What a run says of one instrument; ``none`` is an instrument that the run left out of its panel for the model.

    ``error`` is the largest relative error of an exact reading, and the largest number of standard errors of an
    estimated one, or of residuals for one that is still converging. ``reason`` is what a user would read; of an exact
    reading, why a part of it is missing.
    """

    kind: Kind
    error: float = 0.0
    reason: str = ""


@dataclass
class RowTruth:
    """Everything that is right about a row, from its unwatched run."""

    readings: Truth
    estimates: dict[tuple[str, int], Estimates]
    evaluations: dict[int, Evaluation]
    places: dict[int, Vectors]
    diagonals: dict[int, Diagonals] = field(default_factory=dict)
    signs: dict[int, float] = field(default_factory=dict)
    ends: set[int] = field(default_factory=set)


# The truth of a row ---------------------------------------------------------------------------------------------------


def truth_of(row: Row, recorder: Recorder, *, curvature: bool = True) -> RowTruth:
    """Work out the truth of the run file that a row names; each leg of it starts anew."""
    whole = RowTruth(Truth(), {}, {}, {})
    offset = 0
    for leg in recorder.runs[row.run]:
        journey = journey_of(row, leg, recorder, offset)
        found = truth(row.right_problem, journey)
        spreads = put_curvature(found, row.right_problem, journey) if curvature else Spreads()
        for index, step in enumerate(journey.steps):
            here = doubled(step.before.parameters)
            put_classes(found, index, row.right_problem, step)
            put_activations(found, index, row.right_problem, step, here)
            whole.evaluations[offset + index] = evaluate_step(row.right_problem, here, step)
            put_probes(found, index, row.right_problem, step, here, whole.evaluations[offset + index])
            whole.places[offset + index] = here
            whole.signs[offset + index] = step.sign
        add(whole.readings, found, offset)
        whole.estimates.update({(name, offset + index): one for (name, index), one in spreads.estimates.items()})
        whole.diagonals.update({offset + index: one for index, one in spreads.diagonals.items()})
        offset += len(journey.steps)
        whole.ends.add(offset - 1)
    return whole


def journey_of(row: Row, leg: Leg, recorder: Recorder, offset: int) -> Journey:
    batches = row.batches()
    journey = Journey(leg.model, leg.optimizer, start=leg.start)
    for index, taken in enumerate(leg.taken):
        parts = row.parts(row, offset + index, taken, batches, recorder)
        rates = {name: float(options["lr"]) for name, options in taken.rule.options.items()}
        journey.steps.append(
            Step(
                before=taken.before,
                batch=parts[0].batch,
                clipped={} if row.evaluated_inside else taken.clipped,
                learning_rate=next(iter(rates.values())),
                parts=parts,
                paired=row.paired,
                rule=taken.rule,
                learning_rates=rates,
            )
        )
    return journey


def add(whole: Truth, leg: Truth, offset: int) -> None:
    """Append a leg's truth."""
    for name, series in leg.series.items():
        whole.series.setdefault(name, {}).update({offset + step: value for step, value in series.items()})
    for name, layers in leg.layers.items():
        whole.layers.setdefault(name, {}).update({offset + step: values for step, values in layers.items()})
    for mine, theirs in ((whole.condition, leg.condition), (whole.scale, leg.scale), (whole.choices, leg.choices)):
        mine.update({(name, offset + step): value for (name, step), value in theirs.items()})
    whole.unweighted.update({offset + step: fit for step, fit in leg.unweighted.items()})


# The judgement --------------------------------------------------------------------------------------------------------


class Judge:
    """Compares one run with one truth."""

    def __init__(self, row: Row, run: cockpitlite.Run, right: RowTruth) -> None:
        self.row = row
        self.run = run
        self.right = right
        self.reasons = run.unavailable()

    def verdicts(self, instruments: Sequence[str] = INSTRUMENTS) -> dict[str, Verdict]:
        return {name: self.verdict(name) for name in instruments}

    def verdict(self, instrument: str) -> Verdict:
        """Judge an instrument by its first reading; what else it says may be missing for a reason, never wrong."""
        if instrument in HISTOGRAMS:
            return self.histogram(instrument)
        if instrument in PLAUSIBLE:
            return self.plausible(PLAUSIBLE[instrument])
        verdicts = [self.reading(name, instrument) for name in READINGS[instrument]]
        for kind in ("wrong", "missing"):
            if any(verdict.kind == kind for verdict in verdicts):
                return next(verdict for verdict in verdicts if verdict.kind == kind)
        first = verdicts[0]
        if first.kind == "unavailable":
            return first
        gaps = {verdict.reason for verdict in verdicts if verdict.kind == "unavailable" and verdict.reason}
        return replace(first, error=max(verdict.error for verdict in verdicts), reason="; ".join(sorted(gaps)))

    def reason(self, name: str, instrument: str) -> str | None:
        return self.reasons.get(name) or self.reasons.get(instrument)

    def reading(self, name: str, instrument: str) -> Verdict:
        """Judge one reading at every step at which it is due."""
        said, right = self.said(name), self.right.readings.series.get(name, {})
        due = self.due(name)
        reason = self.reason(name, instrument)
        first = name == READINGS[instrument][0]
        if all(math.isnan(right[step]) for step in due):  # nothing can be right but to say why
            if any(not math.isnan(value) for value in said.values()) and name != "alpha_std":
                return Verdict("wrong", math.inf, f"{name}: {said} where there is nothing to say")
            if not first or reason:
                return Verdict("unavailable", 0.0, reason or "")
            if instrument not in self.run.meta["panel"]:
                return Verdict("none")
            return Verdict("missing", 0.0, f"{name}: no value and no reason; none is right")
        if not said:
            return Verdict("unavailable", 0.0, reason) if reason else Verdict("missing", 0.0, f"{name}: not in the run")
        if all(math.isnan(value) for value in said.values()) and reason:
            return Verdict("unavailable", 0.0, reason)
        absent = [step for step in due if step not in said and not math.isnan(right[step]) and name not in OPTIONAL]
        if absent and not reason:
            return Verdict("missing", 0.0, f"{name}: no value at steps {absent}")
        surplus = [step for step in said if step not in right and not math.isnan(said[step]) and name not in OPTIONAL]
        said = {step: value for step, value in said.items() if step in right}
        if surplus:
            return Verdict("wrong", math.inf, f"{name}: a value at steps {surplus}")
        judge = self.estimated if name in ESTIMATED else self.exact
        verdicts = [judge(name, step, said[step]) for step in sorted(said)]
        verdicts += self.stated_errors() if name == "hess_trace" else []
        verdicts += self.layers(name) if name in self.right.readings.layers else []
        worst = max(verdicts, key=lambda verdict: (verdict.kind == "wrong", verdict.error))
        return replace(worst, reason=worst.reason or (reason or "" if absent else ""))

    def said(self, name: str) -> dict[int, float]:
        try:
            steps, values = self.run.series(name)
        except KeyError:
            return {}
        return dict(zip(steps.tolist(), values.tolist(), strict=True))

    def due(self, name: str) -> list[int]:
        right = self.right.readings.series.get(name, {})
        if name in DIAGNOSED:
            return [step for step in sorted(right) if diagnosed(step) and step not in self.right.ends]
        if name in PROBES:
            return [step for step in sorted(right) if diagnosed(step) and (step % 5 == 0 or name not in FIFTH)]
        return sorted(right)

    def exact(self, name: str, step: int, said: float) -> Verdict:
        right = self.right.readings
        values = [right.series[name][step], *right.choices.get((name, step), ())]
        if name in ("alpha", "alpha_std", "alpha_curvature") and self.spread_is_hidden():
            fit = right.unweighted.get(step)
            values += (
                [] if fit is None else [{"alpha": fit.alpha, "alpha_curvature": fit.curvature}.get(name, math.nan)]
            )
        if name.endswith("_var") and self.spread_is_hidden():
            values.append(math.nan)
        scale = right.scale.get((name, step))
        errors = [relative_error(said, value, name, scale) for value in values]
        error = min(errors)
        allowed = self.row.tolerance * right.condition.get((name, step), 1.0)
        if name in ITERATED:
            allowed = max(allowed, 1e-6)
            if allowed < error <= self.residual(name, step):  # not there yet, and it says how far
                return Verdict("estimated", 3 * error / self.residual(name, step))
        return self.within(error, allowed, f"{name}[{step}]: {said!r} instead of {values[0]!r}")

    def within(self, error: float, allowed: float, text: str) -> Verdict:
        if error <= allowed:
            return Verdict("exact", error)
        return Verdict("wrong", error, f"{text} (relative error {error:.1e})")

    def spread_is_hidden(self) -> bool:
        return "norm_test" in self.reasons or "loss_std" in self.reasons or "loss" in self.reasons

    def residual(self, name: str, step: int) -> float:
        """Return three times the residual that the run states for an eigenvalue, relative to the spectrum."""
        source = "hess_max_ev" if name == "edge_of_stability" else name
        stated = self.said(f"{source}_residual").get(step, 0.0)
        return 3 * stated / self.right.readings.scale.get((source, step), 1.0)

    def layers(self, name: str) -> list[Verdict]:
        try:
            steps, layers, values = self.run.layers(name)
        except KeyError:
            return [Verdict("missing", 0.0, f"{name}: no layers")]
        right = self.right.readings
        verdicts = []
        for row, step in enumerate(steps.tolist()):
            expected = right.layers[name][step]
            told = dict(zip(layers, values[row].tolist(), strict=True))
            surplus = {layer for layer in set(told) - set(expected) if not math.isnan(told[layer])}
            gaps = {layer for layer in set(expected) - set(told) if not math.isnan(expected[layer])}
            if surplus or gaps:
                return [
                    Verdict("wrong", math.inf, f"{name}[{step}]: layers {sorted(gaps)} lack, {sorted(surplus)} not")
                ]
            both = set(told) & set(expected)
            verdicts += [self.layer(name, step, layer, told[layer], expected[layer]) for layer in both]
        return verdicts

    def layer(self, name: str, step: int, layer: str, said: float, right: float) -> Verdict:
        if name in ESTIMATED:
            centre, deviation = self.right.estimates[name, step].layers[layer]
            return self.apart(name, step, abs(said - centre) / max(deviation, 1e-12), f"{said} instead of {centre}")
        total = abs(self.right.readings.series[name][step])
        # Rounding is all there is of a gradient that vanishes by symmetry, as a bias's before BatchNorm.
        scale = max(abs(right), 1e-6 * total, self.right.readings.scale.get((name, step), 0.0))
        error = relative_error(said, right, name, scale)
        return self.within(error, self.row.tolerance, f"{name}[{step}, {layer}]: {said!r} instead of {right!r}")

    def estimated(self, name: str, step: int, said: float) -> Verdict:
        """Judge by how many standard deviations of one probe an estimate is off; ratios by their logarithms."""
        one = self.right.estimates[name, step]
        if math.isnan(said) or (said <= 0 and name != "hess_trace"):
            return Verdict("wrong", math.inf, f"{name}[{step}]: {said}")
        found = said if name == "hess_trace" else math.log(said)
        deviation = one.deviation if name == "hess_trace" else max(one.deviation, 0.01)
        return self.apart(name, step, abs(found - one.centre) / max(deviation, 1e-12), f"{found} not {one.centre}")

    def stated_errors(self) -> list[Verdict]:
        """The stated error of a trace is itself an estimate: it is of the size of a probe's, or less and kept."""
        verdicts = []
        for step, stated in self.said("hess_trace_std").items():
            one = self.right.estimates["hess_trace", step]
            right, gap = one.deviation, abs(self.said("hess_trace")[step] - one.centre)
            if stated > 20 * right + 1e-12 or (stated < 0.2 * right and gap > 5 * stated):
                verdicts.append(Verdict("wrong", math.inf, f"hess_trace_std[{step}]: {stated} instead of {right}"))
        return verdicts

    def apart(self, name: str, step: int, errors: float, text: str) -> Verdict:
        if errors <= 5:
            return Verdict("estimated", errors)
        return Verdict("wrong", errors, f"{name}[{step}]: {text} ({errors:.1f} standard errors)")

    # Histograms

    def histogram(self, name: str) -> Verdict:
        """Judge every count of every layer and step, the total, and the elements that are in no bin."""
        reason = self.reasons.get(name)
        found: list[str] = []
        for step, evaluation in self.right.evaluations.items():
            try:
                total, _ = self.run.histogram(name, step)
            except KeyError:
                text = f"{name}: not in the run"
                return Verdict("unavailable", 0.0, reason) if reason else Verdict("missing", 0.0, text)
            elements = elements_of(evaluation, self.right.places[step], self.right.signs[step])
            counted = sum(self.said(f"{name}_{part}").get(step, math.nan) for part in ("outside", "nonfinite"))
            everything = sum(len(values) for values, _ in elements.values())
            if int(total.sum()) + counted != everything:
                found.append(f"{name}[{step}]: {total.sum()} counted, {counted} not, of {everything}")
            found += self.wrong_counts(name, step, total, elements)
        return Verdict("wrong", math.inf, found[0]) if found else Verdict("exact", 0.0)

    def wrong_counts(self, name: str, step: int, total: np.ndarray, elements: Mapping[str, Pair]) -> list[str]:
        found, layers = [], []
        for layer, values in elements.items():
            try:
                counts, edges = self.run.histogram(name, step, layer)
            except KeyError:
                return [f"{name}[{step}, {layer}]: no counts"]
            layers.append(counts)
            if not counts_are_right(counts, edges, values, self.row.tolerance):
                found.append(f"{name}[{step}, {layer}]: the counts are not those of the elements")
        if not np.array_equal(sum(layers), total):
            found.append(f"{name}[{step}]: the total is not the sum over layers")
        return found

    def plausible(self, names: Sequence[str]) -> Verdict:
        """No truth is known of times and bytes; they must be there and possible."""
        for name in names:
            values = [value for value in self.said(name).values() if not math.isnan(value)]
            if not values:
                reason = self.reasons.get(name)
                if name == "data_wait" and self.row.name.startswith("resumed"):
                    return Verdict("none")  # it takes three steps of one process
                return Verdict("unavailable", 0.0, reason) if reason else Verdict("missing", 0.0, f"{name}: no value")
            if min(values) < 0 or (name == "cost_share" and max(values) > 1):
                return Verdict("wrong", math.inf, f"{name}: {values}")
        return Verdict("exact", 0.0)


def counts_are_right(counts: np.ndarray, edges: Any, values: Pair, slack: float) -> bool:
    if counts.ndim == 1:
        lower, upper = bounds_of_counts(values[0], edges, slack)
    else:
        lower, upper = bounds_of_joint_counts(values, edges, slack)
    return bool((counts >= lower).all() and (counts <= upper).all())


def relative_error(said: float, right: float, name: str, scale: float | None) -> float:
    """Return the error relative to the value, or to ``scale``; of an alpha, relative to at least one."""
    if said == right or (math.isnan(said) and math.isnan(right)):
        return 0.0
    if not math.isfinite(said) or not math.isfinite(right):
        return math.inf
    if scale is None:
        scale = max(1.0, abs(right)) if name in ALPHAS else abs(right)
    return abs(said - right) / scale if scale > 0 else math.inf


# One row --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """A row's verdicts, and what the watched training ended with otherwise than the unwatched one."""

    verdicts: Mapping[str, Verdict]
    differences: list[str]
    right: RowTruth


def watched_in(folder: Path, panel: Any = "full") -> Callable[..., Any]:
    """Return the one line of the watched run, which tracks every step."""

    def watch(optimizer: Any, model: torch.nn.Module, run: str = "run", resume: bool = False) -> Any:
        path = folder / f"{run}.cockpit"
        return cockpitlite.watch(optimizer, model, run=path, panel=panel, every=1, resume=resume and path.exists())

    return watch


def unwatched(optimizer: Any, model: torch.nn.Module, run: str = "run", resume: bool = False) -> Any:
    """The script without the one line."""
    return optimizer


def ends_of(trained: Trained) -> list[End]:
    """Return where a script ended, before anything else draws a random number, and end its watches."""
    ends = [end_of(model, optimizer) for model, optimizer in trained]
    for _, optimizer in trained:
        for one in (optimizer, getattr(optimizer, "base_optimizer", optimizer)):
            if hasattr(one, "cockpit"):
                one.cockpit.close()
    return ends


def judge_row(row: Row, folder: Path, panel: Any = "full") -> Judged:
    """Train a row unwatched, recorded and watched; judge what the run file says, and compare the ends."""
    plain = ends_of(row.train(unwatched))
    recorder = Recorder()
    row.train(recorder.watch)
    watched = ends_of(row.train(watched_in(folder, panel)))
    changed = [part for one, other in zip(plain, watched, strict=True) for part in differences(one, other)]
    right = truth_of(row, recorder)
    verdicts = Judge(row, cockpitlite.load(folder / f"{row.run}.cockpit"), right).verdicts()
    return Judged(verdicts, changed, right)


def judge_diagonals(row: Row, right: RowTruth, folder: Path, curvature: str) -> list[str]:
    """Return what a row's run says wrongly, or fails to say without a reason, with a diagonal that is not drawn."""
    panel = [kind(curvature=curvature) for kind in (HessTrace, TicDiag, TicTrace)]
    ends_of(row.train(watched_in(folder, panel)))
    run = cockpitlite.load(folder / f"{row.run}.cockpit")
    reasons, found = run.unavailable(), []
    for step, diagonals in right.diagonals.items():
        for name, value in diagonals.readings(curvature).items():
            if name in reasons:
                continue
            said = dict(zip(*(column.tolist() for column in run.series(name)), strict=True)).get(step, math.nan)
            if relative_error(said, value, name, None) > row.tolerance:
                found.append(f"{name}[{step}]: {said} instead of {value}")
    return found
