"""Scores: counts by field, by repeat and by document, and what the rates make of them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.evals.comparing import Compared, FieldOutcome
from runner.evals.scoring import Answer, Tally, by_document, score, scores, tally
from runner.evals.statistics import clopper_pearson

OUTCOMES = {outcome.value[0]: outcome for outcome in FieldOutcome}


def leaves(**fields: str) -> tuple[Compared, ...]:
    """Leaves by field, each outcome by its first letter: name="mmw"."""
    return tuple(
        Compared(field=name, place=name, outcome=OUTCOMES[letter], expected=None, got=None)
        for name, letters in fields.items()
        for letter in letters
    )


# match and missed begin alike
OUTCOMES["m"], OUTCOMES["n"] = FieldOutcome.MATCH, FieldOutcome.MISSED


def answer(case_id: str, *, repeat: int = 0, answered: bool = True, **fields: str) -> Answer:
    return Answer(case_id=case_id, repeat=repeat, answered=answered, fields=leaves(**fields))


def test_a_wrong_value_counts_against_precision_and_recall() -> None:
    counted = tally(leaves(name="mmmmmmwwniiiaaaaaaa"))
    assert counted == Tally(match=6, wrong=2, missed=1, invented=3, absent=7)
    assert counted.precision == 6 / 11
    assert counted.recall == 6 / 9
    assert counted.f1 == pytest.approx(2 / (11 / 6 + 9 / 6))
    assert counted.accuracy == 6 / 12
    assert counted.invented_rate == 3 / 10


def test_a_rate_of_nothing_is_none() -> None:
    nothing = Tally(absent=4)
    assert (nothing.precision, nothing.recall, nothing.f1, nothing.accuracy) == (None,) * 4
    assert nothing.invented_rate == 0
    assert Tally(match=1).invented_rate is None


@given(st.tuples(*[st.integers(0, 50)] * 5))
def test_f1_is_the_harmonic_mean_wherever_there_is_one(counts: tuple[int, ...]) -> None:
    one = Tally(
        **dict(zip(("match", "wrong", "missed", "invented", "absent"), counts, strict=True))
    )
    if one.precision and one.recall:
        assert one.f1 == pytest.approx(2 / (1 / one.precision + 1 / one.recall))


def test_fields_are_counted_apart_and_together_in_their_order() -> None:
    found = score([answer("a", name="m", amount="mw"), answer("b", name="n", amount="mi")])
    assert list(found.fields) == ["name", "amount"]
    assert found.fields["name"] == Tally(match=1, missed=1)
    assert found.fields["amount"] == Tally(match=2, wrong=1, invented=1)
    assert found.total == Tally(match=3, wrong=1, missed=1, invented=1)


def test_a_document_is_exact_when_every_leaf_is_right_and_it_has_a_record() -> None:
    found = score(
        [
            answer("right", name="m", amount="a"),
            answer("wrong", name="mw"),
            answer("dead with nothing to find", answered=False, name="a"),
            answer("nothing to find", name="a"),
        ]
    )
    assert (found.documents, found.answers, found.answered) == (4, 4, 3)
    assert found.exact == clopper_pearson(2, 4)


def test_repeats_make_no_interval_narrower() -> None:
    once = [answer(f"d{n}", name="m" if n < 8 else "w") for n in range(10)]
    thrice = [
        answer(one.case_id, repeat=repeat, name="m" if one.is_exact else "w")
        for repeat in range(3)
        for one in once
    ]
    found = scores(thrice)
    assert found.together.exact == score(once).exact == clopper_pearson(8, 10)
    assert found.together.answers == 30
    assert found.together.documents == 10
    assert list(found.repeats) == [0, 1, 2]
    assert found.repeats[1].exact == clopper_pearson(8, 10)


def test_a_document_that_is_exact_in_some_repeats_counts_for_a_share() -> None:
    runs = [answer("d", repeat=n, name=letter) for n, letter in enumerate("mmw")]
    others = [answer(f"e{n}", name="w") for n in range(3)]
    assert score([*runs, *others]).exact.estimate == pytest.approx((2 / 3) / 4)
    (first, *_) = by_document(runs).values()
    assert (first.repeats, first.exact, first.accuracy) == (3, *[pytest.approx(2 / 3)] * 2)


@pytest.mark.parametrize(
    ("made", "accuracy", "invented", "answered"),
    [
        (answer("d", name="mmmw", amount="ia"), 3 / 5, 1 / 2, 1),
        (answer("d", name="aaa"), 1.0, 0.0, 1),  # nothing to find, nothing found
        (answer("d", answered=False, name="aaa"), 0.0, 0.0, 0),
        (answer("d", answered=False, name="nna"), 0.0, 0.0, 0),
        (answer("d", name="mm"), 1.0, 0.0, 1),  # no place to leave empty
    ],
)
def test_a_document_has_an_accuracy_and_a_share_of_invented_values(
    made: Answer, accuracy: float, invented: float, answered: float
) -> None:
    (found,) = by_document([made]).values()
    assert found.accuracy == pytest.approx(accuracy)
    assert (found.invented, found.answered) == (invented, answered)


def test_no_answers_have_an_empty_score() -> None:
    found = scores([])
    assert (found.together.documents, found.together.exact.estimate) == (0, None)
    assert found.repeats == {}
    assert by_document([]) == {}


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.text("mwnia", max_size=4)),
        max_size=12,
    )
)
def test_repeats_and_fields_add_up_to_the_whole(runs: list[tuple[str, int, str]]) -> None:
    answers = [
        answer(case, repeat=repeat, one=letters, other=letters[:1])
        for case, repeat, letters in runs
    ]
    found = scores(answers)
    whole: Any = found.together.total
    for outcome in FieldOutcome:
        name = outcome.value
        assert getattr(whole, name) == sum(getattr(t, name) for t in found.together.fields.values())
        assert getattr(whole, name) == sum(getattr(s.total, name) for s in found.repeats.values())
