"""Prints the layers of a network: python -m lenet_jax.summary --config experiments/classic.py"""

from collections.abc import Sequence

from lenet_jax import commandline
from lenet_jax.experiment import Data


def main(arguments: Sequence[str]) -> int:
    """The paper's table of maps, sizes, parameters and connections; returns the exit code."""
    experiment = commandline.experiment("summary", __doc__ or "", arguments)

    from rich.console import Console
    from rich.table import Table

    from lenet_jax.data import dataset
    from lenet_jax.layers import contract
    from lenet_jax.measurement import counting

    data = experiment.data
    known = data.known if isinstance(data, Data) else (data.shape, data.classes)
    if known is None:
        found = dataset.of(data, log=commandline.log)
        known = found.shape, found.classes
    shape, classes = known
    if experiment.strings is not None:
        shape, classes = experiment.strings.shape, classes + 1
    model = experiment.fitted(shape, classes).model
    lines = experiment.strings is not None and experiment.strings.examples == "whole"
    contract.check(model, shape, classes, of_lines=lines)
    layers = counting.count(model, shape)
    table = Table(
        title=f"{experiment.name}, for one image", show_footer=True, show_edge=False, pad_edge=False
    )  # so that its numbers have room on 80 columns
    table.add_column("layer", footer="total")
    table.add_column("maps x size", no_wrap=True)
    columns = ["units", "parameters", "fixed", "connections", "multiply_adds"]
    if not any(layer.fixed for layer in layers):  # a large network's numbers need the room
        columns.remove("fixed")
    for column in columns:
        numbers = [getattr(layer, column) for layer in layers]
        total = "-" if None in numbers else f"{sum(numbers):,}"
        table.add_column(column.replace("_", "-"), footer=total, justify="right", no_wrap=True)
    for layer in layers:
        numbers = [getattr(layer, column) for column in columns]
        size = "" if layer.maps is None else f"{layer.maps} @ {layer.height}x{layer.width}"
        table.add_row(
            layer.name if layer.units is None else layer.name.upper(),
            size,
            *("-" if n is None else f"{n:,}" for n in numbers),
        )
    Console().print(table)
    return 0


if __name__ == "__main__":
    commandline.run(main)
