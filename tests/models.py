"""Small problems of every kind that must be measured right: a model, its batches, its loss and its per-sample losses.

``losses`` is the definition the per-sample losses are held against: sample n's part of the loss times the batch size,
so that their mean is the loss.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn
from torch.nn.functional import cross_entropy as early_cross_entropy

Batch = tuple[Tensor, Tensor]


def classify(model: nn.Module, x: Tensor, y: Tensor):
    return model(x)


def mean_cross_entropy(output, y: Tensor) -> Tensor:
    return F.cross_entropy(output, y)


def cross_entropies(output, y: Tensor) -> Tensor:
    return F.cross_entropy(output, y, reduction="none")


@dataclass(frozen=True)
class Problem:
    """What is trained.

    ``sample_axis`` names the modules whose output has its samples elsewhere than on axis 0, ``without_samples`` those
    whose output has none: their parameters act through the module around them. ``interacting``: samples influence
    each other, or the loss's weight on one depends on the others. ``shared``: part of the loss flows through no sample.
    """

    name: str
    build: Callable[[], nn.Module]
    draw: Callable[[int, torch.Generator], Batch]
    loss: Callable[..., Tensor] = mean_cross_entropy
    losses: Callable[..., Tensor] = cross_entropies
    forward: Callable[..., object] = classify
    sample_axis: Mapping[str, int] = field(default_factory=dict)
    without_samples: tuple[str, ...] = ()
    interacting: bool = False
    shared: bool = False

    def __str__(self) -> str:
        return self.name


def shaken(model: nn.Module) -> nn.Module:
    """Move every parameter off its special initial value (zero biases, unit gains)."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
    return model


def vectors(features: int, classes: int) -> Callable[[int, torch.Generator], Batch]:
    """Draw noisy vectors around one centre per class."""

    def draw(count: int, generator: torch.Generator) -> Batch:
        y = torch.randint(classes, (count,), generator=generator)
        x = torch.randn(count, features, generator=generator, dtype=torch.float64)
        return x + 0.7 * F.one_hot(y, features).double(), y

    return draw


def images(channels: int, size: int, classes: int) -> Callable[[int, torch.Generator], Batch]:
    """Draw noisy images whose brightness tells the class."""

    def draw(count: int, generator: torch.Generator) -> Batch:
        y = torch.randint(classes, (count,), generator=generator)
        x = torch.randn(count, channels, size, size, generator=generator, dtype=torch.float64)
        return x + 0.6 * y[:, None, None, None], y

    return draw


def sequences(time: int, features: int, classes: int) -> Callable[[int, torch.Generator], Batch]:
    """Draw noisy sequences whose mean tells the class."""

    def draw(count: int, generator: torch.Generator) -> Batch:
        y = torch.randint(classes, (count,), generator=generator)
        x = torch.randn(count, time, features, generator=generator, dtype=torch.float64)
        return x + 0.5 * y[:, None, None], y

    return draw


def texts(time: int, vocabulary: int) -> Callable[[int, torch.Generator], Batch]:
    """Draw token sequences that mostly count upwards, and the next token at each place."""

    def draw(count: int, generator: torch.Generator) -> Batch:
        start = torch.randint(vocabulary, (count, 1), generator=generator)
        tokens = start + torch.arange(time + 1)
        tokens = tokens + (torch.rand(tokens.shape, generator=generator) < 0.2).long()
        tokens = tokens % vocabulary
        return tokens[:, :-1], tokens[:, 1:]

    return draw


# The models -----------------------------------------------------------------------------------------------------------


def mlp() -> nn.Module:
    return shaken(nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 4)))


def cnn() -> nn.Module:
    return shaken(
        nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(6, 4, (1, 3), padding=(0, 1), padding_mode="circular", bias=False),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(4 * 3 * 3, 3),
        )
    )


class Residual(nn.Module):
    """A residual block as people write it: BatchNorm, in-place ReLU, in-place addition."""

    def __init__(self, bias: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=bias)
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1, bias=bias)
        self.norm1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=bias)
        self.norm2 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        out += x
        out = self.relu(out)
        return self.head(out.mean((2, 3)))


class Block(nn.Module):
    """A transformer block with normalisation first."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.triu(torch.ones(x.shape[1], x.shape[1], dtype=torch.bool), 1)
        normed = self.norm1(x)
        x = x + self.attention(normed, normed, normed, attn_mask=mask, need_weights=False)[0]
        return x + self.dropout(self.narrow(F.gelu(self.widen(self.norm2(x)))))


class LanguageModel(nn.Module):
    """A tiny causal language model: tied embedding, free positional parameter, one block."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 6)
        self.position = nn.Parameter(torch.zeros(1, 5, 6))
        self.block = Block(6, 2, dropout)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.block(self.embedding(tokens) + self.position)))


class Recurrent(nn.Module):
    """An LSTM, with time on the first axis unless told otherwise, read at its last step."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.lstm = nn.LSTM(3, 4, num_layers=2, batch_first=batch_first)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.batch_first:
            return self.head(self.lstm(x)[0][:, -1])
        return self.head(self.lstm(x.transpose(0, 1))[0][-1])


class Reused(nn.Module):
    """One layer called twice, the second call on the first's output."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 6)
        self.shared = nn.Linear(6, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.shared(torch.tanh(self.first(x))))
        return self.head(torch.tanh(self.shared(h)))


class Scaled(nn.Module):
    """A layer with parameters of its own around a child with others."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(6))
        self.shift = nn.Parameter(torch.zeros(6))
        self.inner = nn.Linear(5, 6)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.inner(x) * self.gain.exp() + self.shift)


class Free(nn.Module):
    """Free parameters in an inner module and in the root."""

    def __init__(self) -> None:
        super().__init__()
        self.scaled = Scaled()
        self.head = nn.Linear(6, 4)
        self.temperature = nn.Parameter(torch.tensor(0.3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.scaled(x)) * self.temperature.exp()


class Views(nn.Module):
    """In-place operations on outputs that are views: a biased Linear on sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 6)
        self.second = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu_(self.first(x))
        out = self.second(h)
        out += h
        out = F.relu_(out)
        return self.head(out).mean(1)


class Zoo(nn.Module):
    """Layers without a rule of their own, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.bend = nn.PReLU(4)
        self.back = nn.ConvTranspose1d(4, 4, 3, stride=2, padding=1)
        self.gru = nn.GRU(4, 4, batch_first=True)
        self.pair = nn.Bilinear(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.back(self.bend(self.norm(self.conv(x.transpose(1, 2)))))
        h = self.gru(h.transpose(1, 2))[0]
        return self.pair(h[:, 0], h[:, -1])


class Folded(nn.Module):
    """A layer applied to samples and time folded into one axis, sample by sample or time by time."""

    def __init__(self, sample_major: bool) -> None:
        super().__init__()
        self.sample_major = sample_major
        self.first = nn.Linear(3, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        samples, time, features = x.shape
        if self.sample_major:
            h = torch.tanh(self.first(x.reshape(samples * time, features)))
            return self.head(h.view(samples, time, 6).mean(1))
        h = torch.tanh(self.first(x.transpose(0, 1).reshape(time * samples, features)))
        return self.head(h.view(time, samples, 6).mean(0))


class Positioned(nn.Module):
    """A positional embedding looked up once for all samples: no row of its output belongs to a sample."""

    def __init__(self, time: int) -> None:
        super().__init__()
        self.first = nn.Linear(3, 6)
        self.position = nn.Embedding(time, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x) + self.position(torch.arange(x.shape[1]))
        return self.head(torch.tanh(h).mean(1))


class TimeFirst(nn.Module):
    """The library's transformer layer in its default layout, whose parts all see time on the first axis."""

    def __init__(self) -> None:
        super().__init__()
        self.widen = nn.Linear(3, 6)
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.widen(x).transpose(0, 1)).mean(0))


def dropout_mlp() -> nn.Module:
    return shaken(
        nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Dropout(0.3), nn.Linear(9, 6), nn.Dropout(0.2), nn.Linear(6, 4))
    )


def norm_mlp() -> nn.Module:
    return shaken(nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 4)))


class Unsteady(nn.Module):
    """A forward that draws from all three random streams and counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 6)
        self.second = nn.Linear(6, 6)
        self.head = nn.Linear(6, 4)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        h = F.dropout(torch.relu(self.first(x)), 0.2, self.training)
        if random.random() < 0.7:
            h = h + torch.relu(self.second(h))
        return self.head(h * float(np.random.uniform(0.5, 1.5)))


class WithLoss(nn.Module):
    """A model that computes its loss itself, and returns it in a tuple or a mapping beside its logits."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.body = mlp()
        self.form = form

    def forward(self, x: Tensor, y: Tensor):
        logits = self.body(x)
        loss = F.cross_entropy(logits, y)
        return (loss, logits) if self.form == "tuple" else {"loss": loss, "logits": logits}


class Raises(nn.Module):
    """Takes a square root that a negative input turns into NaN."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sqrt()


# The problems ---------------------------------------------------------------------------------------------------------

VOCABULARY = 7


def token_loss(output: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(output.view(-1, VOCABULARY), y.reshape(-1))


def token_losses(output: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(output.flatten(0, 1), y.flatten(), reduction="none").view(y.shape).mean(1)


MLP = Problem("mlp", mlp, vectors(5, 4))
CNN = Problem("cnn", cnn, images(2, 5, 3))
RESIDUAL = Problem("residual", lambda: shaken(Residual()), images(2, 4, 3), interacting=True)
TRANSFORMER = Problem("transformer", lambda: shaken(LanguageModel()), texts(5, VOCABULARY), token_loss, token_losses)
LSTM = Problem("lstm", lambda: shaken(Recurrent(batch_first=True)), sequences(4, 3, 3))
LSTM_TIME_FIRST = Problem(
    "lstm-time-first", lambda: shaken(Recurrent(batch_first=False)), sequences(4, 3, 3), sample_axis={"lstm": 1}
)
REUSED = Problem("reused", lambda: shaken(Reused()), vectors(5, 4))
FREE = Problem("free", lambda: shaken(Free()), vectors(5, 4))
VIEWS = Problem("views", lambda: shaken(Views()), sequences(4, 3, 3))
ZOO = Problem("zoo", lambda: shaken(Zoo()), sequences(5, 3, 3))
NORM = Problem("norm", norm_mlp, vectors(5, 4), interacting=True)
RESIDUAL_BIASED = Problem("residual-biased", lambda: shaken(Residual(bias=True)), images(2, 4, 3), interacting=True)
DROPOUT = Problem("dropout", dropout_mlp, vectors(5, 4), interacting=True)
DROPOUT_TRANSFORMER = Problem(
    "dropout-transformer",
    lambda: shaken(LanguageModel(dropout=0.2)),
    texts(5, VOCABULARY),
    token_loss,
    token_losses,
    interacting=True,
)
UNSTEADY = Problem("unsteady", lambda: shaken(Unsteady()), vectors(5, 4), interacting=True)
FOLDED = Problem("folded", lambda: shaken(Folded(sample_major=True)), sequences(4, 3, 3))
FOLDED_TIME_FIRST = Problem("folded-time-first", lambda: shaken(Folded(sample_major=False)), sequences(4, 3, 3))

POSITIONED = Problem("positioned", lambda: shaken(Positioned(4)), sequences(4, 3, 3), without_samples=("position",))
POSITIONED_SQUARE = Problem(
    "positioned, as many places as samples",
    lambda: shaken(Positioned(6)),
    sequences(6, 3, 3),
    without_samples=("position",),
)
TIME_FIRST = [
    Problem(
        f"transformer layer, {time} places first",
        lambda: shaken(TimeFirst()),
        sequences(time, 3, 3),
        sample_axis={
            f"layer.{name}": 1 for name in ("self_attn", "norm1", "linear1", "linear2", "norm2", "dropout", "dropout1")
        },
    )
    for time in (4, 6, 12)
]
PENALISED = Problem(
    "penalised",
    mlp,
    vectors(5, 4),
    lambda output, y: F.cross_entropy(output[0], y) + 0.01 * penalty(output[1]),
    lambda output, y: cross_entropies(output[0], y) + 0.01 * penalty(output[1]),
    lambda model, x, y: (model(x), model),
    shared=True,
)


def partly_frozen() -> nn.Module:
    model = mlp()
    model[0].requires_grad_(False)
    return model


FROZEN = Problem("frozen", partly_frozen, vectors(5, 4))


class Idle(nn.Module):
    """A layer that no forward uses: its gradient stays None."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()
        self.idle = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


IDLE = Problem("idle", Idle, vectors(5, 4))

REQUIRED = [MLP, CNN, RESIDUAL, TRANSFORMER, LSTM, REUSED, FREE]
FURTHER = [LSTM_TIME_FIRST, VIEWS, ZOO, NORM, RESIDUAL_BIASED, DROPOUT, DROPOUT_TRANSFORMER]

# The losses -----------------------------------------------------------------------------------------------------------


def noisy_targets(features: int, outputs: int) -> Callable[[int, torch.Generator], Batch]:
    def draw(count: int, generator: torch.Generator) -> Batch:
        x = torch.randn(count, features, generator=generator, dtype=torch.float64)
        noise = torch.randn(count, outputs, generator=generator, dtype=torch.float64)
        return x, torch.sin(x[:, :outputs]) + 0.3 * noise

    return draw


def switches(features: int, outputs: int) -> Callable[[int, torch.Generator], Batch]:
    def draw(count: int, generator: torch.Generator) -> Batch:
        x = torch.randn(count, features, generator=generator, dtype=torch.float64)
        return x, (x[:, :outputs] + 0.5 * torch.randn(count, outputs, generator=generator) > 0).double()

    return draw


CLASS_WEIGHT = torch.tensor([0.5, 2.0, 1.0, 3.0, 0.7, 1.3, 1.0], dtype=torch.float64)
PADDING = 3


def padded_loss(output: Tensor, y: Tensor) -> Tensor:
    weight = CLASS_WEIGHT.to(output.dtype)
    return F.cross_entropy(output.view(-1, VOCABULARY), y.reshape(-1), weight=weight, ignore_index=PADDING)


def padded_losses(output: Tensor, y: Tensor) -> Tensor:
    weight = torch.where(y == PADDING, 0.0, CLASS_WEIGHT[y])
    surprise = -output.log_softmax(-1).gather(-1, y[..., None])[..., 0]
    return len(y) * (weight * surprise).sum(1) / weight.sum()


def smoothed_losses(output: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(output, y, reduction="none", label_smoothing=0.1)


def penalty(model: nn.Module) -> Tensor:
    return sum((parameter**2).sum() for parameter in model.parameters())


def _regression(name: str, loss: Callable, losses: Callable) -> Problem:
    return Problem(name, mlp, noisy_targets(5, 4), loss, losses)


def _switching(name: str, loss: Callable, losses: Callable) -> Problem:
    return Problem(name, mlp, switches(5, 4), loss, losses)


def _classes(name: str, loss: Callable, losses: Callable = cross_entropies) -> Problem:
    return Problem(name, mlp, vectors(5, 4), loss, losses)


LOSSES = [  # single nodes of the graph: these must always be seen
    _classes("nn.CrossEntropyLoss", nn.CrossEntropyLoss()),
    _classes("cross_entropy bound early", lambda output, y: early_cross_entropy(output, y)),
    _classes(
        "sum",
        lambda output, y: F.cross_entropy(output, y, reduction="sum"),
        lambda o, y: len(y) * cross_entropies(o, y),
    ),
    _classes("scaled", lambda output, y: 1024 * F.cross_entropy(output, y), lambda o, y: 1024 * cross_entropies(o, y)),
    _classes("nll_loss", lambda output, y: F.nll_loss(output.log_softmax(1), y)),
    _regression("mse_loss", F.mse_loss, lambda o, y: ((o - y) ** 2).mean(1)),
    _regression("nn.MSELoss", nn.MSELoss(), lambda o, y: ((o - y) ** 2).mean(1)),
    _regression("mse_loss, sum", nn.MSELoss(reduction="sum"), lambda o, y: len(y) * ((o - y) ** 2).sum(1)),
    _regression("smooth_l1_loss", F.smooth_l1_loss, lambda o, y: F.smooth_l1_loss(o, y, reduction="none").mean(1)),
    _switching(
        "nn.BCEWithLogitsLoss",
        nn.BCEWithLogitsLoss(),
        lambda o, y: F.binary_cross_entropy_with_logits(o, y, reduction="none").mean(1),
    ),
    Problem(
        "weights and ignore_index",
        lambda: shaken(LanguageModel()),
        texts(5, VOCABULARY),
        padded_loss,
        padded_losses,
        interacting=True,
    ),
]

COMPOSED = [  # several nodes
    _regression(
        "nn.KLDivLoss",
        lambda o, y: nn.KLDivLoss(reduction="batchmean")(o.log_softmax(1), y.softmax(1)),
        lambda o, y: F.kl_div(o.log_softmax(1), y.softmax(1), reduction="none").sum(1),
    ),
    _classes("label smoothing", nn.CrossEntropyLoss(label_smoothing=0.1), smoothed_losses),
    _classes("mean of reduction='none'", lambda o, y: F.cross_entropy(o, y, reduction="none").mean()),
    _classes("gathered by hand", lambda o, y: -o.log_softmax(1)[torch.arange(len(y)), y].mean()),
    _regression("l1_loss", F.l1_loss, lambda o, y: (o - y).abs().mean(1)),
    _regression("squares by hand", lambda o, y: ((o - y) ** 2).mean(), lambda o, y: ((o - y) ** 2).mean(1)),
    _regression(
        "sum of two losses",
        lambda o, y: F.mse_loss(o, y) + 0.5 * F.l1_loss(o, y),
        lambda o, y: ((o - y) ** 2).mean(1) + 0.5 * (o - y).abs().mean(1),
    ),
]


def _given_both(model: nn.Module, x: Tensor, y: Tensor):
    return model(x, y)


RETURNING = [
    Problem(
        "loss in a tuple",
        lambda: WithLoss("tuple"),
        vectors(5, 4),
        lambda output, y: output[0],
        lambda output, y: cross_entropies(output[1], y),
        _given_both,
    ),
    Problem(
        "loss in a mapping",
        lambda: WithLoss("mapping"),
        vectors(5, 4),
        lambda output, y: output["loss"],
        lambda output, y: cross_entropies(output["logits"], y),
        _given_both,
    ),
]
