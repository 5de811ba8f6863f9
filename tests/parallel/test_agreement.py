"""`together` and `require_agreement` between real ranks: all leave, with one code, and one of them says why."""

import json
import sys

import pytest

PROGRAM = """
import json, pathlib, sys
from lbsgd.ranks.agreement import FailedElsewhere, require_agreement, together
from lbsgd.errors import DataError, LbsgdError, UsageError
from lbsgd.ranks.world import connect

world = connect()
def fail_on(*ranks, error=DataError):
    def action():
        if world.rank in ranks:
            raise error(f"rank {world.rank} cannot")
        return world.rank * 10
    return action

CASES = {
    "all succeed": lambda: together(world, fail_on()),
    "one fails": lambda: together(world, fail_on(1)),
    "two fail": lambda: together(world, fail_on(1, 2, error=UsageError)),
    "all fail": lambda: together(world, fail_on(0, 1, 2)),
    "agree": lambda: require_agreement(world, {"recipe": {"seed": 3}}),
    "disagree": lambda: require_agreement(world, {"recipe": {"seed": world.rank // 2}, "stop": 5}),
    "disagree widely": lambda: require_agreement(world, {str(key): world.rank for key in range(9)}),
}
outcomes = {}
for name, case in CASES.items():
    try:
        outcomes[name] = case()
    except LbsgdError as error:
        outcomes[name] = [type(error).__name__, error.exit_code, str(error)]
everyone = world.gather(outcomes)
if world.is_first:
    pathlib.Path(sys.argv[1]).write_text(json.dumps({name: [one[name] for one in everyone] for name in CASES}))
"""
ELSEWHERE = "FailedElsewhere"


@pytest.fixture(scope="module")
def outcomes(start, finish, tmp_path_factory) -> dict[str, list]:
    """What each of three ranks got, by case."""
    folder = tmp_path_factory.mktemp("agreement")
    (folder / "program.py").write_text(PROGRAM)
    mpirun = ["--allow-run-as-root", "--oversubscribe", "-np", 3, sys.executable, folder / "program.py", folder / "out.json"]
    result = finish(start(*mpirun, script="mpirun"))
    assert result.code == 0, result.stderr
    return json.loads((folder / "out.json").read_text())


def test_what_succeeds_everywhere_gives_each_rank_its_own_result(outcomes):
    assert outcomes["all succeed"] == [0, 10, 20]
    assert outcomes["agree"] == [None, None, None]


def test_what_fails_on_one_rank_fails_on_all_with_its_code(outcomes):
    first, second, third = outcomes["one fails"]
    assert first[:2] == third[:2] == [ELSEWHERE, 4]
    assert second[:2] == ["DataError", 4]
    assert second[2].startswith("rank 1 on ")
    assert second[2].endswith(": rank 1 cannot")


def test_of_several_that_fail_the_first_speaks(outcomes):
    assert [name for name, _, _ in outcomes["two fail"]] == [ELSEWHERE, "UsageError", ELSEWHERE]
    assert {code for _, code, _ in outcomes["two fail"]} == {2}


def test_what_fails_on_all_is_said_without_naming_a_rank(outcomes):
    assert outcomes["all fail"][0] == ["DataError", 4, "rank 0 cannot"]
    assert [name for name, _, _ in outcomes["all fail"][1:]] == [ELSEWHERE, ELSEWHERE]


def test_a_disagreement_is_said_by_rank_0_with_the_rank_that_differs(outcomes):
    first, *others = outcomes["disagree"]
    assert first[:2] == ["EnvironmentNotReady", 3]
    assert "recipe.seed is 0 on rank 0 (" in first[2]
    assert "but 1 on rank 2 (" in first[2]
    assert "rank 1" not in first[2]
    assert "stop" not in first[2]
    assert [outcome[:2] for outcome in others] == [[ELSEWHERE, 3]] * 2


def test_of_many_differences_five_are_said(outcomes):
    text = outcomes["disagree widely"][0][2]
    assert text.count(" but ") == 5
    assert "; and 13 more;" in text
