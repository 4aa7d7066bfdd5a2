"""What happens to training examples."""

from dataclasses import dataclass

from lenet_jax.errors import UserError
from lenet_jax.experiment.checks import require, require_types


@dataclass(frozen=True)
class Distortion:
    """Random changes to the training examples; each at 0 leaves them alone.

    The first ten are for grey images (`data.distort`), `crops`, `flips` and `colour` for pictures
    in colours (`data.views`).
    """

    translation: float = 0.0
    """up to so many pixels, down or up and right or left"""
    scaling: float = 0.0
    """larger or smaller by a factor of up to exp(this)"""
    squeezing: float = 0.0
    """narrower and taller, or the reverse, by factors of up to exp(this)"""
    shear: float = 0.0
    """horizontal shear: a row moves by up to so many of its distance from the middle"""
    rotation: float = 0.0
    """up to so many degrees, either way"""
    elastic: float = 0.0
    """standard deviation of a smooth random field of displacements, in pixels"""
    smoothness: float = 4.0
    """of that field: the standard deviation of its bumps, in pixels"""
    inverted: float = 0.0
    """probability that a pixel is inverted (section III-E: 0.1)"""
    shifted: bool = False
    """five versions of each example: as it is, and a pixel down, up, right and left"""
    versions: int | None = None
    """of each example, the original and so many less one, as a fixed set (the paper's has 10);
    None: new distortions in every epoch"""
    crops: bool = False
    """the network's window lies anywhere in a picture, not in its middle"""
    flips: bool = False
    """half of the pictures are mirrored, left to right"""
    colour: float = 0.0
    """standard deviation of the noise along the principal components of colours, times their
    eigenvalues (0.1 in AlexNet's paper)"""

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("translation", "scaling", "squeezing", "shear", "rotation", "elastic"):
            value = getattr(self, name)
            require(0 <= value < 1000, f"distortion.{name}", value, "0 or more", "0.1")
        require(0 <= self.colour < 10, "distortion.colour", self.colour, "0 or more", "0.1")
        bumps, inverted, versions = self.smoothness, self.inverted, self.versions
        require(bumps >= 2, "distortion.smoothness", bumps, "2 or more", "4")
        require(0 <= inverted <= 1, "distortion.inverted", inverted, "0 to 1", "0.1")
        require(
            versions is None or 1 <= versions <= 1000,
            "distortion.versions",
            versions,
            "1 to 1,000",
            "10",
        )
        if self.shifted and (versions != 5 or self.any):
            raise UserError(
                "--distortion.shifted makes five versions of each example and nothing else: give "
                "--distortion.versions 5 with it, and no other distortion"
            )

        if self.of_pictures and (versions or self.any):
            raise UserError(
                "--distortion.crops, flips and colour are for pictures in colours, new in every "
                "epoch: give no other distortion with them, and no --distortion.versions"
            )

    @property
    def moves(self) -> bool:
        """Whether any ink may move."""
        kinds = (self.translation, self.scaling, self.squeezing, self.shear, self.rotation)
        return any(kinds) or self.elastic > 0

    @property
    def any(self) -> bool:
        return self.moves or self.inverted > 0

    @property
    def of_pictures(self) -> bool:
        return self.crops or self.flips or self.colour > 0
