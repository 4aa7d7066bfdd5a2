"""The 7x12 bitmaps of Fig. 3: what the 84 units of F6 should say for each printable character."""

import string

import numpy as np

# Twelve rows from top to bottom, seven pixels each: bit 6 is the left column, a set bit is ink.
# The bar over 0, 2, 4 and 5 belongs to the figure; it is its mark for upper case.
BITMAPS = {
    " ": "00 00 00 00 00 00 00 00 00 00 00 00",
    "!": "0c 0c 0c 0c 0c 0c 0c 00 0c 0c 00 00",
    '"': "36 36 36 36 00 00 00 00 00 00 00 00",
    "#": "00 36 36 7f 7f 36 7f 7f 36 36 00 00",
    "$": "3e 14 14 3e 77 3c 1e 17 77 3e 14 00",
    "%": "73 53 76 0c 0c 18 18 37 65 67 00 00",
    "&": "3c 66 66 66 3c 3c 67 66 66 3f 00 00",
    "'": "1e 0e 0e 0c 18 00 00 00 00 00 00 00",
    "(": "03 06 04 0c 0c 0c 0c 0c 0c 04 06 03",
    ")": "30 18 08 0c 0c 0c 0c 0c 0c 08 18 30",
    "*": "00 08 6b 3e 1c 77 1c 3e 6b 08 00 00",
    "+": "00 00 0c 0c 3f 3f 0c 0c 00 00 00 00",
    ",": "00 00 00 00 00 00 1e 0e 0e 0c 18 00",
    "-": "00 00 00 00 7f 7f 00 00 00 00 00 00",
    ".": "00 00 00 00 00 00 00 0c 1e 0c 00 00",
    "/": "00 03 07 0e 0c 0c 0c 0c 1c 38 30 00",
    "0": "3e 00 1c 36 63 63 63 63 36 1c 00 00",
    "1": "0c 1c 3c 0c 0c 0c 0c 0c 0c 3f 00 00",
    "2": "3e 00 3e 63 43 06 1c 30 60 7f 00 00",
    "3": "7f 03 06 0c 1e 03 03 03 63 3e 00 00",
    "4": "3e 00 00 33 33 73 63 63 67 3f 03 03",
    "5": "3e 00 7f 60 60 3c 1e 03 63 3e 00 00",
    "6": "1e 30 60 60 7e 73 63 63 73 3e 00 00",
    "7": "7f 03 03 06 0c 0c 18 18 18 18 00 00",
    "8": "3e 63 63 63 3e 63 63 63 63 3e 00 00",
    "9": "3e 67 63 63 67 3f 03 03 06 3c 00 00",
    ":": "00 00 0c 1e 0c 00 00 0c 1e 0c 00 00",
    ";": "00 00 0c 1e 0c 00 1e 0e 0e 0c 18 00",
    "<": "00 03 06 0c 18 30 18 0c 06 03 00 00",
    "=": "00 00 00 3f 3f 00 00 3f 3f 00 00 00",
    ">": "00 30 18 0c 06 03 06 0c 18 30 00 00",
    "?": "3e 63 63 03 06 0c 0c 00 0c 0c 00 00",
    "@": "00 3e 7f 67 6f 69 69 6f 70 3f 00 00",
    "A": "3e 22 63 63 7f 63 63 63 63 63 00 00",
    "B": "3e 60 60 7e 73 63 63 63 73 7e 00 00",
    "C": "3e 00 00 3f 70 60 60 60 70 3f 00 00",
    "D": "3f 03 03 3f 67 63 63 63 67 3f 00 00",
    "E": "7f 61 60 60 7c 60 60 60 61 7f 00 00",
    "F": "3e 3f 30 30 30 7e 30 30 30 30 00 00",
    "G": "3e 00 00 3f 60 6c 6f 6d 61 3f 00 00",
    "H": "63 63 63 63 7f 63 63 63 63 63 00 00",
    "I": "1e 0c 0c 0c 0c 0c 0c 0c 0c 1e 00 00",
    "J": "3e 0c 0c 00 1c 0c 0c 0c 0c 6c 6e 7e",
    "K": "7e 60 60 66 6c 78 78 6c 66 63 00 00",
    "L": "60 60 60 60 60 60 60 60 61 7f 00 00",
    "M": "3e 00 00 36 7f 6b 6b 63 63 63 00 00",
    "N": "3e 00 00 7e 73 63 63 63 63 63 00 00",
    "O": "3e 00 00 3e 63 63 63 63 63 3e 00 00",
    "P": "3e 00 00 7e 73 63 63 63 73 7e 60 60",
    "Q": "3e 00 00 3f 67 63 63 63 67 3f 03 03",
    "R": "7e 63 63 63 7e 7c 66 66 63 63 00 00",
    "S": "3e 00 00 3e 63 3c 1e 03 63 3e 00 00",
    "T": "7f 0c 0c 0c 0c 0c 0c 0c 0c 0c 00 00",
    "U": "3e 00 00 63 63 63 63 63 67 3f 00 00",
    "V": "3e 00 00 63 63 63 63 36 36 1c 08 00",
    "W": "3e 00 00 63 63 63 6b 6b 7f 36 00 00",
    "X": "3e 00 00 63 63 3e 1c 3e 63 63 00 00",
    "Y": "3e 00 00 63 63 63 63 67 3f 03 63 3e",
    "Z": "3e 00 00 7f 06 0c 18 30 60 7f 00 00",
    "[": "0f 0c 0c 0c 0c 0c 0c 0c 0c 0c 0f 00",
    "\\": "00 30 38 1c 0c 0c 0c 0c 0e 07 03 00",
    "]": "3c 0c 0c 0c 0c 0c 0c 0c 0c 0c 3c 00",
    "^": "08 1c 36 63 00 00 00 00 00 00 00 00",
    "_": "00 00 00 00 00 00 00 00 00 00 7f 00",
    "`": "1e 1c 1c 0c 06 00 00 00 00 00 00 00",
    "a": "00 00 00 3e 03 3f 63 63 67 3f 00 00",
    "b": "60 60 60 7e 73 63 63 63 73 7e 00 00",
    "c": "00 00 00 3f 70 60 60 60 70 3f 00 00",
    "d": "03 03 03 3f 67 63 63 63 67 3f 00 00",
    "e": "00 00 00 3e 63 63 7f 60 63 3e 00 00",
    "f": "1e 33 30 30 30 7e 30 30 30 30 00 00",
    "g": "00 00 00 3e 67 63 63 67 3f 03 63 3e",
    "h": "60 60 60 7e 73 63 63 63 63 63 00 00",
    "i": "00 0c 0c 00 1c 0c 0c 0c 0c 1e 00 00",
    "j": "00 0c 0c 00 1c 0c 0c 0c 0c 6c 6e 7e",
    "k": "60 60 60 66 6c 78 78 6c 66 63 00 00",
    "l": "1c 0c 0c 0c 0c 0c 0c 0c 0c 1e 00 00",
    "m": "00 00 00 36 7f 6b 6b 63 63 63 00 00",
    "n": "00 00 00 7e 73 63 63 63 63 63 00 00",
    "o": "00 00 00 3e 63 63 63 63 63 3e 00 00",
    "p": "00 00 00 7e 73 63 63 63 73 7e 60 60",
    "q": "00 00 00 3f 67 63 63 63 67 3f 03 03",
    "r": "00 00 00 7e 73 60 60 60 60 60 00 00",
    "s": "00 00 00 3e 63 3c 1e 03 63 3e 00 00",
    "t": "30 30 30 30 7f 30 30 30 37 1e 00 00",
    "u": "00 00 00 63 63 63 63 63 67 3f 00 00",
    "v": "00 00 00 63 63 63 63 36 36 1c 08 00",
    "w": "00 00 00 63 63 63 6b 6b 7f 36 00 00",
    "x": "00 00 00 63 63 3e 1c 3e 63 63 00 00",
    "y": "00 00 00 63 63 63 63 67 3f 03 63 3e",
    "z": "00 00 00 7f 06 0c 18 30 60 7f 00 00",
    "{": "03 06 0c 0c 06 1c 1c 06 0c 0c 06 03",
    "|": "00 0c 0c 0c 0c 0c 0c 0c 0c 0c 0c 00",
    "}": "30 18 0c 0c 18 0e 0e 18 0c 0c 18 30",
    "~": "00 39 7f 4e 00 00 00 00 00 00 00 00",
}


# The classes of a data set in their order have the codes of these, as EMNIST has its own.
CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase


def codes(characters: str = "0123456789") -> np.ndarray:
    """The target states of F6, one row for each character.

    Returns float32 [characters, 84], row by row through the bitmap, +1 for ink and -1 for
    background (section II-B, Fig. 3).
    Raises ValueError for a character that the figure does not have.
    """
    unknown = sorted(set(characters) - set(BITMAPS))
    if unknown:
        raise ValueError(
            f"no code for {unknown}: Fig. 3 has the printable ASCII characters, space to ~"
        )
    rows = np.array([list(bytes.fromhex(BITMAPS[c])) for c in characters], dtype=np.uint8)
    pixels = np.unpackbits(rows[:, :, None], axis=2)[:, :, 1:]  # a byte's top bit is no pixel
    return (2.0 * pixels.reshape(len(characters), 84) - 1.0).astype(np.float32)
