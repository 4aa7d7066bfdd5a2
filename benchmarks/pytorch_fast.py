"""experiments/fast.py in PyTorch: python -m benchmarks.pytorch_fast DATA.npz '{"epochs": 2, ...}'

A process of its own, as a user would start it. Prints {"test_error_percent": ...}.
"""

import argparse
import json
import math
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.pytorch import LUSH_V, LeNet5, maximum_a_posteriori


@dataclass(frozen=True)
class Run:
    batch_size: int
    epochs: int
    learning_rate: float
    adam_learning_rate: float
    warmup: float
    j: float  # of eq. 9
    compiled: bool
    seed: int
    threads: int


class Muon(torch.optim.Optimizer):
    """optax.contrib.muon over kernels of any shape, as matrices [maps, the rest].

    torch.optim.Muon takes none but matrices, and works in bfloat16, which is slow on most CPUs.
    """

    def __init__(self, parameters, lr: float, momentum: float = 0.95):
        super().__init__(parameters, {"lr": lr})
        self.momentum, self.count = momentum, 0

    @torch.no_grad()
    def step(self):  # type: ignore[override]
        self.count += 1
        b, n = self.momentum, self.count
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad.flatten(1)
                state = self.state[parameter]
                if not state:
                    state["mean"] = torch.zeros_like(gradient)
                mean = state["mean"].lerp_(gradient, 1 - b)
                ahead = mean * (b / (1 - b ** (n + 1))) + gradient * ((1 - b) / (1 - b**n))
                rows, columns = gradient.shape
                size = group["lr"] * math.sqrt(max(1, columns / rows))
                parameter.sub_(orthogonal(ahead).view_as(parameter), alpha=size)


def orthogonal(x: torch.Tensor) -> torch.Tensor:
    """Five steps of Newton and Schulz towards the nearest orthogonal matrix; rows <= columns."""
    x = x / (x.norm() + 1e-8)
    for _ in range(5):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.775, alpha=2.0315), x, beta=3.4445)
    return x


def initialize(model: LeNet5) -> None:
    """The first weights of ours, `layers.uniform`: +-v/sqrt(Fi), biases 0."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
        elif name == "c3.weight":
            fan_in = 25 * model.mask.sum(1, keepdim=True)
            parameter.data.uniform_(-1, 1).mul_(LUSH_V / fan_in.sqrt() * model.mask)
        elif name.endswith("weight"):
            bound = LUSH_V / math.sqrt(parameter[0].numel())
            torch.nn.init.uniform_(parameter, -bound, bound)


def share(run: Run, step: int, steps: int) -> float:
    """Of the highest rate, as `optimizers.schedule`: up in a line, down in a line."""
    top = int(run.warmup * steps)
    return min((step + 1) / (top + 1), (steps - step) / (steps - top))


def train(run: Run, path: str, device: str) -> float:
    """Trains on all of the training set; returns the error on the test set in percent."""
    torch.manual_seed(run.seed)
    torch.set_num_threads(run.threads)
    with np.load(path) as arrays:
        images, labels, test_images, test_labels = (
            torch.tensor(arrays[name], device=device)
            for name in ("images", "labels", "test_images", "test_labels")
        )
    labels = labels.long()
    model = LeNet5().to(device)
    initialize(model)
    kernels = [p for name, p in model.named_parameters() if name.endswith("weight")]
    others = [p for name, p in model.named_parameters() if not name.endswith("weight")]
    rates = [run.learning_rate, run.adam_learning_rate]
    optimizers = [Muon(kernels, rates[0]), torch.optim.Adam(others, rates[1], fused=True)]

    def objective(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return maximum_a_posteriori(model(images), labels, run.j)

    if run.compiled:
        objective = torch.compile(objective, fullgraph=True, dynamic=False)
    steps = run.epochs * -(-len(labels) // run.batch_size)
    step = 0
    for _ in range(run.epochs):
        for chosen in torch.randperm(len(labels), device=device).split(run.batch_size):
            objective(images[chosen], labels[chosen]).backward()
            for optimizer, rate in zip(optimizers, rates, strict=True):
                optimizer.param_groups[0]["lr"] = rate * share(run, step, steps)
                optimizer.step()
                optimizer.zero_grad()
            step += 1
    with torch.inference_mode():
        predictions = torch.cat([model(part).argmax(1) for part in test_images.split(500)])
    return 100 * float((predictions != test_labels).float().mean())


def recipe(text: str) -> Run:
    return Run(**json.loads(text))


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m benchmarks.pytorch_fast", description=__doc__)
    parser.add_argument("data", metavar="DATA.npz")
    parser.add_argument("recipe", metavar="RECIPE", type=recipe)
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    error = train(given.recipe, given.data, device)
    print(json.dumps({"test_error_percent": round(error, 2)}))
