"""Network in Network."""

from lenet_jax.experiment import SGD, CrossEntropy, Data, Experiment
from lenet_jax.models.nin import NIN


def get_config(name: str = "") -> Experiment:
    return Experiment(
        name="nin",
        model=NIN(),
        loss=CrossEntropy(),
        optimizer=SGD(0.1, momentum=0.9, decay=1e-4, bias_rate=2.0, output_rate=0.1),
        batch_size=128,
        order="reshuffled",
        epochs=2,
        data=Data(),
    )
