"""ImageNet (ILSVRC 2012) and Imagenette, ten of its classes: from TFDS's copy or from folders."""

import io
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_jax.data import folder, prepared
from lenet_jax.data.dataset import Dataset
from lenet_jax.errors import UserError
from lenet_jax.experiment import Data
from lenet_jax.experiment.data import CLASSES

HOST = "https://s3.amazonaws.com/fast-ai-imageclas/"


@dataclass(frozen=True)
class Archive:
    """Imagenette in one of its sizes, as TFDS has registered it."""

    side: int  # the shorter one of its pictures, or less
    config: str
    file: str
    size: int  # bytes
    sha256: str


ARCHIVES = (
    Archive(
        160,
        "160px-v2",
        "imagenette2-160.tgz",
        99_003_388,
        "64d0c4859f35a461889e0147755a999a48b49bf38a7e0f9bd27003f10db02fe5",
    ),
    Archive(
        320,
        "320px-v2",
        "imagenette2-320.tgz",
        341_663_724,
        "569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c",
    ),
)
NAMES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}


def find(asked: Data, log: Callable[[str], None]) -> Dataset:
    """A copy that TFDS has prepared in `data_dir`, or folders train and val in `manual_dir`;
    Imagenette also from its archive there, or TFDS's download.

    Of Imagenette the smallest form is taken that is as large as the size asked for. Raises
    UserError where there is none of these, and for folders of other classes.
    """
    manual_dir = asked.manual_dir.expanduser() if asked.manual_dir else None
    if manual_dir and (asked.name == "imagenet" or (manual_dir / "train").is_dir()):
        return _of_folder(asked, manual_dir, log)
    data_dir = prepared.data_dir_of(asked.data_dir)
    if asked.name == "imagenet":
        if not (found := prepared.ready(IMAGENET, data_dir)):
            raise UserError(
                f"no ImageNet: none prepared as array_record in {IMAGENET.folder(data_dir)}, and "
                f"it cannot be downloaded without an account. Give {IMAGENET.ways}"
            )
        return _of_copy(IMAGENET, asked, found, lambda: None, log)
    forms = {form.file: imagenette(form) for form in ARCHIVES if form.side >= asked.side}
    of = next((of for of in forms.values() if prepared.ready(of, data_dir)), None)

    def originals(files: Iterable[str]) -> prepared.Files | None:
        sums = {form.file: form.sha256 for form in ARCHIVES if form.file in files}
        return {"archive": prepared.original(manual_dir, sums, HOST)} if manual_dir else None

    files = None if of else originals(forms)
    of = of or (forms[files["archive"].name] if files else next(iter(forms.values())))
    own = [file for file, each in forms.items() if each is of]
    if missing := prepared.missing(of, data_dir, files):
        raise UserError(f"{missing}. Give {of.ways}")
    data_dir = prepared.prepare(of, data_dir, files, log)
    return _of_copy(of, asked, data_dir, lambda: originals(own), log)


IMAGENET = prepared.Copy(
    title="ImageNet",
    name="imagenet2012",
    version="5.1.0",
    splits=("train", "validation"),
    ways="a copy that TFDS has prepared with --file_format=array_record (--data.data-dir), or an "
    "unpacked folder with train/n01440764/NAME.JPEG and val/n01440764/NAME.JPEG "
    f"(--data.manual-dir), or ten of its classes, --data.name imagenette, or {prepared.MADE}",
)


def imagenette(form: Archive) -> prepared.Set:
    """Imagenette as TFDS prepares it."""
    return prepared.Set(
        title="Imagenette",
        name="imagenette",
        version="1.0.0",
        config=form.config,
        urls={"archive": HOST + form.file},
        features=lambda tfds: {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=list(NAMES)),
        },
        examples=_examples,
        splits=("train", "validation"),
        homepage="https://github.com/fastai/imagenette",
        ways=f"{form.file} in --data.manual-dir (curl -LO {HOST}{form.file}), or a folder with "
        f"what is in it, train and val, or a network; or {prepared.MADE}",
        sums={HOST + form.file: (form.size, form.sha256)},
    )


def _examples(split: str, files: prepared.Files) -> Iterator[tuple[str, dict[str, Any]]]:
    """Keys and examples as TFDS has them, so that the prepared copy has its order."""
    inside = {"train": "train", "validation": "val"}[split]
    with tarfile.open(files["archive"]) as archive:
        for member in archive:
            match Path(member.name).parts:
                case (*_, within, label, name) if within == inside and name.endswith(".JPEG"):
                    if file := archive.extractfile(member):
                        yield name, {"image": io.BytesIO(file.read()), "label": label}


class Records:
    """Pictures in a copy that TFDS has prepared, with their labels; `encoded.Encoded`."""

    def __init__(self, of: prepared.Copy, data_dir: Path, split: str) -> None:
        self._records = prepared.records(of, data_dir, split)
        self._files = sorted(of.folder(data_dir).glob(f"{of.name}-{split}.array_record*"))
        self.where = f"{split} in {of.folder(data_dir)}"

    def __len__(self) -> int:
        return len(self._records)

    def read(self, number: int) -> tuple[bytes, int]:
        record = self._records[number]
        return record["image"], int(record["label"])

    def name(self, number: int) -> str:
        return f"record {number:,} of {self.where}"

    def files(self) -> Iterable[Path]:
        return self._files


def _of_copy(
    of: prepared.Copy,
    asked: Data,
    data_dir: Path,
    originals: prepared.Originals,
    log: Callable[[str], None],
) -> Dataset:
    try:
        train, test = (Records(of, data_dir, split) for split in of.splits)
    except UserError:
        raise
    except Exception as error:  # whatever TFDS makes of a damaged description
        data_dir = prepared.anew(of, data_dir, originals, log, error)
        train, test = (Records(of, data_dir, split) for split in of.splits)
    names = _named(prepared.names_of(of, data_dir))
    return folder.of_encoded(asked.name, f"{of} in {data_dir}", train, test, names, asked, log)


def _of_folder(asked: Data, given: Path, log: Callable[[str], None]) -> Dataset:
    found = folder.classes_of(given)
    classes = CLASSES[asked.name]
    fits = found == tuple(NAMES) if asked.name == "imagenette" else len(found) == classes
    if not fits or not all(re.fullmatch(r"n\d{8}", name) for name in found):
        raise UserError(
            f"--data.manual-dir {given}: it has {len(found)} classes, {', '.join(found[:3])} ..., "
            f"and {asked.name} has {classes}, {next(iter(NAMES))} ... Pictures of your own are "
            "taken with --data.name folder"
        )
    train, test = folder.splits(given, log)
    source = f"pictures in {given}"
    return folder.of_encoded(asked.name, source, train, test, _named(found), asked, log)


def _named(classes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(NAMES.get(name, name) for name in classes)
