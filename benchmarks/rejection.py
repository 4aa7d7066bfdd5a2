"""What the rubbish class and the difference of the two best scores reject of held-out digits.

    python -m benchmarks.rejection FOLDER...

Each folder is that of a run that held patterns out (`reproduce` trains one for each pretrained
network). Writes results/rejection.json; its thresholds are those of the cards.
"""

import argparse
import math
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def measured(folder: Path) -> dict[str, Any]:
    """Of a run's held-out patterns: misses, what is rejected by which rule, and what is left."""
    from lenet_jax.analysis import rejection
    from lenet_jax.data import dataset
    from lenet_jax.recognition import network
    from lenet_jax.recognition.predictor import predictor
    from lenet_jax.training.config import from_json

    trained = network.load(str(folder))
    experiment = from_json(trained.card["config"])
    held_out = dataset.load(**vars(experiment.data)).validation
    scores = predictor(trained.module, trained.params)(held_out.images)
    wrong = scores.argmax(axis=1) != held_out.labels
    j = trained.card["config"]["loss"].get("j", math.inf)
    rubbish, margins = rejection.rubbish(scores, j), rejection.margins(scores)
    below = rejection.threshold(margins[~rubbish], wrong[~rubbish])
    silent = rubbish | (margins < below)
    return {
        "dataset": trained.card["dataset"],
        "updates": trained.card["updates"],
        "held_out": len(wrong),
        "misses": int(wrong.sum()),
        "j": j if math.isfinite(j) else None,
        "rejected_by_the_rubbish_class": int(rubbish.sum()),
        "of_these_missed": int((rubbish & wrong).sum()),
        "reject_below": below if math.isfinite(below) else None,
        "rejected": int(silent.sum()),
        "misses_not_rejected": int((wrong & ~silent).sum()),
        "error_percent_of_the_rest": round(100 * float(wrong[~silent].mean()), 4),
        "rejected_percent_for_half_percent_error_by_the_difference_alone": rejection.needed(
            margins, wrong
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.rejection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    given = parser.parse_args()

    from lenet_jax import commandline

    commandline.set_up_jax()
    from lenet_jax.analysis import results

    record = {
        "command": "python -m benchmarks.rejection "
        + " ".join(folder.name for folder in given.folders),
        "networks": {folder.name: measured(folder) for folder in given.folders},
        "hardware": results.hardware(),
        "commit": results.commit(),
    }
    results.write(ROOT / "results" / "rejection.json", record)


if __name__ == "__main__":
    main()
