"""Strings of digits as training examples."""

from dataclasses import dataclass, field
from typing import Literal

from lenet_jax.experiment.checks import require, require_types
from lenet_jax.experiment.distortion import Distortion

LONGEST = 40  # digits of a string
WIDEST = 2000  # pixels of its line


@dataclass(frozen=True)
class Strings:
    """Examples that are lines of the data's digits (`data.strings`).

    `Experiment.distortion` changes each digit by itself, and inverts pixels of the line.
    """

    examples: Literal["whole", "centred"] = "whole"
    """whole strings; or a digit between two others, or none, in the network's window (section
    VII)"""
    shortest: int = 1
    """digits of a whole string at least"""
    longest: int = 10
    """and at most; what the line has no room for is left out"""
    gaps: tuple[int, int] = (-4, 12)
    """pixels between the ink of neighbours, at least and at most; below 0 they overlap"""
    width: int = 200
    """pixels of the line of a whole string, a multiple of 4"""
    hand: Distortion = field(default_factory=Distortion)
    """what is common to a string's digits: slant, size"""
    slope: float = 0.0
    """of the baseline: up to so many of its length, either way"""
    strokes: float = 0.0
    """probability that ends of digits of other lines reach into it, from above and from below"""

    @property
    def shape(self) -> tuple[int, int]:
        """Of a line."""
        return 28, self.width if self.examples == "whole" else 28

    def __post_init__(self) -> None:
        require_types(self)
        shortest, longest, gaps, width = self.shortest, self.longest, self.gaps, self.width
        allowed = f"1 to {LONGEST}"
        require(1 <= longest <= LONGEST, "strings.longest", longest, allowed, "10")
        require(1 <= shortest <= longest, "strings.shortest", shortest, f"1 to {longest}", "1")
        fine = -28 <= gaps[0] <= gaps[1] <= 100
        allowed = "two numbers from -28 to 100, the larger second"
        require(fine, "strings.gaps", " ".join(map(str, gaps)), allowed, "-1 4")
        fine = 48 <= width <= WIDEST and width % 4 == 0
        allowed = f"a multiple of 4 from 48 to {WIDEST}"
        require(fine, "strings.width", width, allowed, "200")
        require(0 <= self.slope <= 0.5, "strings.slope", self.slope, "0 to 0.5", "0.05")
        require(0 <= self.strokes <= 1, "strings.strokes", self.strokes, "0 to 1", "0.2")
