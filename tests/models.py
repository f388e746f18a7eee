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
from torch.utils.checkpoint import checkpoint

Batch = tuple[Tensor, Tensor]


def classify(model: nn.Module, x: Tensor, y: Tensor):
    return model(x)


def mean_cross_entropy(output, y: Tensor) -> Tensor:
    return F.cross_entropy(output, y)


def cross_entropies(output, y: Tensor) -> Tensor:
    return F.cross_entropy(output, y, reduction="none")


def split_at(choose: Callable[[object], Tensor]) -> Callable[..., tuple[Tensor, Callable[[Tensor], Tensor]]]:
    """Split the loss off at the logits that ``choose`` takes from the output."""

    def split(output: object, y: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        logits = choose(output)
        return logits.flatten(), lambda vector: F.cross_entropy(vector.view_as(logits), y)

    return split


@dataclass(frozen=True)
class Problem:
    """What is trained.

    ``sample_axis`` names the modules whose output has its samples elsewhere than on axis 0, ``without_samples`` those
    whose output has none: their parameters act through the module around them. ``interacting``: samples influence
    each other, or the loss's weight on one depends on the others. ``shared``: part of the loss flows through no sample.
    ``scattered``: some module sees only some of the samples, or a parameter is used outside its own module, so that
    each sample's part of the gradient is taken from its own loss; nothing may pass from sample to sample then.
    ``logits`` returns the raw scores ``[item, class]`` and the labels ``[item]`` of a classification. ``split`` returns
    the tensor at which the loss is convex and the loss as a function of it, where that is not the model's output.
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
    scattered: bool = False
    logits: Callable[..., Batch] | None = None
    split: Callable[..., tuple[Tensor, Callable[[Tensor], Tensor]]] | None = None

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
        mask = torch.triu(torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device), 1)
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
        h = self.first(x) + self.position(torch.arange(x.shape[1], device=x.device))
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
TRANSFORMER = Problem(
    "transformer",
    lambda: shaken(LanguageModel()),
    texts(5, VOCABULARY),
    token_loss,
    token_losses,
    logits=lambda output, y: (output.flatten(0, 1), y.flatten()),
)
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
    logits=lambda output, y: (output.flatten(0, 1), y.flatten()),
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
        logits=lambda output, y: (output[1], y),
        split=split_at(lambda output: output[1]),
    ),
    Problem(
        "loss in a mapping",
        lambda: WithLoss("mapping"),
        vectors(5, 4),
        lambda output, y: output["loss"],
        lambda output, y: cross_entropies(output["logits"], y),
        _given_both,
        logits=lambda output, y: (output["logits"], y),
        split=split_at(lambda output: output["logits"]),
    ),
]

# Further architectures ------------------------------------------------------------------------------------------------


class UNet(nn.Module):
    """One level down, one up, and the way across; a class for every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU())
        self.bottom = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        across = self.down(x)
        below = self.bottom(F.max_pool2d(across, 2))
        return self.head(torch.cat([across, F.relu(self.up(below))], 1))


class VisionTransformer(nn.Module):
    """Patches, a class token and places that are free parameters, one block of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 4, 2, stride=2)
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.position = nn.Parameter(torch.zeros(1, 5, 4))
        self.norm1 = nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.norm2 = nn.LayerNorm(4)
        self.mlp = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch(x).flatten(2).transpose(1, 2)
        h = torch.cat([self.token.expand(len(x), -1, -1), patches], 1) + self.position
        normed = self.norm1(h)
        h = h + self.attention(normed, normed, normed, need_weights=False)[0]
        return self.head((h + self.mlp(self.norm2(h)))[:, 0])


class Gated(nn.Module):
    """A GRU, read at the mean of its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0].mean(1))


class Forecast(nn.Module):
    """A plain recurrent net that gives one number for each step of time."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, 5, batch_first=True)
        self.head = nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])[..., 0]


class Waves(nn.Module):
    """Convolution and transposed convolution over time: a signal in, a signal of the same length out."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv1d(2, 4, 3, stride=2, padding=1)
        self.deep = nn.Conv1d(4, 4, 3, padding=2, dilation=2, groups=2)
        self.up = nn.ConvTranspose1d(4, 2, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(torch.tanh(self.deep(F.elu(self.down(x)))))


class Mixture(nn.Module):
    """A mixture of three experts: all of them weighted, or for each sample only the one its gate prefers."""

    def __init__(self, routed: bool) -> None:
        super().__init__()
        self.routed = routed
        self.gate = nn.Linear(5, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 4)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        weights = self.gate(x).softmax(1)
        if not self.routed:
            return sum(weights[:, i : i + 1] * expert(x) for i, expert in enumerate(self.experts))
        weight, choice = weights.max(1)
        output = x.new_zeros(len(x), 4)
        for i, expert in enumerate(self.experts):
            rows = (choice == i).nonzero()[:, 0]
            if len(rows):
                output = output.index_add(0, rows, weight[rows, None] * expert(x[rows]))
        return output


class Siamese(nn.Module):
    """Two inputs through one encoder: the squared distance of what it makes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return self.offset - (self.encoder(one) - self.encoder(other)).square().sum(1)


class TiedAutoencoder(nn.Module):
    """The decoder is the encoder's weight, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(5, 3)
        self.bias = nn.Parameter(torch.zeros(5))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.sigmoid(self.encoder(x)), self.encoder.weight.t(), self.bias)


class Variational(nn.Module):
    """A variational autoencoder; its output is a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(5, 4)
        self.decoder = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 5))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        mean, spread = self.encoder(x).chunk(2, 1)
        hidden = mean + torch.randn_like(mean) * (0.5 * spread).exp()
        return {"image": self.decoder(hidden), "mean": mean, "spread": spread}


class Translator(nn.Module):
    """An encoder and a decoder that attends to it."""

    def __init__(self) -> None:
        super().__init__()
        self.source = nn.Embedding(5, 4)
        self.target = nn.Embedding(5, 4)
        self.encoder = nn.GRU(4, 4, batch_first=True)
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 5)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory = self.encoder(self.source(source))[0]
        query = self.target(target)
        return self.head(self.norm(query + self.attention(query, memory, memory, need_weights=False)[0]))


class Normed(nn.Module):
    """Group, instance and root-mean-square normalisation, none of which mixes samples."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.group = nn.GroupNorm(2, 4)
        self.narrow = nn.Conv2d(4, 3, 1)
        self.instance = nn.InstanceNorm2d(3, affine=True)
        self.root = nn.RMSNorm(3)
        self.head = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.instance(self.narrow(F.silu(self.group(self.conv(x)))))
        return self.head(self.root(F.relu(h).mean((2, 3))))


class Checkpointed(nn.Module):
    """The perceptron with its middle recomputed in the backward pass."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.body = mlp()
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        h = checkpoint(self.body[:2], x, use_reentrant=False)
        h = checkpoint(self.body[2:4], h, use_reentrant=self.reentrant)
        return self.body[4](h)


class Wrapped(nn.Module):
    """The same parameters under the same names, called plainly."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


@dataclass
class Answer:
    """What a model may return: its scores and something beside them."""

    logits: Tensor
    hidden: Tensor


class Answering(nn.Module):
    """Returns a dataclass, or a dictionary with the same entries."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.first = nn.Linear(5, 6)
        self.head = nn.Linear(6, 4)
        self.form = form

    def forward(self, x: Tensor):
        hidden = torch.tanh(self.first(x))
        logits = self.head(hidden)
        return Answer(logits, hidden) if self.form == "dataclass" else {"logits": logits, "hidden": hidden}


def pixels(size: int) -> Callable[[int, torch.Generator], Batch]:
    """Draw noisy images with a class for every pixel."""

    def draw(count: int, generator: torch.Generator) -> Batch:
        y = torch.randint(2, (count, size, size), generator=generator)
        return 0.5 * torch.randn(count, 1, size, size, generator=generator, dtype=torch.float64) + y[:, None], y

    return draw


def signals(time: int, features: int, outputs: int) -> Callable[[int, torch.Generator], Batch]:
    """Draw noisy signals ``[sample, feature, time]`` and their running sums' sines."""

    def draw(count: int, generator: torch.Generator) -> Batch:
        x = torch.randn(count, features, time, generator=generator, dtype=torch.float64)
        return x, torch.sin(x.cumsum(2))[:, :outputs]

    return draw


def forecasts(time: int, features: int) -> Callable[[int, torch.Generator], Batch]:
    """Draw noisy series ``[sample, time, feature]`` and a number for each step of time."""

    def draw(count: int, generator: torch.Generator) -> Batch:
        x = torch.randn(count, time, features, generator=generator, dtype=torch.float64)
        return x, torch.tanh(x.cumsum(1)[..., 0])

    return draw


def pairs(features: int) -> Callable[[int, torch.Generator], tuple[Batch, Tensor]]:
    """Draw pairs of vectors that are near each other or not."""

    def draw(count: int, generator: torch.Generator) -> tuple[Batch, Tensor]:
        y = torch.randint(2, (count,), generator=generator)
        one, other = torch.randn(2, count, features, generator=generator, dtype=torch.float64)
        return (one, torch.where(y[:, None] == 1, one + 0.3 * other, other)), y.double()

    return draw


def copies(features: int) -> Callable[[int, torch.Generator], Batch]:
    """Draw vectors on a plane with a little noise, to be reproduced."""

    def draw(count: int, generator: torch.Generator) -> Batch:
        flat = torch.randn(count, 2, generator=generator, dtype=torch.float64)
        noise = 0.1 * torch.randn(count, features, generator=generator, dtype=torch.float64)
        x = flat @ torch.linspace(-1, 1, 2 * features, dtype=torch.float64).view(2, features) + noise
        return x, x.clone()

    return draw


def translations(time: int) -> Callable[[int, torch.Generator], tuple[Batch, Tensor]]:
    """Draw token sequences, their reversal shifted by one, and the reversal."""

    def draw(count: int, generator: torch.Generator) -> tuple[Batch, Tensor]:
        source = torch.randint(1, 5, (count, time), generator=generator)
        answer = source.flip(1)
        return (source, F.pad(answer, (1, 0))[:, :-1]), answer

    return draw


def given_two(model: nn.Module, x: Batch, y: Tensor):
    return model(*x)


def squares(output: Tensor, y: Tensor) -> Tensor:
    return ((output - y) ** 2).flatten(1).mean(1)


def switch_losses(output: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(output, y, reduction="none").flatten(1).mean(1)


def places_loss(output: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(output.flatten(0, 1), y.flatten())


def places_losses(output: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(output.flatten(0, 1), y.flatten(), reduction="none").view(y.shape).mean(1)


def pixel_losses(output: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(output, y, reduction="none").mean((1, 2))


def evidence(output: Mapping[str, Tensor], y: Tensor) -> Tensor:
    return F.mse_loss(output["image"], y) + 0.1 * divergence(output).mean()


def evidences(output: Mapping[str, Tensor], y: Tensor) -> Tensor:
    return squares(output["image"], y) + 0.1 * divergence(output)


def divergence(output: Mapping[str, Tensor]) -> Tensor:
    mean, spread = output["mean"], output["spread"]
    return 0.5 * (spread.exp() + mean**2 - 1 - spread).sum(1)


def binary_logits(output: Tensor, y: Tensor) -> Batch:
    """Return a switch's scores as those of two classes, off and on."""
    return torch.stack([torch.zeros_like(output), output], -1).flatten(0, -2), y.flatten()


def token_logits(output: Tensor, y: Tensor) -> Batch:
    return output.flatten(0, 1), y.flatten()


UNET = Problem(
    "U-Net",
    lambda: shaken(UNet()),
    pixels(4),
    losses=pixel_losses,
    interacting=True,
    logits=lambda output, y: (output.movedim(1, -1).flatten(0, 2), y.flatten()),
)
VIT = Problem("ViT", lambda: shaken(VisionTransformer()), images(1, 4, 3))
GRU = Problem("GRU", lambda: shaken(Gated()), sequences(4, 3, 3))
RNN = Problem("RNN", lambda: shaken(Forecast()), forecasts(5, 2), F.mse_loss, squares)
WAVES = Problem("waves", lambda: shaken(Waves()), signals(8, 2, 2), F.mse_loss, squares)
EXPERTS = Problem("experts", lambda: shaken(Mixture(routed=False)), vectors(5, 4))
ROUTED = Problem("routed experts", lambda: shaken(Mixture(routed=True)), vectors(5, 4), scattered=True)
SIAMESE = Problem(
    "siamese",
    lambda: shaken(Siamese()),
    pairs(5),
    F.binary_cross_entropy_with_logits,
    lambda output, y: F.binary_cross_entropy_with_logits(output, y, reduction="none"),
    given_two,
    logits=binary_logits,
)
AUTOENCODER = Problem(
    "autoencoder",
    lambda: shaken(
        nn.Sequential(nn.Linear(5, 6), nn.ELU(), nn.Linear(6, 2), nn.Linear(2, 6), nn.ELU(), nn.Linear(6, 5))
    ),
    copies(5),
    F.mse_loss,
    squares,
)
TIED_AUTOENCODER = Problem(
    "tied autoencoder", lambda: shaken(TiedAutoencoder()), copies(5), F.mse_loss, squares, scattered=True
)
VARIATIONAL = Problem(
    "variational autoencoder", lambda: shaken(Variational()), copies(5), evidence, evidences, interacting=True
)
LABELS = Problem(
    "several labels",
    lambda: shaken(nn.Sequential(nn.Linear(5, 6), nn.Sigmoid(), nn.Linear(6, 4))),
    switches(5, 4),
    F.binary_cross_entropy_with_logits,
    switch_losses,
    logits=binary_logits,
)
NORMED = Problem("norms", lambda: shaken(Normed()), images(2, 4, 3))
TRANSLATOR = Problem(
    "translator", lambda: shaken(Translator()), translations(4), places_loss, places_losses, given_two,
    logits=token_logits,
)  # fmt: skip
CHECKPOINTED = Problem("checkpointed", lambda: Checkpointed(reentrant=False), vectors(5, 4))
CHECKPOINTED_PLAINLY = Problem("checkpointed, without", lambda: Wrapped(mlp()), vectors(5, 4))
CHECKPOINTED_REENTRANT = Problem("checkpointed, reentrant", lambda: Checkpointed(reentrant=True), vectors(5, 4))
ANSWERS = [
    Problem(
        "dictionary",
        lambda: shaken(Answering("dictionary")),
        vectors(5, 4),
        lambda output, y: F.cross_entropy(output["logits"], y),
        lambda output, y: cross_entropies(output["logits"], y),
        logits=lambda output, y: (output["logits"], y),
    ),
    Problem(
        "dataclass",
        lambda: shaken(Answering("dataclass")),
        vectors(5, 4),
        lambda output, y: F.cross_entropy(output.logits, y),
        lambda output, y: cross_entropies(output.logits, y),
        logits=lambda output, y: (output.logits, y),
        split=split_at(lambda output: output.logits),
    ),
]


class OwnLoss(LanguageModel):
    """A language model that is given its targets and returns its loss, and nothing else."""

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        logits = super().forward(tokens)
        return F.cross_entropy(logits.view(-1, VOCABULARY), targets.reshape(-1))


OWN_LOSS = Problem(
    "own loss",
    lambda: shaken(OwnLoss()),
    texts(5, VOCABULARY),
    lambda output, y: output,
    token_losses,  # of the twin's, which returns its logits
    lambda model, x, y: model(x, y),
)
