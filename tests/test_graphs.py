"""Languages of strings, automata and paths, against brute force and optax."""

import itertools
import re
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lenet_jax.errors import UserError
from lenet_jax.graphs import languages, paths
from lenet_jax.graphs.automaton import NEVER, reading, spelled

BLANK = 3
PATTERNS = (
    *("[0-9]{2}", "0|1*", "1(2|3)*4?", "(0|1)*1(0|1){2}", r"\d{1,3}", "(12|1)(2|22)?", "^5+$"),
    *("[^3]{2}|", "((1?2?){2}){2}", "1{0}2", "(1|2|12)+", "0*1*2*"),
)


def strings_of(language, longest):
    """By the definition of a `Language`."""
    found = {()} if language.empty else set()
    begun = {((digit,), at) for at in language.first for digit in language.reads[at]}
    for _ in range(longest):
        found |= {text for text, at in begun if at in language.last}
        begun = {
            ((*text, digit), after)
            for text, at in begun
            for after in language.follow[at]
            for digit in language.reads[after]
        }
    return {"".join(map(str, text)) for text in found}


def matched(pattern, longest=3):
    every = (s for n in range(longest + 1) for s in itertools.product("0123456789", repeat=n))
    return {text for text in map("".join, every) if re.fullmatch(pattern, text)}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_language_is_what_its_pattern_matches(pattern):
    wanted = matched(pattern)
    language = languages.matching(pattern)
    assert strings_of(language, 3) == wanted
    for text in [*sorted(wanted)[:2], *sorted(wanted)[-2:], "77"]:
        less = languages.without(language, list(map(int, text)))
        assert strings_of(less, 3) == wanted - {text}


def test_lengths_are_languages():
    assert strings_of(languages.of_length(2, 2), 3) == matched("[0-9]{2}")
    assert strings_of(languages.of_length(0, 1), 3) == matched("[0-9]?")
    assert strings_of(languages.anything(), 2) == matched("[0-9]*", 2)


@pytest.mark.parametrize(
    "pattern, said",
    [
        ("[0-9", "no regular expression"),
        ("3{2,1}", "no regular expression"),
        ("(?=1)2", "no regular expression"),
        ("[a-z]+", "no string of digits matches"),
        ("19-20", "no string of digits matches"),
        ("[0-9]{201}", "more than 200 positions"),
        ("[0-9]{20}" * 11, "more than 200 positions"),
        ("1" * 201, "201 characters, allowed are 200"),
    ],
)
def test_a_pattern_that_cannot_be_used_says_why(pattern, said):
    with pytest.raises(UserError, match=said):
        languages.matching(pattern)


def test_a_pattern_never_grows_out_of_hand():
    """Automata that are at one place at a time need 2**21 states for this."""
    began = time.process_time()
    assert len(languages.matching("(0|1)*1(0|1){20}").reads) == 43
    assert languages.matching("(){999999999}1").reads == (frozenset([1]),)
    assert time.process_time() - began < 5


# ---- paths


def every_path(scores, blank=None):
    """The scores of all paths of each string; scores float64 [nodes, spans, classes]."""
    nodes, spans, classes = scores.shape
    found: dict[tuple[int, ...], list[float]] = {}

    def go(node, total, text, last):
        if node == nodes:
            found.setdefault(text, []).append(total)
            return
        for span, label in itertools.product(range(spans), range(classes)):
            if node + span < nodes:
                new = label != blank and (blank is None or label != last)
                more = (*text, label) if new else text
                go(node + span + 1, total + scores[node + span, span, label], more, label)

    go(0, 0.0, (), None)
    return found


def drawn(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


TEXTS = [(), (1,), (1, 1), (0, 2, 1), (2, 2, 2), (0, 1, 2, 0, 1), (2, 2, 2, 2)]


@pytest.mark.parametrize("text", TEXTS)
def test_all_and_the_best_path_of_a_string(text):
    scores = drawn(0, 5, 1, BLANK + 1)
    found = every_path(scores, BLANK)
    filled = jnp.array([*text, *[-1] * (6 - len(text))], jnp.int32)
    graph, scores = spelled(filled, BLANK), jnp.asarray(scores, jnp.float32)
    sums = found.get(text, [])
    assert bool(sums) == (text != (2, 2, 2, 2))  # which needs seven positions
    if not sums:
        assert paths.total(graph, scores, 5) < NEVER / 2
        assert paths.highest(graph, scores, 5) < NEVER / 2
        return
    np.testing.assert_allclose(paths.total(graph, scores, 5), np.logaddexp.reduce(sums), rtol=1e-5)
    np.testing.assert_allclose(paths.highest(graph, scores, 5), max(sums), rtol=1e-5)


def test_a_string_of_pieces():
    scores = drawn(1, 4, 3, 3)
    found = every_path(scores)
    for text in ((2, 0), (1, 1, 1), (0, 1, 2, 0)):
        graph = spelled(jnp.array([*text, *[-1] * (5 - len(text))]))
        given = jnp.asarray(scores, jnp.float32)
        np.testing.assert_allclose(
            paths.total(graph, given, 4), np.logaddexp.reduce(found[text]), rtol=1e-5
        )
        np.testing.assert_allclose(paths.highest(graph, given, 4), max(found[text]), rtol=1e-5)


@pytest.mark.parametrize("pattern", ["[0-9]{2}", r"\d*", "1(2|0)*1?", "0?1?2?", "(0|01)(1|12)"])
@pytest.mark.parametrize("spans, blank", [(1, BLANK), (3, None)])
def test_the_best_string_of_a_pattern(pattern, spans, blank):
    scores = drawn(2, 5, spans, BLANK + 1)[..., : 3 if blank is None else 4]
    found = every_path(scores, blank)
    fits = {
        text: max(sums)
        for text, sums in found.items()
        if re.fullmatch(pattern, "".join(map(str, text)))
    }
    language = languages.matching(pattern)
    language = languages.Language(  # of the three digits that these scores know
        tuple(own & {0, 1, 2} for own in language.reads),
        *(language.first, language.follow, language.last, language.empty),
    )
    graph = reading(language, blank)
    given = jnp.asarray(scores, jnp.float32)
    score, states, overs = paths.best(graph, given, 5)
    np.testing.assert_allclose(score, max(fits.values()), rtol=1e-5)
    entered = np.flatnonzero(states >= 0)
    assert np.asarray(overs)[entered].sum() == 5 and (np.asarray(overs)[states < 0] == -1).all()
    np.testing.assert_allclose(  # the path that is told is the one whose score it is
        sum(scores[at, overs[at] - 1, graph.emits[states[at]]] for at in entered), score, rtol=1e-5
    )
    labels = np.asarray(graph.emits)[np.asarray(states)[entered]]
    text = tuple(labels) if blank is None else read(labels, blank)
    assert text == max(fits, key=lambda each: fits[each])


def read(labels, blank):
    changed = [label for label, _ in itertools.groupby(labels)]
    return tuple(int(label) for label in changed if label != blank)


def test_a_shorter_graph_in_a_longer_array():
    scores = jnp.asarray(drawn(3, 6, 1, 11), jnp.float32)
    graph = reading(languages.of_length(1, 3), 10)
    for of in (paths.total, paths.highest):
        np.testing.assert_allclose(of(graph, scores, 4), of(graph, scores[:4], 4), rtol=1e-6)
    whole, cut = paths.best(graph, scores, 4), paths.best(graph, scores[:4], 4)
    np.testing.assert_allclose(whole[0], cut[0], rtol=1e-6)
    np.testing.assert_array_equal(whole[1], [*cut[1], -1, -1])


def test_what_nothing_fits_has_no_path():
    scores = jnp.asarray(drawn(4, 4, 1, 11), jnp.float32)
    graph = reading(languages.of_length(5, 5), 10)
    assert paths.best(graph, scores, 4)[0] < NEVER / 2
    assert paths.total(graph, scores, 4) < NEVER / 2


def test_the_same_digit_twice_has_a_blank_between():
    scores = jnp.zeros((3, 1, 11))
    graph = reading(languages.matching("11"), 10)
    assert paths.best(graph, scores, 2)[0] < NEVER / 2
    score, states, _ = paths.best(graph, scores, 3)
    assert score == 0 and graph.emits[states].tolist() == [1, 10, 1]


def test_sharp_scores_leave_the_best_path_alone():
    scores = drawn(5, 6, 1, 11)
    graph = reading(languages.of_length(2, 3), 10)
    best = paths.highest(graph, jnp.asarray(scores, jnp.float32), 6)
    for sharper, near in ((1, 10), (100, 0.1)):
        total = paths.total(graph, jnp.asarray(sharper * scores, jnp.float32), 6) / sharper
        assert best - 1e-4 < total < best + near


def test_it_is_ctc_where_it_is():
    logits = jnp.asarray(drawn(6, 4, 9, 11), jnp.float32)
    texts = np.array([[1, 1, 2, -1], [3, -1, -1, -1], [-1] * 4, [0, 5, 0, 5]])
    expected = optax.ctc_loss(
        logits, np.zeros((4, 9)), np.maximum(texts, 0), (texts < 0).astype(float), blank_id=10
    )
    scores = jax.nn.log_softmax(logits)[:, :, None]
    found = [-paths.total(spelled(t, 10), s, 9) for t, s in zip(texts, scores, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_gradient_of_all_paths_is_what_differences_say():
    with jax.enable_x64(True):
        scores = jnp.asarray(drawn(7, 5, 2, 4))
        graph = spelled(jnp.array([1, 1, 0, -1]), None)

        def of(scores):
            return paths.total(graph, scores, 5)

        gradient, step = jax.grad(of)(scores), 1e-5
        for at in np.ndindex(scores.shape):
            more, less = (of(scores.at[at].add(way * step)) for way in (1, -1))
            np.testing.assert_allclose(gradient[at], (more - less) / (2 * step), atol=1e-8)
        best = np.asarray(jax.grad(lambda scores: paths.highest(graph, scores, 5))(scores))
    assert set(np.unique(best)) == {0.0, 1.0} and best.sum() == 3  # an arc for each digit


def test_the_text_of_a_path():
    for path, text in (
        ([3, 3, 3], [-1, -1]),
        ([1, 1, 3], [1, -1]),
        ([1, 3, 1], [1, 1]),
        ([0, 2, 1], [0, 2]),
        ([2, 2, 0], [2, 0]),
    ):
        np.testing.assert_array_equal(paths.text(jnp.array(path), 3, 2), text)
