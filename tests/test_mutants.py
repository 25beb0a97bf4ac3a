"""The planted bugs still fit the source, name tests that exist, and one of them is caught."""

from pathlib import Path

import pytest

from scripts.campaign.mutants import ROOT, Mutant, read_mutants, try_mutant

MUTANTS = read_mutants()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_planted_bug_fits_the_source_and_names_tests_that_exist(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert mutant.planted(text) != text
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert f"def {name}" in Path(ROOT / file).read_text(encoding="utf-8")


def test_there_are_enough_of_them_and_each_says_what_it_harms() -> None:
    assert len(MUTANTS) >= 15
    assert all(mutant.harm for mutant in MUTANTS)


def test_a_planted_bug_is_caught_and_a_change_without_effect_is_not() -> None:
    caught = next(one for one in MUTANTS if one.name == "ambiguous-call-is-free")
    assert try_mutant(caught).caught
    harmless = Mutant("none", "none", caught.file, caught.old, f"{caught.old}  # so", caught.tests)
    assert not try_mutant(harmless).caught
