"""Pictures that are made, or read and decoded, when they are asked for."""

import io
import os
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

from lenet_jax.errors import UserError

WRITTEN = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".avif"),
    *(".pgm", ".ppm"),
)
SUFFIXES = (*WRITTEN, ".heic", ".heif", ".hif")  # these need the extra `heic`
# Pillow's others are never tried: for EPS it starts Ghostscript, whatever the file is called.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM")
HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # ISO 23008-12
CORES = os.cpu_count() or 1
AHEAD = 4 * CORES  # pictures in work at a time


class Pictures:
    """What an array uint8 [n, *shape] of pictures would be, each made where it is asked for.

    `make` gives the picture of a number, `numbers` are those of the pictures in their order. They
    are made by threads, one for each core: Pillow decodes and scales outside of Python's lock.
    Grain's worker processes were slower where they were tried, on two cores: each must start and
    hand its pixels over.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self, make: Callable[[int], np.ndarray], numbers: np.ndarray, shape: tuple[int, ...]
    ) -> None:
        self._make, self._numbers = make, numbers
        self.shape = (len(numbers), *shape)
        self._whole: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """What they would take in memory."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return len(self._numbers)

    def part(self, which: slice | np.ndarray) -> "Pictures":
        """Some of them, not made yet."""
        return Pictures(self._make, self._numbers[which], self.shape[1:])

    def __getitem__(self, places: Any) -> np.ndarray:
        """uint8 [*places, *shape]: the pictures at a place, a slice or an array of places."""
        if self._whole is not None:
            return self._whole[places]
        numbers, where = np.unique(self._numbers[places], return_inverse=True)
        made = np.empty((len(numbers), *self.shape[1:]), np.uint8)
        for at, picture in enumerate(in_order(self._make, numbers)):
            made[at] = picture
        return made[where]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self._whole is None:  # who wants them all has room for them, and may want them again
            self._whole = self[:]
        return np.asarray(self._whole, dtype)


def in_order(make: Callable[[Any], Any], of: Any) -> Iterator[Any]:
    """make(each) of a sequence or an array, in order, by as many threads as there are cores."""
    import grain

    options = grain.ReadOptions(num_threads=CORES, prefetch_buffer_size=AHEAD)
    reading = iter(grain.MapDataset.source(of).map(make).to_iter_dataset(options))
    try:
        yield from reading
    finally:
        reading.close()


def opened(file: BinaryIO, formats: tuple[str, ...] | None = None) -> Any:
    """The Pillow image in a file, not decoded yet, of any size.

    `formats`: which of Pillow's are tried (default: FORMATS, and HEIF by the extra `heic`). Raises
    UserError for HEIF without it, and whatever Pillow does for what it cannot read.
    """
    from PIL import Image, JpegImagePlugin

    if not file.seekable():  # a pipe
        file = io.BytesIO(file.read())
    head = file.read(12)
    file.seek(0)
    if head.startswith(b"\xff\xd8\xff") and "JPEG" in (formats or ("JPEG",)):
        return JpegImagePlugin.jpeg_factory(file)  # `open` allows 179 megapixels
    if formats is None and head[4:8] == b"ftyp" and head[8:] in HEIF:
        try:
            import pillow_heif
        except ImportError as error:
            raise UserError(
                "HEIC pictures are read with pillow-heif, which is not installed: "
                "pip install 'lenet_jax[heic]', or save the picture as a JPEG"
            ) from error
        pillow_heif.register_heif_opener()
        formats = (*FORMATS, "HEIF")
    return Image.open(file, formats=formats or FORMATS)
