"""Which strings of digits there may be: by a regular expression, or by their number."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from lenet_jax.errors import UserError

POSITIONS = 200  # of a pattern: its digits and classes, each as often as it may be repeated
CHARACTERS = 200  # of a pattern's text
EXAMPLES = "for example: [0-9]{5}, or 19\\d\\d|20\\d\\d"


@dataclass(frozen=True)
class Language:
    """A set of strings of digits, by the positions of its pattern (Glushkov 1961).

    The string that is read at positions p, q, ..., r is in it if p is a `first`, each is in the
    `follow` of the one before it, and r is a `last`; `reads` are the digits of each position.
    `empty` says whether the empty string is in it. So it is no longer than its pattern; an
    automaton that is never in two places at once may be exponentially longer.
    """

    reads: tuple[frozenset[int], ...]
    first: frozenset[int]
    follow: tuple[frozenset[int], ...]
    last: frozenset[int]
    empty: bool


NOTHING = Language((), frozenset(), (), frozenset(), True)  # but the empty string


def matching(pattern: str) -> Language:
    """The strings of digits that a regular expression matches, as a whole.

    Raises UserError for what is no regular expression or a very large one, and for one that no
    string of digits matches.
    """
    from greenery import parse

    if len(pattern) > CHARACTERS:
        raise UserError(
            f"the pattern has {len(pattern)} characters, allowed are {CHARACTERS}. Give a shorter "
            f"one ({EXAMPLES})"
        )
    try:
        tree = parse(pattern.removeprefix("^").removesuffix("$"))
    except Exception as error:  # NoMatch, or whatever its parser comes upon
        raise UserError(
            f"{pattern!r} is no regular expression that is understood: characters, classes, groups "
            f"and repetitions are. Give another pattern ({EXAMPLES})"
        ) from error
    found = _trimmed(_alternatives(tree))
    if not (found.empty or found.last):
        raise UserError(
            f"no string of digits matches {pattern!r}. Give a pattern of digits alone ({EXAMPLES})"
        )
    return found


def of_length(shortest: int, longest: int) -> Language:
    """All strings of so many digits."""
    return _repeated(_one(range(10)), shortest, longest)


def anything() -> Language:
    """All strings of digits."""
    return _repeated(_one(range(10)), 0, None)


def without(language: Language, text: Sequence[int]) -> Language:
    """A language less one of its strings."""
    ends = len(text)
    apart = ends + 1  # how many digits are as in the text; or apart: one was not, or it went on

    def after(matched: int, digit: int) -> int:
        return matched + 1 if matched < ends and text[matched] == digit else apart

    # A position for each digit: two that are read at one may agree with the text or not.
    single = [(at, digit) for at, own in enumerate(language.reads) for digit in sorted(own)]
    places = [(*one, matched) for one in single for matched in range(1, ends + 2)]
    number = {place: n for n, place in enumerate(places)}

    def reached(positions: Iterable[int], matched: int) -> frozenset[int]:
        return frozenset(
            number[at, digit, after(matched, digit)]
            for at in positions
            for digit in language.reads[at]
        )

    return _trimmed(
        Language(
            tuple(frozenset([digit]) for _, digit, _ in places),
            reached(language.first, 0),
            tuple(reached(language.follow[at], matched) for at, _, matched in places),
            frozenset(
                n
                for (at, _, matched), n in number.items()
                if at in language.last and matched != ends
            ),
            language.empty and ends > 0,
        )
    )


def _one(digits: Iterable[int]) -> Language:
    here = frozenset([0])
    return Language((frozenset(digits),), here, (frozenset(),), here, False)


def _alternatives(tree: Any) -> Language:
    parts = sorted(tree.concs, key=str)  # a set, in another order each time
    return reduce(_either, [_sequence(part) for part in parts])


def _sequence(part: Any) -> Language:
    return reduce(_then, [_times(each) for each in part.mults], NOTHING)


def _times(each: Any) -> Language:
    if hasattr(each.multiplicand, "concs"):  # in brackets
        base = _alternatives(each.multiplicand)
    else:
        base = _one(d for d in range(10) if each.multiplicand.accepts(str(d)))
    least, most = each.multiplier.min.v, each.multiplier.max.v
    return _repeated(base, least, most)


def _repeated(base: Language, least: int, most: int | None) -> Language:
    if not base.reads:
        return NOTHING  # however often
    copies = max(1, least) if most is None else most
    optional = replace(base, empty=True)
    found = reduce(_then, (base if n < least else optional for n in range(copies)), NOTHING)
    if most is None:
        # The last copy may go on.
        own = range(len(found.reads) - len(base.reads), len(found.reads))
        first = {own[at] for at in base.first}
        follow = [
            after | first if at in own and at in found.last else after
            for at, after in enumerate(found.follow)
        ]
        found = replace(found, follow=tuple(follow))
    return found


def _either(one: Language, other: Language) -> Language:
    moved = _moved(other, len(one.reads))
    return Language(
        one.reads + moved.reads,
        one.first | moved.first,
        one.follow + moved.follow,
        one.last | moved.last,
        one.empty or other.empty,
    )


def _then(one: Language, other: Language) -> Language:
    if len(one.reads) + len(other.reads) > POSITIONS:
        raise UserError(
            f"the pattern has more than {POSITIONS} positions, each digit or class as often as it "
            "may be repeated. Give one for shorter strings"
        )
    moved = _moved(other, len(one.reads))
    follow = [
        after | moved.first if at in one.last else after for at, after in enumerate(one.follow)
    ]
    return Language(
        one.reads + moved.reads,
        one.first | moved.first if one.empty else one.first,
        (*follow, *moved.follow),
        one.last | moved.last if other.empty else moved.last,
        one.empty and other.empty,
    )


def _moved(language: Language, by: int) -> Language:
    def move(positions: frozenset[int]) -> frozenset[int]:
        return frozenset(at + by for at in positions)

    first, last = move(language.first), move(language.last)
    follow = tuple(move(after) for after in language.follow)
    return Language(language.reads, first, follow, last, language.empty)


def _trimmed(language: Language) -> Language:
    """The same without positions that are on no way from a first to a last one."""
    readable = {at for at, own in enumerate(language.reads) if own}

    def reachable(starts: Iterable[int], arcs: dict[int, set[int]]) -> set[int]:
        found, left = set(), [at for at in starts if at in readable]
        while left:
            at = left.pop()
            if at not in found:
                found.add(at)
                left += [to for to in arcs[at] if to in readable]
        return found

    ahead = {at: set(after) for at, after in enumerate(language.follow)}
    back: dict[int, set[int]] = {at: set() for at in ahead}
    for at, after in ahead.items():
        for to in after:
            back[to].add(at)
    kept = sorted(reachable(language.first, ahead) & reachable(language.last, back))
    number = {at: n for n, at in enumerate(kept)}

    def renamed(positions: Iterable[int]) -> frozenset[int]:
        return frozenset(number[at] for at in positions if at in number)

    return Language(
        tuple(language.reads[at] for at in kept),
        renamed(language.first),
        tuple(renamed(language.follow[at]) for at in kept),
        renamed(language.last),
        language.empty,
    )
