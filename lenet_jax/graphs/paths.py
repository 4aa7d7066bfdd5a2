"""Paths through a graph of scores along an automaton: the sum over all of them, and the best.

The graph has nodes 0 to `length`. The arcs that end in node t + 1 are `scores[t]`, float32 [spans,
classes]: one for each class from each of the nodes t, t - 1, ... In a space displacement network
the arcs go from each position to the next (spans 1, section VII); of a string that was cut into
pieces they are what pieces, one or more together, are taken for (section V).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from lenet_jax.graphs.automaton import NEVER, Automaton


def total(automaton: Automaton, scores: jax.Array, length: Any) -> jax.Array:
    """log sum exp of the scores of all paths to node `length` (the forward penalty, section VI).

    scores float32 [nodes, spans, classes] -> float32 []; below NEVER / 2 if there is no path.
    """
    return _swept(jax.nn.logsumexp, automaton, scores, length)


def highest(automaton: Automaton, scores: jax.Array, length: Any) -> jax.Array:
    """The score of the best path (the Viterbi penalty, section VI); else as `total`."""
    return _swept(jnp.max, automaton, scores, length)


def best(
    automaton: Automaton, scores: jax.Array, length: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The best path to node `length`: its score, float32 [], and for each node but the first the
    state that the path enters there and over how many nodes, int32 [nodes]; where it enters none
    both are -1 (Viterbi).
    """

    def step(ready: jax.Array, arriving: jax.Array) -> tuple[jax.Array, Any]:
        ways = ready + arriving[:, automaton.emits]
        span, reached = jnp.argmax(ways, axis=0), jnp.max(ways, axis=0)
        on = reached[:, None] + automaton.arcs
        before, after = jnp.argmax(on, axis=0), jnp.max(on, axis=0)
        return jnp.concatenate([after[None], ready[:-1]]), (reached, span, before)

    _, (reached, span, before) = lax.scan(step, _at_start(automaton, scores), scores)
    ends = reached[length - 1] + automaton.ends
    last = jnp.argmax(ends)

    def back(carry: tuple[jax.Array, jax.Array], node: Any) -> tuple[Any, Any]:
        state, due = carry  # the path enters `state` at node `due`
        here = node == due
        over = span[node, state] + 1
        start = node - over  # below 0 it comes from nowhere
        entered = jnp.where(here, state, -1), jnp.where(here, over, -1)
        return (
            (jnp.where(here, before[start, state], state), jnp.where(here, start, due)),
            entered,
        )

    begin = last, jnp.asarray(length) - 1
    _, (states, overs) = lax.scan(back, begin, jnp.arange(len(scores)), reverse=True)
    return ends[last], states, overs


def texts(scores: jax.Array, longest: int) -> jax.Array:
    """The strings on the best paths where anything may be read, int32 [n, longest] (`text`).

    scores [n, positions, classes], of which the last is blank.
    """
    blank = scores.shape[2] - 1
    return jax.vmap(lambda path: text(path, blank, longest))(jnp.argmax(scores, axis=2))


def text(classes: jax.Array, blank: int, longest: int) -> jax.Array:
    """The string of a path through classes int [positions]: without its blanks, and of what stays
    the same one. int32 [longest], -1 behind its end; of a longer string the beginning.
    """
    before = jnp.concatenate([jnp.full(1, blank, classes.dtype), classes[:-1]])
    read = (classes != before) & (classes != blank)
    places = jnp.where(read, jnp.cumsum(read) - 1, longest)
    return jnp.full(longest, -1, jnp.int32).at[places].set(classes.astype(jnp.int32), mode="drop")


def _swept(
    joined: Callable[..., jax.Array], automaton: Automaton, scores: jax.Array, length: Any
) -> jax.Array:
    def step(ready: jax.Array, arriving: jax.Array) -> tuple[jax.Array, jax.Array]:
        reached = joined(ready + arriving[:, automaton.emits], axis=0)
        after = joined(reached[:, None] + automaton.arcs, axis=0)
        return jnp.concatenate([after[None], ready[:-1]]), reached

    _, reached = lax.scan(step, _at_start(automaton, scores), scores)
    return joined(reached[length - 1] + automaton.ends)


def _at_start(automaton: Automaton, scores: jax.Array) -> jax.Array:
    """What a path has collected that is about to enter each state, from each of the last nodes."""
    starts = jnp.asarray(automaton.starts, scores.dtype)[None]
    nowhere = jnp.full((scores.shape[1] - 1, len(automaton.starts)), NEVER, scores.dtype)
    return jnp.concatenate([starts, nowhere])
