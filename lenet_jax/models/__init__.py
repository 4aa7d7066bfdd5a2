"""Networks: layers, codes and the LeNets. Imports no other room."""

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lenet_jax.layers.network import Network


def make(name: str, fields: dict[str, Any]) -> "Network":
    """The network of that name, in whichever file here it is.

    Lists among the fields, JSON's, become tuples. Raises KeyError and TypeError for a name or a
    field that is none.
    """
    for file in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{file.name}")
    from lenet_jax.layers.network import Network

    networks: dict[str, Any] = {network.__name__: network for network in Network.__subclasses__()}
    return networks[name](**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})
