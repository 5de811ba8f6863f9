import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbsgd.ranks.agreement import differences, flatten

NAMES = st.text("abc", min_size=1, max_size=2)
LEAVES = st.none() | st.integers(0, 2) | st.text("x", max_size=1)
FLAT = st.dictionaries(NAMES, LEAVES, max_size=4)
NESTED = st.dictionaries(NAMES, LEAVES | st.dictionaries(NAMES, LEAVES, min_size=1, max_size=3), max_size=4)


@pytest.mark.parametrize(
    "nested, flat",
    [
        ({}, {}),
        ({"a": 1}, {"a": 1}),
        ({"a": {"b": {"c": 1}, "d": [2, 3]}, "e": None}, {"a.b.c": 1, "a.d": [2, 3], "e": None}),
    ],
)
def test_flatten_names_leaves_by_their_path(nested, flat):
    assert flatten(nested) == flat


@given(NESTED)
def test_flatten_loses_nothing(facts):
    rebuilt: dict = {}
    for path, leaf in flatten(facts).items():
        *tables, name = path.split(".")
        table = rebuilt
        for inner in tables:
            table = table.setdefault(inner, {})
        table[name] = leaf
    assert rebuilt == facts


@given(FLAT, st.integers(1, 5))
def test_equal_ranks_do_not_differ(facts, ranks):
    assert differences([(f"host{rank}", facts) for rank in range(ranks)]) == []


def test_a_difference_names_the_setting_both_values_ranks_and_hosts():
    everyone = [("alpha", {"momentum": 0.9}), ("alpha", {"momentum": 0.9}), ("beta", {"momentum": 0.8})]
    assert differences(everyone) == ["momentum is 0.9 on rank 0 (alpha) but 0.8 on rank 2 (beta)"]


def test_a_setting_that_only_one_rank_has_is_a_difference():
    everyone = [("a", {"versions.torch": "2.0"}), ("b", {"versions.keras": "3.0"})]
    assert differences(everyone) == [
        "versions.keras is '(absent)' on rank 0 (a) but '3.0' on rank 1 (b)",
        "versions.torch is '2.0' on rank 0 (a) but '(absent)' on rank 1 (b)",
    ]


@given(FLAT, FLAT)
def test_ranks_differ_exactly_when_their_facts_do(first, second):
    assert bool(differences([("a", first), ("b", second)])) == (first != second)
