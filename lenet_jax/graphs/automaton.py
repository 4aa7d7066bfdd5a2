"""Automata whose paths are strings of classes, as arrays: character model and grammar in one.

A path enters one state after the other; the arc by which it enters a state carries the state's
class, whose score it collects. So the network's outputs, seen as a graph, and such an automaton
are composed by looking up scores (section VII: the character model transducer).
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from lenet_jax.graphs.languages import Language

NEVER = -1e30  # the log weight of what is not allowed; finite, so that gradients are


class Automaton(NamedTuple):
    """Log weights, 0 or NEVER, of where a path may begin, go on and end."""

    emits: Any  # int32 [states], the class of each
    starts: Any  # float32 [states]
    arcs: Any  # float32 [states, states], from a row to a column
    ends: Any  # float32 [states]


def spelled(text: Any, blank: int | None = None) -> Automaton:
    """The paths of one string, int32 [length], -1 behind its end; traced by jax.

    With a `blank` each digit may last and blanks may stand anywhere, and must between two of the
    same digit (connectionist temporal classification, Graves et al. 2006). Without one each arc is
    a digit. An empty string has no path of its own without a blank.
    """
    text = jnp.asarray(text)
    length = jnp.sum(text >= 0)
    if blank is None:
        states = np.arange(len(text))
        return Automaton(
            jnp.maximum(text, 0),
            _allowed(states == 0),
            _allowed(np.eye(len(text), k=1) > 0),
            _allowed(states == length - 1),
        )
    states = np.arange(2 * len(text) + 1)
    emits = jnp.full(len(states), blank).at[1::2].set(jnp.maximum(text, 0))
    start, end = states[:, None], states
    other = emits != jnp.roll(emits, 2)  # than two states before, as a blank never is
    skips = (end == start + 2) & other[None]
    return Automaton(
        emits,
        _allowed(states < 2),
        _allowed((end == start) | (end == start + 1) | skips),
        _allowed((states == 2 * length) | (states == 2 * length - 1)),
    )


def reading(language: Language, blank: int | None = None) -> Automaton:
    """The paths of every string of a language, in NumPy; digits as in `spelled`.

    Several paths may be the same string where the language has several ways to it.
    """
    digits = [(at, digit) for at, own in enumerate(language.reads) for digit in sorted(own)]
    blanks = [] if blank is None else [-1, *range(len(language.reads))]  # -1: before all
    position = np.array([at for at, _ in digits] + blanks, int)
    emits = np.array([digit for _, digit in digits] + [blank] * len(blanks), np.int32)
    is_blank = np.arange(len(emits)) >= len(digits)
    first, last = (
        np.isin(position, sorted(positions)) for positions in (language.first, language.last)
    )
    goes = np.zeros((len(language.reads) + 1,) * 2, bool)  # the last row: before all
    for at, after in enumerate([*language.follow, language.first]):
        goes[at, sorted(after)] = True
    arcs = goes[position][:, position] & ~is_blank
    starts, ends = first & ~is_blank, last.copy()
    if blank is not None:
        same = emits[:, None] == emits
        stays = position[:, None] == position
        arcs &= ~same  # the same digit again: after a blank
        arcs |= np.eye(len(emits), dtype=bool) | (stays & is_blank & ~is_blank[:, None])
        starts |= is_blank & (position < 0)
        ends |= (position < 0) & language.empty
    return Automaton(emits, *(np.asarray(_allowed(a)) for a in (starts, arcs, ends)))


def _allowed(condition: Any) -> Any:
    return jnp.where(condition, 0.0, NEVER).astype(jnp.float32)
