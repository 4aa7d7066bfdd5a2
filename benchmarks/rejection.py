"""What the rubbish class and the difference of the two best scores reject of held-out digits.

    python -m benchmarks.rejection FOLDER...

Each folder is that of a run that held examples out (`reproduce` trains one for each pretrained
network). Writes results/rejection.json; its thresholds are those of the cards.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import speed
from lenet_jax import commandline

ROOT = Path(__file__).parents[1]


def measured(folder: Path) -> dict[str, Any]:
    """Of a run's held-out examples: errors, what is rejected by which rule, and what is left.

    A threshold is null where none suffices, and so is the error of the rest where nothing is left.
    """
    from lenet_jax.data import dataset
    from lenet_jax.experiment.serialization import from_json
    from lenet_jax.measurement import evaluation, rejection
    from lenet_jax.recognition import answers, networks
    from lenet_jax.recognition.predictor import predictor

    trained = networks.load(str(folder))
    experiment = from_json(trained.card["config"])
    data = dataset.of(experiment.data)
    held_out = data.validation
    scores = predictor(trained.module, trained.params)(held_out.images)
    found = evaluation.Evaluation(str(folder), held_out.images, held_out.labels, scores)
    j = answers.limits(trained.card).j
    below = rejection.reject_below(scores, held_out.labels, j)
    card = trained.card | {"reject_below": below if math.isfinite(below) else None}
    wrong, rubbish, silent = (
        found.wrong,
        answers.is_rubbish(scores, j),
        evaluation.rejected(found, card),
    )
    return {
        "dataset": data.name,
        "updates": trained.card["updates"],
        "held_out": len(wrong),
        "errors": int(wrong.sum()),
        "j": j if math.isfinite(j) else None,
        "rejected_by_the_rubbish_class": int(rubbish.sum()),
        "of_these_misclassified": int((rubbish & wrong).sum()),
        "reject_below": card["reject_below"],
        "rejected": int(silent.sum()),
        "errors_not_rejected": int((wrong & ~silent).sum()),
        "error_percent_of_the_rest": None
        if silent.all()
        else round(100 * float(wrong[~silent].mean()), 4),
        "rejected_percent_for_half_percent_error_by_the_difference_alone": rejection.needed(
            answers.margins(scores), wrong
        ),
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.rejection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    given = parser.parse_args(arguments)

    commandline.set_up_jax()
    from lenet_jax.measurement import records

    networks = {folder.name: measured(folder) for folder in given.folders}
    record = {"networks": networks, **speed.conditions()}
    records.write(ROOT / "results" / "rejection.json", record)
    return 0


if __name__ == "__main__":
    commandline.run(main)
