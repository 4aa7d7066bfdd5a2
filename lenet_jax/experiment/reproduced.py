"""What an experiment of the package is compared with, and how `reproduce` measures it."""

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["LeNet", "tutorials", "Nielsen", "fully connected", "descendants", "classical"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Paper:
    """What the paper reports for an experiment, in percent."""

    test_error: float
    train_error: float | None
    source: str


@dataclass(frozen=True)
class Reproduced:
    """The set that an experiment belongs to, over how many seeds it is measured, and as what."""

    set: Literal["paper", "family"]
    seeds: int
    kind: Kind
    """which systems it stands with, in one colour"""
    in_family: bool = False
    """the family's page shows it too, though the paper's set measures it"""
    quick: bool = False
    """--quick measures it"""
    pretrained: bool = False
    """its first seed's network goes into the package"""
