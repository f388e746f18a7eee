"""Print what Cockpit 1.0.2 reads at every step of the problems, as JSON; runs where Cockpit is installed."""

import json
import sys

import torch
from backpack import extend
from cockpit import Cockpit, quantities
from problems import PROBLEMS, Problem

TRACKED = ("Alpha", "Loss", "Distance", "UpdateSize", "GradNorm", "NormTest", "InnerTest", "OrthoTest")


def train(problem: Problem) -> dict[str, object]:
    """Train as Cockpit's own examples do: quantity -> step -> value as stored, and the parameters at the end."""
    model = extend(problem.model())
    mean_loss = extend(torch.nn.CrossEntropyLoss(reduction="mean"))
    sample_losses = torch.nn.CrossEntropyLoss(reduction="none")
    optimizer = problem.optimizer(model)
    # The schedule says no before the first step, about which Cockpit asks too.
    tracked = [getattr(quantities, name)(lambda step: step >= 0) for name in TRACKED]
    cockpit = Cockpit(model.parameters(), quantities=tracked)
    for step, (images, classes) in enumerate(problem.batches()):
        optimizer.zero_grad()
        outputs = model(images)
        loss = mean_loss(outputs, classes)
        info = {
            "batch_size": len(images),
            "individual_losses": sample_losses(outputs, classes).detach(),
            "loss": loss,
            "optimizer": optimizer,
        }
        with cockpit(step, info=info):
            loss.backward(create_graph=cockpit.create_graph(step))
        optimizer.step()
    readings = {name: {} for name in TRACKED}
    for step, values in cockpit.get_output().items():
        for name, value in values.items():
            readings[name][step] = value
    return {"readings": readings, "parameters": [p.detach().flatten().tolist() for p in model.parameters()]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    json.dump({name: train(problem) for name, problem in PROBLEMS.items()}, sys.stdout)
