"""Networks: layers, codes and the LeNets. Imports no other room."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lenet_jax.models.layers import Network

# The file of each network.
HOMES = {
    "LeNet5": "lenet",
    "LeNet1": "lenet",
    "LeNet4": "lenet",
    "Tutorial": "tutorial",
    "FullyConnected": "connected",
    "Nielsen": "nielsen",
}


def make(name: str, fields: dict[str, Any]) -> "Network":
    """The network of that name. Raises KeyError and TypeError for a name or a field that is none.

    Lists among the fields, JSON's, become tuples.
    """
    network = getattr(importlib.import_module(f"lenet_jax.models.{HOMES[name]}"), name)
    return network(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})
