"""The baseline: the same network and the same update in PyTorch, written plainly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, _foreach_addcmul_, nn  # type: ignore[reportPrivateImportUsage]

from lenet_jax.layers.codes import codes

# Restated here, so that the baseline's process imports no jax; `speed.check_baseline` compares.
BACKGROUND, FOREGROUND = -0.1, 1.175
LUSH_V, LUSH_COEFFICIENT = 1.3, 0.45
TABLE_I = [
    *({(m + k) % 6 for k in range(3)} for m in range(6)),
    *({(m + k) % 6 for k in range(4)} for m in range(6)),
    *({m, m + 1, m + 3, (m + 4) % 6} for m in range(3)),
    set(range(6)),
]


class Subsampling(nn.Module):
    """The sums over 2x2 windows, times one coefficient per map, plus one bias per map."""

    def __init__(self, maps: int):
        super().__init__()
        self.coefficient = nn.Parameter(torch.full((maps, 1, 1), LUSH_COEFFICIENT))
        self.bias = nn.Parameter(torch.zeros(maps, 1, 1))

    def forward(self, states: Tensor) -> Tensor:
        # Not divisor_override=1: the export to ONNX forgets it without a word.
        return torch.addcmul(self.bias, self.coefficient, F.avg_pool2d(states, 2), value=4)


class LeNet5(nn.Module):
    """The network of `lenet_jax.models.lenet` with its defaults, and PyTorch's own first weights.

    Takes uint8 images [n, 28, 28] and returns scores [n, 10], minus the squared distances from
    the codes.
    """

    mask: Tensor
    codes: Tensor

    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, 5)
        self.s2 = Subsampling(6)
        self.c3 = nn.Conv2d(6, 16, 5)
        self.s4 = Subsampling(16)
        self.c5 = nn.Linear(400, 120)
        self.f6 = nn.Linear(120, 84)
        mask = torch.zeros(16, 6, 1, 1)
        for row, reads in enumerate(TABLE_I):
            mask[row, list(reads)] = 1
        self.register_buffer("mask", mask)
        self.register_buffer("codes", torch.tensor(codes()))

    def forward(self, images: Tensor) -> Tensor:
        scale = (FOREGROUND - BACKGROUND) / 255
        x = F.pad(images.float() * scale + BACKGROUND, (2, 2, 2, 2), value=BACKGROUND)[:, None]
        x = self.activate(self.c1(x))
        x = self.activate(self.s2(x))
        x = self.activate(F.conv2d(x, self.c3.weight * self.mask, self.c3.bias))
        x = self.activate(self.s4(x))
        x = self.activate(self.c5(x.flatten(1)))
        x = self.activate(self.f6(x))
        return -(x[:, None] - self.codes).square().sum(2)

    def activate(self, sums: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(sums * (2 / 3))


@torch.no_grad()
def from_params(params: Any) -> LeNet5:
    """The network with the weights of our flax LeNet5."""
    model = LeNet5()
    for name, parameter in model.named_parameters():
        layer, kind = name.split(".")
        array = np.asarray(params[layer][kind.replace("weight", "kernel")])
        parameter.copy_(torch.tensor(array).reshape(parameter.shape))
    return model


def maximum_a_posteriori(scores: Tensor, labels: Tensor, j: float) -> Tensor:
    """Eq. 9, the mean over the batch. scores [n, 10], labels int64 [n] -> []."""
    return F.cross_entropy(F.pad(scores, (0, 1), value=-j), labels)  # the last class is rubbish


def updater(
    model: LeNet5,
    step_sizes: list[Tensor],
    mode: Literal["eager", "compile"],
    j: float = 5.0,
) -> Callable[[Tensor, Tensor], Tensor]:
    """The function (images, labels) -> loss that updates the model: w <- w - step_size dE/dw.

    images uint8 [n, 28, 28] and labels int64 [n] are on the model's device, and so are the
    `step_sizes`, eta/(mu + h), in the order of `model.parameters()`. The loss is the one before
    the update. With "compile" the first call compiles, for batches of its size alone.
    """
    parameters = dict(model.named_parameters())
    weights = [parameter.detach() for parameter in parameters.values()]  # the same memory

    def eager(images: Tensor, labels: Tensor) -> Tensor:
        loss = maximum_a_posteriori(model(images), labels, j)
        loss.backward()
        gradients: Any = [parameter.grad for parameter in parameters.values()]
        _foreach_addcmul_(weights, gradients, step_sizes, value=-1)
        for parameter in parameters.values():
            parameter.grad = None
        return loss.detach()

    def objective(weights: list[Tensor], images: Tensor, labels: Tensor) -> Tensor:
        named = dict(zip(parameters, weights, strict=True))
        scores = torch.func.functional_call(model, named, (images,))
        return maximum_a_posteriori(scores, labels, j)

    @torch.no_grad()
    def update(images: Tensor, labels: Tensor) -> Tensor:
        gradients, loss = torch.func.grad_and_value(objective)(weights, images, labels)
        _foreach_addcmul_(weights, gradients, step_sizes, value=-1)
        return loss

    if mode == "eager":
        return eager
    # All of it one graph: faster than the loss compiled and the rest eager.
    return torch.compile(update, fullgraph=True, dynamic=False)


def predictor(model: LeNet5, mode: Literal["eager", "compile"]) -> Callable[[Tensor], Tensor]:
    """The function from uint8 images [n, 28, 28], on the model's device, to scores [n, 10]."""
    if mode == "compile":
        forward = torch.compile(model, fullgraph=True, dynamic=False)
    else:
        forward = model
    return torch.inference_mode()(forward)


def onnx_session(model: LeNet5, path: Path, threads: int):
    """The network exported to `path`, as an onnxruntime.InferenceSession on the CPU.

    Its input "images" is uint8 [n, 28, 28] for any n, its output "scores" float32 [n, 10].
    """
    import onnxruntime

    export(model, path, torch.uint8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def opencv_network(model: LeNet5, path: Path, threads: int):
    """The network exported to `path`, as a network of OpenCV's dnn, for float32 [n, 28, 28]."""
    import cv2

    export(model, path, torch.float32)
    cv2.setNumThreads(threads)
    return cv2.dnn.readNetFromONNX(str(path))


def export(model: LeNet5, path: Path, pixels: torch.dtype) -> None:
    torch.onnx.export(
        model,
        (torch.zeros(2, 28, 28, dtype=pixels),),
        str(path),
        dynamo=False,  # the newer exporter asks for one more package
        input_names=["images"],
        output_names=["scores"],
        dynamic_axes={"images": {0: "n"}, "scores": {0: "n"}},
    )
