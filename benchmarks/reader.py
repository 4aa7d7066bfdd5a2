"""Calibrates the reader's own network, and puts it into the package.

    python -m lenet_jax.train --config reader --workdir FOLDER
    python -m benchmarks.reader FOLDER

On what the run held out, 7,000 digits and non-digits of pages of digits it has not seen, the
confidence is calibrated, and the margin is found below which a prediction is rejected. Writes
results/reader.json, docs/reliability.png, and the network with its card.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize

from benchmarks import runs
from lenet_jax import commandline

ROOT = Path(__file__).parents[1]
REJECTED = 0.02  # of the digits that are predicted rightly, at most
BINS = np.linspace(0, 1, 11)


def calibrated(scores: np.ndarray, labels: np.ndarray, j: float) -> dict[str, Any]:
    """Calibration, margin, and what they make of predictions from scores [n, classes], whose
    labels are those of classes, or as many as these for what is no digit.
    """
    from lenet_jax.recognition import answers

    margins, right = answers.margins(scores, j), scores.argmax(1) == labels
    odds = answers.log_odds(scores, j)

    def loss(line: np.ndarray) -> float:  # of a logistic regression
        return float(np.logaddexp(0, np.where(right, -1, 1) * (line[0] * odds + line[1])).mean())

    best: Any = optimize.minimize(loss, [1.0, 0.0])
    below = float(np.sort(margins[right])[int(REJECTED * right.sum())])
    slope, offset = (round(float(x), 3) for x in best.x)
    limits = answers.Limits(j, round(below, 2), slope, offset)
    rejected, none = margins < limits.reject_below, labels == scores.shape[1]
    confidences = answers.confidences(scores, limits)
    rows: list[list[float]] = []
    places = np.digitize(confidences, BINS[1:-1])
    for place, low in enumerate(BINS[:-1]):
        own = places == place
        if own.any():
            shares = float(confidences[own].mean()), float(right[own].mean())
            rows.append([round(float(low), 1), int(own.sum()), *(round(x, 4) for x in shares)])
    return {
        "calibration": [slope, offset],
        "reject_below": limits.reject_below,
        "held_out": len(labels),
        "right": int(right.sum()),
        "right_rejected": int((right & rejected).sum()),
        "no_digits": int(none.sum()),
        "no_digits_rejected": int((none & rejected).sum()),
        "wrong_digits": int((~none & ~right).sum()),
        "wrong_digits_rejected": int((~none & ~right & rejected).sum()),
        "reliability": rows,
        "calibration_error": round(
            float(sum(n * abs(c - r) for _, n, c, r in rows) / len(labels)), 4
        ),
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.reader",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a finished run")
    given = parser.parse_args(arguments)

    commandline.set_up_jax()
    from lenet_jax import pretrained
    from lenet_jax.measurement import records
    from lenet_jax.recognition import answers
    from lenet_jax.recognition.predictor import predictor
    from lenet_jax.reports import figures

    trained, data, record = runs.opened(given.folder)
    held_out = data.validation
    scores = predictor(trained.module, trained.params)(np.asarray(held_out.images))
    found = calibrated(scores, held_out.labels, answers.limits(trained.card).j)
    record |= {"calibration": found}
    limits = {name: found[name] for name in ("reject_below", "calibration")}
    pretrained.save(pretrained.READER, trained.params, records.card(record, 0.0) | limits)
    records.write(ROOT / "results" / "reader.json", record)
    figures.reliability(found["reliability"], "lenet5-reader", ROOT / "docs" / "reliability.png")
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    commandline.run(main)
