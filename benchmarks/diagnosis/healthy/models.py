"""Healthy models that look odd: norms, residuals, dropout, depth, other activations and other first weights."""

from __future__ import annotations

import torch
from torch import nn

from .. import surgery
from ..kind import ALL, CLASSES, healthy
from ..training import Training

PERCEPTRONS = ("mlp", "cnn", "regression", "autoencoder")
RECTIFIED = ("mlp", "cnn", "transformer", "regression")
TEXTS = ("transformer", "lstm")


@healthy(levels=(0.1, 0.4))
def dropout(training: Training, level: float) -> None:
    """Dropout before the head, so that the held-out samples may look easier than the others."""
    surgery.before_head(training.model, nn.Dropout(level))


@healthy()
def layer_norm(training: Training, level: float) -> None:
    """A layer norm before the head."""
    surgery.before_head(training.model, nn.LayerNorm(surgery.width(training.model)))


@healthy(programs=PERCEPTRONS)
def batch_norm(training: Training, level: float) -> None:
    """A batch norm before the head."""
    surgery.before_head(training.model, nn.BatchNorm1d(surgery.width(training.model)))


@healthy(levels=(2, 6))
def residual_blocks(training: Training, level: float) -> None:
    """Residual blocks with layer norms before the head."""
    width = surgery.width(training.model)
    for _ in range(int(level)):
        block = surgery.Residual(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        surgery.before_head(training.model, block)


@healthy(programs=("mlp", "cnn", "transformer", "lstm", "autoencoder"))
def deeper(training: Training, level: float) -> None:
    """Two more rectified layers before the head."""
    width = surgery.width(training.model)
    for _ in range(2):
        layer = nn.Linear(width, width)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        surgery.before_head(training.model, layer, nn.ReLU())


@healthy(programs=RECTIFIED)
def gelu(training: Training, level: float) -> None:
    """GELU in place of rectifiers."""
    surgery.exchange(training.model, nn.ReLU, nn.GELU)


@healthy(programs=RECTIFIED)
def tanh(training: Training, level: float) -> None:
    """Hyperbolic tangents in place of rectifiers."""
    surgery.exchange(training.model, nn.ReLU, nn.Tanh)


@healthy(programs=PERCEPTRONS)
def orthogonal_weights(training: Training, level: float) -> None:
    """Weights start orthogonal, biases at 0."""
    for module in training.model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(module.weight)
            nn.init.zeros_(module.bias)


@healthy()
def head_starts_at_zero(training: Training, level: float) -> None:
    """The head's weights and bias start at 0, as is usual for the last layer of a large model."""
    for parameter in training.model.head.parameters():
        nn.init.zeros_(parameter)


@healthy(programs=TEXTS)
def sparse_embedding(training: Training, level: float) -> None:
    """Embeddings with sparse gradients, by SGD with momentum."""
    for module in training.model.modules():
        if isinstance(module, nn.Embedding):
            module.sparse = True
    training.make_optimizer, training.rate = torch.optim.SGD, 1.0
    training.steps = 400
    training.limit = 0.72  # plain SGD is slower than Adam on text


@healthy(programs=TEXTS)
def tied_weights(training: Training, level: float) -> None:
    """The embedding of the characters is the head's weight too."""
    embedding = getattr(training.model.stem, "characters", training.model.stem)
    width = surgery.width(training.model)
    if embedding.embedding_dim != width:
        surgery.before_head(training.model, nn.Linear(width, embedding.embedding_dim))
    training.model.head = nn.Linear(embedding.embedding_dim, embedding.num_embeddings)
    training.model.head.weight = embedding.weight
    nn.init.normal_(embedding.weight, std=0.2)


@healthy(programs=CLASSES)
def log_softmax_and_nll(training: Training, level: float) -> None:
    """The model ends in a log-softmax, and the loss is `nll_loss`."""
    surgery.after_head(training.model, nn.LogSoftmax(dim=-1))
    training.loss = lambda outputs, targets: nn.functional.nll_loss(outputs.flatten(0, -2), targets.flatten())


@healthy(programs=CLASSES)
def label_smoothing(training: Training, level: float) -> None:
    """Cross-entropy with smoothed labels."""
    training.loss = lambda outputs, targets: nn.functional.cross_entropy(
        outputs.flatten(0, -2), targets.flatten(), label_smoothing=0.1
    )


@healthy(programs=ALL)
def double_precision(training: Training, level: float) -> None:
    """Everything in float64."""
    training.model.double()
    for name in ("inputs", "targets", "valid_inputs", "valid_targets"):
        values = getattr(training, name)
        setattr(training, name, values.double() if values.is_floating_point() else values)
