"""What the reader saw, step by step, as pictures and a table."""

from pathlib import Path
from typing import Any

import numpy as np

from lenet_jax.recognition.reader import Attempt

CHOSEN, OTHER, SMALL = "#0a7a2a", "#c0c0c0", "#d08000"  # colours of boxes


def write(folder: Path, tried: list[Attempt]) -> None:
    """Into a folder, numbered by attempt, the best first: the ink (what was taken for rules of the
    paper in red) with the boxes of all pieces, chosen ones in green; the 28x28 pixels that the
    network saw of each; a table of what each was taken for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, attempt in enumerate(tried, 1):
        _drawn(attempt).save(folder / f"{number}-ink.png")
        if attempt.predictions:
            _seen(attempt).save(folder / f"{number}-seen.png")
        (folder / f"{number}-pieces.txt").write_text(_table(attempt), encoding="utf-8")


def _drawn(attempt: Attempt) -> Any:
    from PIL import Image, ImageDraw

    every, kept = attempt.page.layers[0], attempt.page.layers[-1]
    levels = np.stack([1 - kept, 1 - every, 1 - every], axis=-1)
    image = Image.fromarray((255 * levels.clip(0, 1)).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    chosen = set(attempt.chosen)
    for piece in sorted(attempt.predictions, key=lambda piece: piece in chosen):
        draw.rectangle(piece.box, outline=CHOSEN if piece in chosen else OTHER, width=2)
    for box in attempt.page.small:
        draw.rectangle(box, outline=SMALL)
    return image


def _seen(attempt: Attempt, columns: int = 16, size: int = 84) -> Any:
    """The pieces in the order of the table, row by row; those that were not chosen are dim."""
    from PIL import Image

    rows = -(-len(attempt.predictions) // columns)
    sheet = Image.new("L", (columns * (size + 6), rows * (size + 6)), 90)
    for at, (piece, digit) in enumerate(attempt.predictions.items()):
        row, column = divmod(at, columns)
        shown = digit.image if piece in attempt.chosen else digit.image // 2
        tile = Image.fromarray(shown).resize((size, size), Image.Resampling.NEAREST)
        sheet.paste(tile, (column * (size + 6), row * (size + 6)))
    return sheet


def _table(attempt: Attempt) -> str:
    said = f"turned by {90 * attempt.turned} degrees, ink {'light' if attempt.light else 'dark'}, "
    said += f"belief {attempt.belief:g} of {len(attempt.chosen)}; a pixel of the ink is "
    lines = [said + f"{attempt.page.scale:.2f} of the picture", ""]
    lines.append("piece  box in the ink            taken for  confidence  score")
    for at, (piece, digit) in enumerate(attempt.predictions.items(), 1):
        mark = "chosen" if piece in attempt.chosen else ""
        box = ",".join(map(str, piece.box)) + (" of all ink" if piece.layer == 0 else "")
        lines.append(
            f"{at:5}  {box:24}  {digit.label:9}  {digit.confidence:10.3f}  {digit.score:6.1f}  "
            f"{'rejected ' if digit.rejected else ''}{mark}".rstrip()
        )
    lines += [f"left out: {sentence}" for sentence in attempt.page.left_out]
    return "\n".join(lines) + "\n"
