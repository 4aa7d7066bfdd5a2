"""Prints the layers of a network: python -m lenet_jax.summary --config experiments/classic.py"""

from collections.abc import Sequence

from lenet_jax import commandline


def main(arguments: Sequence[str]) -> int:
    """The paper's table of maps, sizes, parameters and connections; returns the exit code."""
    experiment = commandline.experiment("python -m lenet_jax.summary", __doc__ or "", arguments)

    from rich.console import Console
    from rich.table import Table

    from lenet_jax.measurement import counting

    layers = counting.count(experiment.model)
    table = Table(title=f"{experiment.name}, for one image", show_footer=True)
    table.add_column("layer", footer="total")
    table.add_column("maps x size")
    for column in ("units", "parameters", "fixed", "connections", "multiply_adds"):
        total = sum(getattr(layer, column) for layer in layers)
        table.add_column(column.replace("_", "-"), footer=f"{total:,}", justify="right")
    for layer in layers:
        numbers = layer.units, layer.parameters, layer.fixed, layer.connections, layer.multiply_adds
        size = f"{layer.maps} @ {layer.height}x{layer.width}"
        table.add_row(layer.name.upper(), size, *(f"{n:,}" for n in numbers))
    Console().print(table)
    return 0


if __name__ == "__main__":
    commandline.run(main)
