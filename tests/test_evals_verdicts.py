"""Verdicts: what changes nothing is never blocked, and what is clearly worse always is."""

import subprocess
import sys
from collections import Counter
from random import Random

import pytest

from runner.evals.comparing import Compared, FieldOutcome
from runner.evals.scoring import Answer, DocumentScore, by_document
from runner.evals.verdicts import Floor, Judgement, Margins, Verdict, judge

MATCH, WRONG, _, INVENTED, ABSENT = FieldOutcome
FIELDS = ("number", "name", "day", "currency", "net", "tax", "total", "summary")
EMPTY = ("due", "note")


def run(*, rng: Random, noise: float, documents: int, repeats: int) -> dict[str, DocumentScore]:
    """An evaluation in which each field of each document goes wrong by chance, in each repeat."""
    return by_document(
        Answer(
            case_id=f"d{number}",
            repeat=repeat,
            fields=tuple(
                Compared(
                    field=field,
                    place=field,
                    outcome=bad if rng.random() < noise else good,
                    expected=None,
                    got=None,
                )
                for fields, good, bad in ((FIELDS, MATCH, WRONG), (EMPTY, ABSENT, INVENTED))
                for field in fields
            ),
        )
        for number in range(documents)
        for repeat in range(repeats)
    )


def judged(seed: int, *, noise: float, then: float, repeats: int) -> Judgement:
    rng = Random(seed)
    before = run(rng=rng, noise=noise, documents=50, repeats=repeats)
    after = run(rng=rng, noise=then, documents=50, repeats=repeats)
    return judge(after, before, seed=seed)


@pytest.mark.parametrize(("noise", "repeats"), [(0.05, 1), (0.03, 2), (0.01, 3)])
def test_a_prompt_that_changes_nothing_is_never_blocked(noise: float, repeats: int) -> None:
    verdicts = Counter(
        judged(seed, noise=noise, then=noise, repeats=repeats).verdict for seed in range(20)
    )
    assert verdicts[Verdict.BLOCK] == 0
    if repeats == 3:
        assert verdicts[Verdict.PASS] >= 18


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_clearly_worse_prompt_is_always_blocked(repeats: int) -> None:
    found = [judged(seed, noise=0.02, then=0.15, repeats=repeats) for seed in range(12)]
    assert {one.verdict for one in found} == {Verdict.BLOCK}
    assert all("went from" in one.reason for one in found)


def test_a_better_prompt_passes() -> None:
    found = judged(1, noise=0.15, then=0.02, repeats=1)
    assert found.verdict is Verdict.PASS
    assert found.reason.startswith("field accuracy is no worse")


def test_the_command_line_does_not_wait_for_mathematics_it_does_not_do() -> None:
    modules = ["comparing", "scoring", "statistics", "verdicts", "cusum"]
    program = f"""
import sys
from runner.evals import {", ".join(modules)}
sys.exit(bool({{"numpy", "scipy", "rapidfuzz"}} & sys.modules.keys()))
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# By given scores


def scored(
    *documents: float, exact: float | None = None, invented: float = 0.0, answered: float = 1.0
) -> dict[str, DocumentScore]:
    """Documents by their accuracy."""
    return {
        f"d{number}": DocumentScore(
            case_id=f"d{number}",
            repeats=1,
            answered=answered,
            exact=float(accuracy == 1) if exact is None else exact,
            accuracy=accuracy,
            invented=invented,
        )
        for number, accuracy in enumerate(documents)
    }


def test_equal_evaluations_pass_and_tell_the_smallest_difference_they_can_show() -> None:
    same = scored(*[1.0] * 40, *[0.8] * 10)
    found = judge(same, same)
    assert found.verdict is Verdict.PASS
    assert found.reason == "field accuracy is no worse, and 2.0 points are allowed"
    assert found.documents == 50
    assert found.smallest_difference == pytest.approx(0.15, abs=0.01)
    accuracy, exact, invented = found.differences
    assert accuracy.candidate == accuracy.baseline == pytest.approx(0.96)
    assert exact.candidate == pytest.approx(0.8)
    assert exact.p == 1.0
    assert accuracy.gain == exact.gain == invented.gain == 0


def test_one_field_that_every_document_loses_blocks_although_little_accuracy_is_lost() -> None:
    found = judge(scored(*[0.99] * 50), scored(*[1.0] * 50))
    assert found.verdict is Verdict.BLOCK
    assert (
        found.reason == "documents exact went from 100.0% to 0.0%, which is no chance (p < 0.0005)"
    )


def test_a_sure_loss_within_the_margin_does_not_block() -> None:
    before, after = scored(*[0.9] * 50), scored(*[0.89] * 50)
    assert judge(after, before).verdict is Verdict.PASS
    strict = judge(after, before, margins=Margins(accuracy=0.005))
    assert strict.verdict is Verdict.BLOCK
    assert strict.differences[0].margin == 0.005


def test_a_loss_that_may_be_chance_is_inconclusive() -> None:
    before, after = scored(*[1.0] * 50), scored(*[1.0] * 45, *[0.5] * 5)
    found = judge(after, before)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason.endswith("are allowed: 50 documents cannot tell")
    assert found.reason.startswith("field accuracy may be ")


def test_fewer_exact_documents_do_not_pass_even_within_the_margin_of_accuracy() -> None:
    before, after = scored(*[1.0] * 50), scored(*[1.0] * 42, *[0.99] * 8)
    found = judge(after, before)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason == (
        "documents exact went from 100.0% to 84.0%, which may or may not be chance (p 0.008)"
    )


def test_invented_values_block_and_are_in_doubt_by_the_same_rule() -> None:
    before = scored(*[0.95] * 50)
    worse = scored(*[0.95] * 50, invented=0.3)
    found = judge(worse, before)
    assert found.verdict is Verdict.BLOCK
    assert found.reason.startswith("invented values went from 0.0% to 30.0%")
    doubt = judge({**before, **scored(*[0.95] * 5, invented=1.0)}, before)
    assert doubt.verdict is Verdict.INCONCLUSIVE
    assert doubt.reason.startswith("invented values may be ")
    assert judge(before, worse).verdict is Verdict.PASS


def test_a_few_documents_cannot_pass_nor_block_against_a_baseline() -> None:
    right, wrong = scored(*[1.0] * 9), scored(*[0.0] * 9)
    for candidate, baseline in ((right, right), (wrong, right)):
        found = judge(candidate, baseline)
        assert found.verdict is Verdict.INCONCLUSIVE
        assert found.reason.startswith("9 documents are too few")


def test_other_documents_are_not_compared() -> None:
    with pytest.raises(ValueError, match="same documents"):
        judge(scored(1.0, 1.0), scored(1.0))


def test_the_same_seed_gives_the_same_judgement() -> None:
    assert judged(4, noise=0.05, then=0.06, repeats=2) == judged(
        4, noise=0.05, then=0.06, repeats=2
    )


# Without a baseline


def test_a_first_version_without_a_floor_passes_once_it_answers() -> None:
    found = judge(scored(0.2), None)
    assert (found.verdict, found.documents) == (Verdict.PASS, 1)
    assert found.reason.startswith("no baseline and no floor")
    silent = judge(scored(0.0, answered=0.0), None)
    assert (silent.verdict, silent.reason) == (
        Verdict.INCONCLUSIVE,
        "no document was answered",
    )
    assert judge({}, None).verdict is Verdict.INCONCLUSIVE
    assert judge({}, {}).verdict is Verdict.INCONCLUSIVE


def test_an_outage_of_both_is_no_pass() -> None:
    silent = scored(*[0.0] * 20, answered=0.0)
    assert judge(silent, silent).verdict is Verdict.INCONCLUSIVE
    assert judge(silent, scored(*[0.9] * 20)).verdict is Verdict.BLOCK


@pytest.mark.parametrize(
    ("floor", "verdict"),
    [
        (Floor(exact=0.65), Verdict.PASS),  # 40 of 50: 66 to 90 %
        (Floor(exact=0.75), Verdict.INCONCLUSIVE),
        (Floor(exact=0.95), Verdict.BLOCK),
        (Floor(accuracy=0.8), Verdict.PASS),
        (Floor(accuracy=0.9), Verdict.INCONCLUSIVE),
        (Floor(accuracy=0.99), Verdict.BLOCK),
        (Floor(accuracy=0.8, exact=0.95), Verdict.BLOCK),
        (Floor(accuracy=0.9, exact=0.65), Verdict.INCONCLUSIVE),
    ],
)
def test_a_floor_is_reached_by_the_whole_interval_or_in_doubt(
    floor: Floor, verdict: Verdict
) -> None:
    found = judge(scored(*[1.0] * 40, *[0.5] * 10), None, floor=floor)
    assert found.verdict is verdict
    assert found.reason.startswith("no baseline; ")
    assert {level.floor for level in found.levels} == {floor.accuracy, floor.exact} - {None}


def test_a_few_documents_do_not_reach_a_floor() -> None:
    found = judge(scored(*[1.0] * 5), None, floor=Floor(accuracy=0.9))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "5 documents are too few" in found.reason
