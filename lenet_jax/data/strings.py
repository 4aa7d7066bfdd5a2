"""Strings of digits, composed on the device from single ones, keyed as distortions are."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lenet_jax.data import distort
from lenet_jax.data.dataset import Dataset, Images
from lenet_jax.data.frames import SHAPE
from lenet_jax.experiment import Distortion, Strings

BLANK = 10  # the class of what is between digits
ABSENT = -1  # in a text, behind its end
INK = 64  # of 255: what counts as ink where gaps are measured
EDGE = 8  # pixels of paper beside a line, so that some window has its first digit in the middle
OFF = 2  # pixels by which what is centred may be off: half the way from window to window
NO_DIGIT = 0.25  # share of the centred examples that are of the blank class
REACH = 6  # pixels by which a stroke of another line reaches into this one
HELD_OUT = 0  # the key of validation and test strings
BLOCK = 100  # strings that are composed at a time for these

HEIGHT, SIDE = SHAPE


def compose(
    strings: Strings,
    ranges: Distortion,
    keys: jax.Array,
    digits: jax.Array,
    labels: jax.Array,
    first: jax.Array,
    sample: Callable[..., jax.Array] = distort.sample,
) -> tuple[jax.Array, jax.Array]:
    """A line for each key, whose first digit (or the centred one) is `first`, int32 [n].

    `strings` is a `Strings`, `ranges` a `Distortion` of each digit; digits uint8 [m, 28, 28] and
    their labels int32 [m]. Returns images float32 [n, 28, width] of 0 to 255 and texts int32 [n,
    longest], ABSENT behind their ends; of centred examples [n, 28, 28] and labels int32 [n].
    """
    whole = strings.examples == "whole"
    number, place = (strings.longest, _whole) if whole else (3, _centred)

    def one(key: jax.Array, first: jax.Array) -> tuple[jax.Array, jax.Array]:
        for_others, for_ink, for_line, for_strokes, for_noise = jax.random.split(key, 5)
        chosen = jax.random.randint(for_others, (number,), 0, len(labels)).at[0].set(first)
        ink = _written(strings, ranges, sample, for_ink, digits[chosen])
        line, text = place(strings, for_line, ink, labels[chosen])
        if whole and strings.strokes:
            line = _with_strokes(strings, for_strokes, line, digits)
        if ranges.inverted:
            inverted = jax.random.bernoulli(for_noise, ranges.inverted, line.shape)
            line = jnp.where(inverted, 255 - line, line)
        return line, text

    return jax.vmap(one)(keys, first)


def of(data: Dataset, strings: Strings, ranges: Distortion) -> Dataset:
    """A data set whose validation and test examples are strings of its own digits, always the same.

    Their digits are as they are in the set, only in one hand, and as noisy as those in training.
    The training examples stay digits: their strings are composed anew in each epoch.
    """
    return replace(
        data,
        validation=fixed(strings, ranges, data.validation),
        test=fixed(strings, ranges, data.test),
        classes=BLANK + 1,
    )


def fixed(
    strings: Strings, ranges: Distortion, digits: Images, number: int | None = None
) -> Images:
    """So many strings of some digits, by default one that each leads, by the key HELD_OUT.

    Of the `ranges` of a `Distortion` they have the noise alone.
    """
    number = len(digits) if number is None else number
    make = jax.jit(partial(compose, strings, Distortion(inverted=ranges.inverted)))
    images, labels = jnp.asarray(np.asarray(digits.images)), jnp.asarray(digits.labels)
    found = []
    for at in range(0, number, BLOCK):
        first = np.arange(at, at + BLOCK)
        keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(HELD_OUT)))(first)
        lines, texts = make(keys, images, labels, first % len(labels))
        found.append((np.asarray(jnp.round(lines)).astype(np.uint8), np.asarray(texts)))
    if not found:
        return Images(np.zeros((0, *strings.shape), np.uint8), np.zeros(0, np.int32))
    lines, texts = (np.concatenate(each)[:number] for each in zip(*found, strict=True))
    return Images(lines, texts)


def _whole(
    strings: Strings, key: jax.Array, ink: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The line of as many digits as are drawn and have room, and its text."""
    longest, room = strings.longest, strings.width - 2 * EDGE
    for_length, for_gaps, for_place = jax.random.split(key, 3)
    length = jax.random.randint(for_length, (), strings.shortest, longest + 1)
    left, right = _extent(ink)
    width = right - left
    gaps = jax.random.randint(for_gaps, (longest,), strings.gaps[0], strings.gaps[1] + 1)
    starts = jnp.cumsum(width + gaps) - (width + gaps)  # of the ink
    fits = (jnp.arange(longest) < length) & (starts + width <= room)
    fits = jnp.cumprod(fits).astype(bool)
    place, tilt = jax.random.uniform(for_place, (2,))
    spare = room - jnp.max(jnp.where(fits, starts + width, 0))
    starts += EDGE + jnp.floor(place * (spare + 1)).astype(jnp.int32)
    middle = jnp.sum(jnp.where(fits, starts, 0)) / fits.sum()
    down = jnp.round(strings.slope * (2 * tilt - 1) * (starts - middle)).astype(jnp.int32)
    line = _line(ink, starts - left, down, fits, strings.width)
    return line, jnp.where(fits, labels, ABSENT)


def _centred(
    strings: Strings, key: jax.Array, ink: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The first digit between the other two, or only these, and its label or BLANK."""
    for_gaps, for_place, for_blank = jax.random.split(key, 3)
    before, after = jax.random.randint(for_gaps, (2,), strings.gaps[0], strings.gaps[1] + 1)
    off = jax.random.randint(for_place, (), -OFF, OFF + 1)
    blank = jax.random.bernoulli(for_blank, NO_DIGIT)
    left, right = _extent(ink)
    width = jnp.where(blank, 0, right - left)
    # Without a digit in the middle its neighbours are as far apart as one gap.
    before = jnp.where(blank, before // 2, before)
    after = jnp.where(blank, after - after // 2, after)
    start = SIDE // 2 + off - width[0] // 2
    starts = jnp.stack([start, start - before - (right - left)[1], start + width[0] + after])
    shown = jnp.array([True, True, True]).at[0].set(~blank)
    line = _line(ink, starts - left, jnp.zeros(3, jnp.int32), shown, SIDE)
    return line, jnp.where(blank, BLANK, labels[0])


def _written(
    strings: Strings,
    ranges: Distortion,
    sample: Callable[..., jax.Array],
    key: jax.Array,
    digits: jax.Array,
) -> jax.Array:
    """Digits [n, 28, 28] in one hand, float32 of 0 to 255."""
    for_hand, for_each = jax.random.split(key)
    common, _ = distort.affine_map(strings.hand, for_hand)

    def one(key: jax.Array, digit: jax.Array) -> jax.Array:
        for_map, for_field = jax.random.split(key)
        matrix, shift = distort.affine_map(ranges, for_map)
        places = distort.moved(SHAPE, common @ matrix, shift)
        if ranges.elastic:
            places += distort.elastic_field(for_field, SHAPE, ranges.elastic, ranges.smoothness)
        return sample(digit.astype(jnp.float32), places)

    if not (strings.hand.moves or ranges.moves):
        return digits.astype(jnp.float32)
    return jax.vmap(one)(jax.random.split(for_each, len(digits)), digits)


def _extent(ink: jax.Array, axis: int = 1) -> tuple[jax.Array, jax.Array]:
    """Where the ink of images [n, 28, 28] begins and ends, int32 [n]: in columns, or along the rows
    with axis 2.
    """
    inked = ink.max(axis=axis) >= INK
    return jnp.argmax(inked, axis=1), SIDE - jnp.argmax(inked[:, ::-1], axis=1)


def _line(
    ink: jax.Array, left: jax.Array, down: jax.Array, shown: jax.Array, width: int
) -> jax.Array:
    """Images float32 [n, 28, 28] beside one another: their left edges at these columns of a line
    [28, width], so many rows down; where they meet the darker ink is seen.
    """
    border = SIDE
    high, wide = HEIGHT + 2 * border, width + 2 * border
    top = jnp.clip(down + border, 0, high - HEIGHT)
    left = jnp.clip(left + border, 0, wide - SIDE)

    def put(at: jax.Array, line: jax.Array) -> jax.Array:
        under = lax.dynamic_slice(line, (top[at], left[at]), SHAPE)
        over = jnp.where(shown[at], jnp.maximum(under, ink[at]), under)
        return lax.dynamic_update_slice(line, over, (top[at], left[at]))

    line = lax.fori_loop(0, len(ink), put, jnp.zeros((high, wide)))
    return line[border:-border, border:-border]


def _with_strokes(
    strings: Strings, key: jax.Array, line: jax.Array, digits: jax.Array
) -> jax.Array:
    """A line with ends of digits of the lines above and below it."""
    for_which, for_place, for_reach, for_each = jax.random.split(key, 4)
    ink = digits[jax.random.randint(for_which, (2,), 0, len(digits))].astype(jnp.float32)
    top, bottom = _extent(ink, axis=2)
    reach = jax.random.randint(for_reach, (2,), 1, REACH + 1)
    down = jnp.stack([reach[0] - bottom[0], HEIGHT - reach[1] - top[1]])
    left = jax.random.randint(for_place, (2,), 0, strings.width - SIDE)
    shown = jax.random.bernoulli(for_each, strings.strokes, (2,))
    return jnp.maximum(line, _line(ink, left, down, shown, strings.width))
