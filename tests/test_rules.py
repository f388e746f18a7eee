"""Closed rules say of each sample what autograd says when only that sample's rows of the output get a gradient."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cockpitlite.records import Call
from cockpitlite.statistics import Unavailable, convolution, rule
from cockpitlite.statistics.families import GENERIC, is_generic, rule_for
from cockpitlite.statistics.products import Sizes
from cockpitlite.statistics.rule import Rule, Scope
from cockpitlite.statistics.survey import Asked

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # of torch's own speed
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}
DIRECTIONS = 3


@dataclass(frozen=True)
class Case:
    """A layer, and the shape of what each of its calls is given; ``axis`` of the output counts the samples."""

    name: str
    build: Callable[[], nn.Module]
    shapes: Sequence[tuple[int, ...]]
    samples: int = 4
    axis: int = 0
    training: bool = True
    more: tuple[Any, ...] = ()  # arguments after the first

    def __str__(self) -> str:
        return self.name


def trained(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> Callable[[], nn.Module]:
    """Build a layer whose running statistics have seen a batch."""

    def built() -> nn.Module:
        module = build()
        module(3 * torch.randn(shape) + 1)
        return module

    return built


CONVOLUTIONS = [
    Case("conv1d", lambda: nn.Conv1d(3, 5, 3), [(4, 3, 9)]),
    Case("conv1d, few places", lambda: nn.Conv1d(6, 8, 3, bias=False), [(4, 6, 5)]),
    Case("conv2d", lambda: nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)), [(4, 2, 8, 7)]),
    Case("conv2d in groups", lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1), [(4, 4, 3, 3)]),
    Case("conv2d by channel", lambda: nn.Conv2d(4, 8, 3, groups=4, stride=2), [(4, 4, 6, 6)]),
    Case("conv2d of one place", lambda: nn.Conv2d(3, 5, 1), [(4, 3, 1, 1)]),
    Case("conv2d, same", lambda: nn.Conv2d(2, 3, (2, 4), padding="same"), [(4, 2, 5, 5)]),
    Case("conv2d, valid", lambda: nn.Conv2d(2, 3, 3, padding="valid"), [(4, 2, 5, 5)]),
    Case("conv2d, circular", lambda: nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode="circular"), [(4, 2, 5, 5)]),
    Case("conv2d, reflected", lambda: nn.Conv2d(2, 3, 2, padding="same", padding_mode="reflect"), [(4, 2, 5, 5)]),
    Case("conv3d", lambda: nn.Conv3d(2, 4, 2, groups=2, stride=2, padding=1, dilation=2), [(4, 2, 5, 4, 5)]),
    Case("conv2d called twice", lambda: nn.Conv2d(4, 4, 2), [(4, 4, 3, 3), (4, 4, 2, 4)]),
    Case("conv2d, two rows a sample", lambda: nn.Conv2d(3, 4, 2), [(8, 3, 3, 3)]),
    Case("conv2d without a batch", lambda: nn.Conv2d(3, 4, 2), [(3, 4, 4)], samples=1),
    Case("conv2d, one sample", lambda: nn.Conv2d(3, 4, 2), [(1, 3, 4, 4)], samples=1),
    Case("transposed 1d", lambda: nn.ConvTranspose1d(4, 5, 3, stride=2, padding=1), [(4, 4, 6)]),
    Case(
        "transposed 2d",
        lambda: nn.ConvTranspose2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 0), output_padding=(1, 2), groups=2),
        [(4, 4, 3, 3)],
    ),
    Case(
        "transposed 2d, padded beyond reach",
        lambda: nn.ConvTranspose2d(2, 3, 3, stride=1, padding=1, dilation=3, output_padding=2),
        [(4, 2, 3, 3)],
    ),
    Case("transposed 2d, unpadded", lambda: nn.ConvTranspose2d(3, 2, 2, stride=3, output_padding=2), [(4, 3, 2, 2)]),
    Case("transposed 2d to a size", lambda: nn.ConvTranspose2d(3, 2, 3, stride=2), [(4, 3, 3, 3)], more=([8, 7],)),
    Case("transposed 3d", lambda: nn.ConvTranspose3d(2, 2, 2, stride=2, padding=1, bias=False), [(4, 2, 2, 3, 2)]),
    Case("transposed 1d called twice", lambda: nn.ConvTranspose1d(4, 5, 3), [(4, 4, 2), (4, 4, 3)]),
    Case("transposed 1d without a batch", lambda: nn.ConvTranspose1d(4, 5, 3), [(4, 3)], samples=1),
]
EMBEDDINGS = [
    Case("embedding", lambda: nn.Embedding(5, 3), [(4, 7)]),
    Case("embedding of one token", lambda: nn.Embedding(5, 3), [(4,)]),
    Case("embedding, padded", lambda: nn.Embedding(4, 3, padding_idx=1), [(4, 7)]),
    Case("embedding, padded from the end", lambda: nn.Embedding(4, 3, padding_idx=-1), [(4, 7)]),
    Case("embedding, by frequency", lambda: nn.Embedding(4, 3, padding_idx=0, scale_grad_by_freq=True), [(4, 7)]),
    Case("embedding, sparse", lambda: nn.Embedding(5, 3, sparse=True), [(4, 7)]),
    Case("embedding, shortened", lambda: nn.Embedding(5, 3, max_norm=0.5), [(4, 7)]),
    Case("embedding called twice", lambda: nn.Embedding(5, 3, scale_grad_by_freq=True), [(4, 7), (4, 2, 2)]),
    Case("embedding, time first", lambda: nn.Embedding(5, 3), [(7, 4)], axis=1),
    Case("embedding, two rows a sample", lambda: nn.Embedding(5, 3), [(8, 3)]),
    Case("embedding, one sample", lambda: nn.Embedding(5, 3), [(1, 6)], samples=1),
]
NORMALIZATIONS = [
    Case("layernorm", lambda: nn.LayerNorm(6), [(4, 5, 6)]),
    Case("layernorm of vectors", lambda: nn.LayerNorm(6, bias=False), [(4, 6)]),
    Case("layernorm over two axes", lambda: nn.LayerNorm((3, 5), eps=0.1), [(4, 2, 3, 5)]),
    Case("layernorm, time first", lambda: nn.LayerNorm(6), [(5, 4, 6)], axis=1),
    Case("layernorm called twice", lambda: nn.LayerNorm(6), [(4, 5, 6), (4, 6)]),
    Case("layernorm, two rows a sample", lambda: nn.LayerNorm(6), [(8, 6)]),
    Case("layernorm, one vector", lambda: nn.LayerNorm(6), [(6,)], samples=1),
    Case("rmsnorm", lambda: nn.RMSNorm(6), [(4, 5, 6)]),
    Case("rmsnorm over two axes", lambda: nn.RMSNorm((5, 6), eps=0.1), [(4, 5, 6)]),
    Case("rmsnorm, time first", lambda: nn.RMSNorm(6), [(5, 4, 6)], axis=1),
    Case("groupnorm", lambda: nn.GroupNorm(2, 6), [(4, 6, 3, 2)]),
    Case("groupnorm of vectors", lambda: nn.GroupNorm(2, 6, eps=0.1), [(4, 6)]),
    Case("groupnorm, two rows a sample", lambda: nn.GroupNorm(3, 6), [(8, 6, 3)]),
    Case("batchnorm1d of vectors", lambda: nn.BatchNorm1d(3, eps=0.1), [(4, 3)]),
    Case("batchnorm1d", lambda: nn.BatchNorm1d(3), [(4, 3, 5)]),
    Case("batchnorm2d", lambda: nn.BatchNorm2d(3), [(4, 3, 2, 5)]),
    Case("batchnorm3d", lambda: nn.BatchNorm3d(3), [(4, 3, 2, 2, 3)]),
    Case("batchnorm2d called twice", lambda: nn.BatchNorm2d(3), [(4, 3, 2, 5), (4, 3, 3, 3)]),
    Case("batchnorm1d, two rows a sample", lambda: nn.BatchNorm1d(3), [(8, 3)]),
    Case("batchnorm2d, one sample", lambda: nn.BatchNorm2d(3), [(1, 3, 2, 5)], samples=1),
    Case("batchnorm2d, running", trained(lambda: nn.BatchNorm2d(3), (6, 3, 2, 2)), [(4, 3, 2, 5)], training=False),
    Case("batchnorm1d without memory", lambda: nn.BatchNorm1d(3, track_running_stats=False), [(4, 3)]),
    Case(
        "batchnorm1d without memory, evaluated",
        lambda: nn.BatchNorm1d(3, track_running_stats=False),
        [(4, 3)],
        training=False,
    ),
    Case("instancenorm1d", lambda: nn.InstanceNorm1d(3, affine=True), [(4, 3, 5)]),
    Case("instancenorm2d", lambda: nn.InstanceNorm2d(3, affine=True, eps=0.1), [(4, 3, 2, 5)]),
    Case("instancenorm3d", lambda: nn.InstanceNorm3d(3, affine=True), [(4, 3, 2, 2, 3)]),
    Case("instancenorm2d, evaluated", lambda: nn.InstanceNorm2d(3, affine=True), [(4, 3, 2, 5)], training=False),
    Case(
        "instancenorm2d, running",
        trained(lambda: nn.InstanceNorm2d(3, affine=True, track_running_stats=True), (6, 3, 2, 2)),
        [(4, 3, 2, 5)],
        training=False,
    ),
    Case("instancenorm1d without a batch", lambda: nn.InstanceNorm1d(3, affine=True), [(3, 5)], samples=1),
]
LINEAR = [
    Case("linear", lambda: nn.Linear(7, 5), [(4, 7)]),
    Case("linear, so wide that pairs of samples are less work", lambda: nn.Linear(40, 30), [(4, 40)]),
    Case("linear without bias, called twice", lambda: nn.Linear(9, 8, bias=False), [(4, 9), (4, 9)]),
    Case("linear of few rows", lambda: nn.Linear(12, 11), [(4, 2, 12)]),
    Case("linear of many rows", lambda: nn.Linear(3, 4), [(4, 5, 6, 3)]),
    Case("linear, one sample", lambda: nn.Linear(6, 5), [(1, 6)], samples=1),
    Case("linear, rows of samples", lambda: nn.Linear(6, 5), [(8, 6)]),
    Case("linear, batch second", lambda: nn.Linear(6, 5), [(3, 4, 6)], axis=1),
]
CASES = [*LINEAR, *CONVOLUTIONS, *EMBEDDINGS, *NORMALIZATIONS]


# A case, recorded and worked out by hand ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recorded:
    """The calls of a layer as a step leaves them behind, and ``twin``: c_n by name, in float64."""

    module: nn.Module
    calls: list[Call]
    twin: dict[str, Tensor]
    samples: int

    @property
    def rule(self) -> Rule:
        assert not is_generic(self.module)
        found = rule_for(type(self.module))
        assert found is not GENERIC
        return found

    def scope(self, chosen: Sequence[int] | None = None) -> Scope:
        return Scope(self.samples, None if chosen is None else torch.tensor(chosen), {})

    def directions(self) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(5)
        return {
            name: torch.randn(DIRECTIONS, *p.shape, generator=generator, dtype=torch.float64).to(p)
            for name, p in self.module.named_parameters()
        }


def recorded(case: Case, dtype: torch.dtype = torch.float64) -> Recorded:
    torch.manual_seed(11)
    module = case.build().to(dtype).train(case.training)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += torch.randn_like(parameter)
    twin = copy.deepcopy(module).double()
    calls: list[Call] = []
    by_hand: dict[str, Tensor] = {}
    for shape in case.shapes:
        x = drawn(module, shape, dtype)
        output = twin(x.double() if x.is_floating_point() else x, *case.more)
        g = torch.randn_like(output).to(dtype)
        calls.append(call(module, x, g, case.samples, case.axis, case.more))
        for name, part in masked_gradients(twin, output, g.double(), case.samples, case.axis).items():
            by_hand[name] = by_hand.get(name, 0) + part
    return Recorded(module, calls, by_hand, case.samples)


def drawn(module: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if isinstance(module, nn.Embedding):
        return torch.randint(module.num_embeddings, shape)
    return 2 * torch.randn(shape, dtype=dtype) + 0.5


def call(
    module: nn.Module, x: Tensor, g: Tensor, samples: int, axis: int | None = 0, more: tuple[Any, ...] = ()
) -> Call:
    return Call(
        module=module,
        modes={id(part): part.training for part in module.modules()},
        name="layer",
        samples=samples,
        args=(x, *more),
        kwargs={},
        versions=(x._version,),
        surroundings=None,
        buffers={},
        gradients=[g],
        backwards=[0],
        axes=(axis,),
    )


def masked_gradients(module: nn.Module, output: Tensor, g: Tensor, samples: int, axis: int) -> dict[str, Tensor]:
    """Send back one sample's rows of the output gradient at a time."""
    names, parameters = zip(*module.named_parameters(), strict=True)
    rows: list[list[Tensor]] = [[] for _ in names]
    for sample in range(samples):
        mask = torch.ones_like(g)
        if samples > 1:
            owners = torch.arange(g.shape[axis]) // (g.shape[axis] // samples)
            mask = (owners == sample).double().reshape([-1 if a == axis else 1 for a in range(g.dim())]).expand_as(g)
        for row, part in zip(rows, torch.autograd.grad(output, parameters, g * mask, retain_graph=True), strict=True):
            row.append(part.to_dense() if part.is_sparse else part)
    return {name: torch.stack(row) for name, row in zip(names, rows, strict=True)}


def assert_near(found: Tensor, right: Tensor, tolerance: float) -> None:
    assert found.shape == right.shape
    scale = right.abs().max().item() + 1e-30
    assert (found.double() - right).abs().max().item() <= tolerance * scale, (found, right)


def assert_all_right(made: Recorded, tolerance: float, chosen: Sequence[int] | None = None) -> None:
    """Hold everything that a rule can be asked against the twin."""
    names, scope, asked = list(made.twin), made.scope(chosen), made.rule
    looked_at = {name: each if chosen is None else each[list(chosen)] for name, each in made.twin.items()}
    for name, each in asked.contributions(made.calls, names, scope).items():
        assert_near(each, looked_at[name], tolerance)
    for name, each in asked.total(made.calls, names, scope).items():
        assert_near(each, made.twin[name].sum(0), tolerance)
    for some in (names, names[:1], names[-1:]):
        for asked_for in QUESTIONS:
            assert_surveyed(made, {name: looked_at[name] for name in some}, scope, tolerance, asked_for)


QUESTIONS = [
    {"squares", "directions", "moments", "sums", "places"},
    {"squares", "directions", "places"},
    {"squares", "directions", "whole"},
    {"directions"},
    {"squares"},
    {"moments"},
    {"sums", "places"},
]


def assert_surveyed(
    made: Recorded, looked_at: dict[str, Tensor], scope: Scope, tolerance: float, asked_for: set[str]
) -> None:
    """Ask for some things at once, and hold each of the answers against the twin."""
    directions = {name: made.directions()[name] for name in looked_at}
    if "whole" in asked_for:  # one of the directions is the sum of all contributions
        directions = {
            name: torch.cat([each[:1], made.twin[name].sum(0, keepdim=True).to(each.dtype), each[1:]])
            for name, each in directions.items()
        }
    positions = {name: torch.randint(each[0].numel(), (len(each), 9)) for name, each in looked_at.items()}
    asked = Asked(
        list(looked_at),
        squares="squares" in asked_for,
        directions={name: list(each) for name, each in directions.items()} if "directions" in asked_for else {},
        whole=1 if "whole" in asked_for else None,
        moments="moments" in asked_for,
        sums="sums" in asked_for,
        places=positions if "places" in asked_for else {},
    )
    found = made.rule.survey(made.calls, asked, scope)
    flat = torch.cat([each.flatten(1) for each in looked_at.values()], 1)
    along = torch.cat([each.flatten(1) for each in directions.values()], 1).double()
    assert (found.squared is not None) == ("squares" in asked_for)
    assert (found.projected is not None) == ("directions" in asked_for)
    if found.squared is not None:
        assert_near(found.squared, flat.square().sum(1), tolerance)
    if found.projected is not None:
        assert_near(found.projected, along @ flat.T, tolerance)
    for wanted, answers, right in (
        ("moments", found.moments, lambda name: looked_at[name].square().sum(0)),
        ("sums", found.sums, lambda name: looked_at[name].sum(0)),
        ("places", found.picked, lambda name: looked_at[name].flatten(1).gather(1, positions[name])),
    ):
        assert set(answers) == (set(looked_at) if wanted in asked_for else set())
        for name, each in answers.items():
            assert_near(each, right(name), tolerance)


# Every family ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_rule_equals_its_twin(case, dtype):
    assert_all_right(recorded(case, dtype), TOLERANCE[dtype])


@pytest.mark.parametrize("case", [case for case in CASES if case.samples > 1], ids=str)
def test_a_rule_tells_of_the_samples_asked_for(case):
    assert_all_right(recorded(case), 1e-10, chosen=[2, 0, 3])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_state_of_a_layer_is_left_alone(case):
    made = recorded(case)
    before = copy.deepcopy(made.module.state_dict())
    assert_all_right(made, 1e-10)
    for name, tensor in made.module.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_few_samples_at_a_time(case, monkeypatch):
    monkeypatch.setattr(rule, "CHUNK", 1)
    monkeypatch.setattr(rule, "CACHED", 1)
    assert_all_right(recorded(case), 1e-10)


@pytest.mark.parametrize("built", [True, False], ids=["built", "unbuilt"])
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_both_ways_through_a_convolution(case, built, monkeypatch):
    monkeypatch.setattr(Sizes, "better_built", lambda sizes, asked: built or asked.moments)
    assert_all_right(recorded(case), 1e-10)
    monkeypatch.setattr(rule, "CHUNK", 1)
    monkeypatch.setattr(rule, "CACHED", 1)
    assert_all_right(recorded(case), 1e-10)


def test_a_convolution_with_few_places_is_never_built(monkeypatch):
    def built(*_):
        raise AssertionError("built")

    few, many = (recorded(case) for case in (CONVOLUTIONS[1], CONVOLUTIONS[0]))
    monkeypatch.setattr(convolution.ConvolutionRule, "contributions", built)
    norms = Asked(["weight"], squares=True)
    few.rule.survey(few.calls, norms, few.scope())
    with pytest.raises(AssertionError, match="built"):
        many.rule.survey(many.calls, norms, many.scope())


# Shapes ---------------------------------------------------------------------------------------------------------------


@st.composite
def convolutions(draw) -> Case:
    rank, groups = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    numbers = st.tuples(*[st.integers(1, 3)] * rank)
    kernel, stride, dilation = draw(numbers), draw(numbers), draw(numbers)
    padding = draw(st.tuples(*[st.integers(0, 2)] * rank))
    channels = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    options["bias"] = draw(st.booleans())
    if draw(st.booleans()):
        kind = (nn.ConvTranspose1d, nn.ConvTranspose2d)[rank - 1]
        options["output_padding"] = tuple(
            draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
        )
        sizes = draw(st.tuples(*[st.integers(5, 7)] * rank))
    else:
        kind = (nn.Conv1d, nn.Conv2d)[rank - 1]
        options["padding_mode"] = draw(st.sampled_from(["zeros", "circular", "reflect", "replicate"]))
        sizes = draw(st.tuples(*[st.integers(7, 9)] * rank))
    samples = draw(st.integers(1, 3))
    shape = (samples, channels[0], *sizes)
    return Case("drawn", lambda: kind(*channels, kernel, **options), [shape] * draw(st.integers(1, 2)), samples)


@settings(deadline=None, max_examples=60)
@given(convolutions(), st.booleans())
def test_convolutions_of_every_geometry(case, built):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sizes, "better_built", lambda sizes, asked: built)
        assert_all_right(recorded(case), 1e-9)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 5), st.integers(1, 9), st.booleans(), st.data())
def test_embeddings_of_every_size(places, width, samples, time, by_frequency, data):
    padding = data.draw(st.none() | st.integers(0, places - 1))
    case = Case(
        "drawn",
        lambda: nn.Embedding(places, width, padding_idx=padding, scale_grad_by_freq=by_frequency),
        [(samples, time)],
        samples,
    )
    assert_all_right(recorded(case), 1e-10)


# The bounds of a rule -------------------------------------------------------------------------------------------------


class LargestMade(TorchDispatchMode):
    """Notes the most elements of a tensor that an operation made; a view of what it was given is not made."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        returned = function(*args, **(kwargs or {}))
        given, made = ([leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)] for tree in (args, returned))
        known = {tensor.untyped_storage().data_ptr() for tensor in given}
        sizes = [tensor.numel() for tensor in made if tensor.untyped_storage().data_ptr() not in known]
        self.elements = max([self.elements, *sizes])
        return returned


def test_no_table_is_built_for_a_sample():
    made = recorded(Case("large", lambda: nn.Embedding(500, 8), [(4, 6)]))
    directions, positions = made.directions(), {"weight": torch.randint(4000, (4, 10))}
    with LargestMade() as seen:
        asked = Asked(["weight"], squares=True, directions={"weight": list(directions["weight"])}, places=positions)
        made.rule.survey(made.calls, asked, made.scope())
    assert seen.elements < 500 * 8
    with LargestMade() as seen:
        made.rule.survey(made.calls, Asked(["weight"], moments=True, sums=True), made.scope())
    assert seen.elements == 500 * 8
    with LargestMade() as seen:
        made.rule.contributions(made.calls, ["weight"], made.scope())
    assert seen.elements == 4 * 500 * 8


@pytest.mark.parametrize(
    ("module", "shape", "axis"),
    [
        (nn.Conv1d(4, 4, 1), (1, 4, 4), 2),
        (nn.Conv1d(4, 4, 1), (4, 5), 0),
        (nn.InstanceNorm1d(4, affine=True), (4, 5), 0),
        (nn.BatchNorm1d(4), (3, 4), 1),
        (nn.LayerNorm(4), (3, 4), 1),
        (nn.RMSNorm(4), (3, 4), 1),
        (nn.Embedding(5, 4), (3,), 1),
        (nn.GroupNorm(2, 4), (2, 4), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_a_layer_that_works_along_the_samples_is_refused(module, shape, axis):
    x = drawn(module, shape, torch.float32)
    made = [call(module, x, torch.randn_like(module(x)), 4, axis)]
    with pytest.raises(Unavailable, match="works along the axis"):
        rule_for(type(module)).contributions(made, ["weight"], Scope(4, None, {}))


def test_a_layer_of_another_type_has_no_closed_rule():
    class Own(nn.LayerNorm):
        pass

    assert is_generic(Own(3))
    assert is_generic(nn.utils.parametrizations.weight_norm(nn.Conv1d(2, 2, 1)))
    assert is_generic(nn.SyncBatchNorm(3))


# Half precision -------------------------------------------------------------------------------------------------------

HALF = [
    nn.Conv2d(4, 6, 3),
    nn.Conv2d(16, 16, 3),
    nn.ConvTranspose1d(4, 4, 3),
    nn.Embedding(5, 16),
    nn.LayerNorm(5),
    nn.RMSNorm(5),
    nn.GroupNorm(2, 4),
    nn.BatchNorm2d(4),
    nn.InstanceNorm2d(4, affine=True),
]
GIVEN = {nn.Embedding: (4, 6), nn.ConvTranspose1d: (4, 4, 5)}


@pytest.mark.parametrize("module", HALF, ids=lambda module: type(module).__name__)
def test_sums_of_half_precision_gradients_are_taken_in_single(module):
    channels = module.in_channels if isinstance(module, nn.Conv2d) else 4
    case = Case("half", lambda: copy.deepcopy(module), [GIVEN.get(type(module), (4, channels, 4, 5))])
    made = recorded(case)
    loud = [
        call(one.module, halved(one.args[0]), 200 * one.gradients[0].half(), one.samples or 0) for one in made.calls
    ]
    found = made.rule.survey(loud, Asked(list(made.twin), squares=True), made.scope())
    right = sum(each.flatten(1).square().sum(1) for each in made.twin.values()) * 200**2
    assert right.max() > torch.finfo(torch.float16).max
    assert found.squared is not None
    assert found.squared.dtype == torch.float32
    assert_near(found.squared, right, 1e-2)


def halved(tensor: Tensor) -> Tensor:
    return tensor.half() if tensor.is_floating_point() else tensor


@pytest.mark.parametrize("module", HALF, ids=lambda module: type(module).__name__)
def test_layers_under_autocast(module):
    torch.manual_seed(2)
    channels = module.in_channels if isinstance(module, nn.Conv2d) else 4
    x = drawn(module, GIVEN.get(type(module), (4, channels, 4, 5)), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        output = module(x)
    g = torch.randn_like(output)
    right = masked_gradients(module, output, g, 4, 0)
    found = rule_for(type(module)).contributions([call(module, x, g, 4)], list(right), Scope(4, None, {}))
    for name, each in right.items():
        assert_near(found[name], each.double(), 2e-2)
