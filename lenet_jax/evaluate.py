"""Counts what a network misclassifies, on MNIST's test digits or on labelled pictures.

A run that was trained on another set is tested on the test images of that one, and one that was
trained on strings of digits on whole strings of test digits.

python -m lenet_jax.evaluate                          the best pretrained network
python -m lenet_jax.evaluate lenet5-classic           another one
python -m lenet_jax.evaluate runs/classic             the newest checkpoint of a run
python -m lenet_jax.evaluate --pictures my_digits     folders 0 to 9, a digit in each picture
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lenet_jax import commandline
from lenet_jax.experiment import Arrays, Data
from lenet_jax.experiment.data import DIGITS
from lenet_jax.recognition import networks

WIDEST = 26  # classes whose confusion matrix is printed


def main(arguments: Sequence[str]) -> int:
    """Prints and draws what is misclassified; returns the exit code."""
    given = parse(arguments)
    run = networks.check(given.network, trust_page=given.trust_page)
    if given.ten_views or given.pictures:
        networks.require_single(given.network, run)
    if given.out:
        commandline.out_folder(given.out)

    # Nothing above this line imports jax: every complaint so far came at once.
    commandline.set_up_jax()
    from lenet_jax.data import dataset
    from lenet_jax.measurement import evaluation, rejection
    from lenet_jax.recognition import answers, reader
    from lenet_jax.reports import figures

    if (run or {}).get("strings"):
        return on_strings(given)
    if given.ten_views:
        trained = networks.load(given.network, commandline.log, given.trust_page)
        scores, card = evaluation.of_ten_views(trained), trained.card
    else:
        scores, card = reader.reader(given.network, given.trust_page)
    if given.pictures:
        found = evaluation.of_pictures(scores, card, given.pictures)
    else:
        asked = networks.data_of(given.network, given.trust_page)
        data = dataset.of(to_test_on(asked, given.manual_dir), log=commandline.log)
        evaluation.require_fitting(data, given.network, card)
        found = evaluation.of_test_set(scores, data)
    record = {"network": given.network, "views": 10 if given.ten_views else 1}
    record |= evaluation.as_json(found, card)
    shown = given.pictures.resolve().name if given.pictures else found.name.partition(",")[0]
    given.out = commandline.out_folder(
        given.out or commandline.folder_for("evaluation", given.network, shown)
    )
    (given.out / "evaluation.json").write_text(json.dumps(record) + "\n")
    title = f"{given.network} on {found.name}"
    figures.confusion(record["confusion"], title, given.out / "confusion.png")
    figures.misclassified(found.images, record["wrong"], title, given.out / "misclassified.png")
    left = rejection.error_rates_left(answers.margins(found.scores), found.wrong)
    figures.rejection(left, f"{title}, by the difference alone", given.out / "rejection.png")
    print_tables(record)
    print(f"In {given.out}: evaluation.json, confusion.png, misclassified.png, rejection.png")
    return 0


def on_strings(given: argparse.Namespace) -> int:
    """The same for a network whose examples are strings of digits."""
    import numpy as np

    from lenet_jax.data import dataset, strings
    from lenet_jax.measurement import lines

    trained = networks.load(given.network, commandline.log, given.trust_page)
    of, ranges = networks.strings_of(trained.card)
    asked = networks.data_of(given.network, given.trust_page)
    digits = dataset.of(to_test_on(asked, given.manual_dir), log=commandline.log)
    test = strings.fixed(dataclasses.replace(of, examples="whole"), ranges, digits.test)
    found = lines.read(trained, np.asarray(test.images))
    record = {"network": given.network, **lines.as_json(f"strings of {digits.name}", test, found)}
    out = commandline.out_folder(
        given.out or commandline.folder_for("evaluation", given.network, record["data"])
    )
    (out / "evaluation.json").write_text(json.dumps(record) + "\n")
    print(f"{given.network} on {record['data']}\n\ndigits  strings  wrong")
    for row in record["by_length"]:
        percent = 100 * row["errors"] / row["size"]
        print(f"{row['length']:6}{row['size']:9,}{row['errors']:7,}{percent:8.2f} %")
    errors, size = record["errors"], record["size"]
    print(f"\n{errors:,} of {size:,} strings misread, {100 * errors / size:.2f} %")
    print(f"In {out}: evaluation.json")
    return 0


def to_test_on(asked: Data | Arrays, manual_dir: Path | None) -> Data | Arrays:
    """What a network was trained on, or its like in another folder; for digits MNIST."""
    if isinstance(asked, Arrays):
        return asked
    if asked.name in DIGITS:
        return Data(manual_dir=manual_dir)
    return dataclasses.replace(asked, manual_dir=manual_dir or asked.manual_dir)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = commandline.parser("evaluate", __doc__)
    parser.add_argument("network", nargs="?", **commandline.NETWORK)
    parser.add_argument("--trust-page", **commandline.TRUST_PAGE)
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument(
        "--ten-views",
        action="store_true",
        help="average over the corners, the middle and their mirror images, as AlexNet was tested",
    )
    shown.add_argument("--pictures", type=Path, metavar="FOLDER", help="instead of MNIST")
    parser.add_argument(
        "--manual-dir",
        type=Path,
        metavar="FOLDER",
        help="of the data's own files, such as the four of MNIST",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="(default: evaluation/, in a folder named by the network and the data)",
    )
    return parser.parse_args(arguments)


def print_tables(record: dict[str, Any]) -> None:
    """Errors, precision and recall of each class beside its row of the confusion matrix.

    Of more classes than a line has room for without the matrix.
    """
    size, errors, table = record["size"], record["errors"], record["confusion"]
    wide, names = len(table) <= WIDEST, record.get("classes", [""] * len(table))
    columns = ": rows are true labels, columns predicted ones" if wide else ""
    print(f"{record['network']} on {record['data']}{columns}\n")
    heads = "".join(f"{prediction:6}" for prediction in range(len(table))) if wide else ""
    print(f"     {heads}  recall  precision")
    for label, (row, name) in enumerate(zip(table, names, strict=True)):
        rates = (record[f"{kind}_percent"][label] for kind in ("recall", "precision"))
        recall, precision = ("-" if rate is None else f"{rate:.1f} %" for rate in rates)
        counts = "".join(f"{number or '.':>6}" for number in row) if wide else ""
        print(f"{label:5}{counts}{recall:>8}{precision:>11}  {name}".rstrip())
    print()
    print(f"{errors:,} of {size:,} misclassified, {100 * errors / size:.2f} %")
    rejected, left = record["rejected"], record["errors_not_rejected"]
    kept = size - rejected
    print(f"{rejected:,} rejected, {left:,} of the other {kept:,} misclassified", end="")
    print(f", {100 * left / kept:.2f} %" if kept else "")
    for why in record["unread"].values():
        print(why)


if __name__ == "__main__":
    commandline.run(main)
