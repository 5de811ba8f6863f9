"""`lbsgd recipe`: what it lists, shows, compares and begins."""

import json

import pytest
from click.testing import CliRunner

from lbsgd.cli import cli
from lbsgd.errors import UsageError
from lbsgd.policy.recipe import load_recipe, preset_names


def run(*arguments):
    return CliRunner().invoke(cli, ["recipe", *map(str, arguments)], catch_exceptions=False)


def test_the_list_has_every_preset_with_what_it_is_about():
    lines = run("list").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == preset_names()
    assert lines[3].endswith("The paper's own")
    assert all(10 < len(one["about"]) < 80 for one in json.loads(run("list", "--json").stdout))


def test_a_recipe_is_shown_as_it_was_written_resolved_and_as_json():
    assert run("show", "lars-mlperf-8k").stdout.startswith("# MLPerf training")
    resolved = run("show", "lars-mlperf-8k", "--resolved").stdout
    assert 'optimizer.kind = "lars"' in resolved and "images.size = 224" in resolved
    assert json.loads(run("show", "goyal2017", "--json").stdout) == load_recipe("goyal2017").model_dump(mode="json")


def test_a_comparison_has_only_what_differs():
    found = json.loads(run("diff", "goyal2017", "goyal2017-resnet101", "--json").stdout)
    assert found == {"name": ["goyal2017", "goyal2017-resnet101"], "model": ["resnet50", "resnet101"]}
    rows = [line.split() for line in run("diff", "goyal2017", "nvidia-resnet50").stdout.splitlines()]
    assert ["optimizer.momentum", "0.9", "0.875"] in rows
    assert run("diff", "demo", "demo").stdout == "the recipes are the same\n"


@pytest.mark.parametrize("base", preset_names())
def test_a_new_recipe_is_the_one_that_it_extends_until_something_is_changed(tmp_path, base):
    file = tmp_path / "mine.toml"
    assert "--recipe" in run("new", file, "--extends", base).stdout
    mine, original = (load_recipe(str(name)).model_dump(exclude={"name"}) for name in (file, base))
    assert mine == original
    file.write_text(file.read_text().replace("# epochs = ", "epochs = 1"))
    assert load_recipe(str(file)).epochs != load_recipe(base).epochs
    every_value = "\n".join(line.removeprefix("# ") for line in file.read_text().splitlines()[1:])
    file.write_text(every_value)
    assert load_recipe(str(file)).optimizer == load_recipe(base).optimizer


def test_nothing_is_overwritten(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("kept")
    for name, message in ((file, "exists; name a new file"), (tmp_path / "mine", "ends in .toml")):
        with pytest.raises(UsageError, match=message):
            run("new", name)
    assert file.read_text() == "kept"
