"""Recipes: the presets, overrides, and one line for everything that is wrong."""

import json

import pytest
from pydantic import ValidationError

from lbsgd.errors import UsageError
from lbsgd.policy.recipe import Recipe, load_recipe, preset_names


@pytest.fixture
def recipe_file(tmp_path):
    def write(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return str(path)

    return write


def test_goyal2017_is_the_paper():
    recipe = load_recipe("goyal2017")
    assert (recipe.model, recipe.epochs, recipe.batch_per_worker) == ("resnet50", 90, 32)
    optimizer, rule = recipe.optimizer, recipe.learning_rate
    assert (optimizer.momentum, optimizer.nesterov, optimizer.weight_decay) == (0.9, True, 1e-4)
    assert (rule.reference, rule.reference_batch, rule.scaling) == (0.1, 256, "linear")
    assert (recipe.warmup.kind, str(recipe.warmup.duration)) == ("gradual", "5ep")
    assert (recipe.decay.kind, recipe.decay.factor) == ("steps", 0.1)
    assert [str(point) for point in recipe.decay.at] == ["30ep", "60ep", "80ep"]
    assert (recipe.images.size, recipe.images.flip, recipe.images.aspect_ratio) == (224, True, (3 / 4, 4 / 3))


def test_demo_normalizes_by_the_digits():
    from sklearn.datasets import load_digits

    digits = load_digits().images / 16
    images = load_recipe("demo").images
    assert images.mean == pytest.approx([digits.mean()] * 3, abs=5e-5)
    assert images.std == pytest.approx([digits.std()] * 3, abs=5e-5)
    assert images.size == digits.shape[1]


@pytest.mark.parametrize("name", preset_names())
def test_presets_survive_json(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    values = json.loads(json.dumps(recipe.model_dump(mode="json")))
    assert Recipe.model_validate(values) == recipe
    assert load_recipe(values) == recipe


def test_a_recipe_does_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        load_recipe("demo").epochs = 3


def test_overrides_are_toml_or_plain_text():
    recipe = load_recipe(
        "goyal2017",
        [
            "decay.kind=cosine",
            'model="timm:resnet18d"',
            "learning_rate.reference=1",
            'decay.at=["1ep", "20it"]',
            "optimizer.nesterov=false",
            "precision=bf16",
        ],
    )
    assert (recipe.decay.kind, recipe.model, recipe.precision) == ("cosine", "timm:resnet18d", "bf16")
    assert (recipe.learning_rate.reference, recipe.optimizer.nesterov) == (1.0, False)
    assert [str(point) for point in recipe.decay.at] == ["1ep", "20it"]


def test_the_last_override_of_a_key_counts():
    assert load_recipe("demo", ["epochs=1", "epochs=2"]).epochs == 2


def test_values_that_fit_only_together_may_be_set_together():
    assert load_recipe("demo", ["optimizer.momentum=0", "optimizer.nesterov=false"]).optimizer.momentum == 0


def test_a_file_needs_only_what_has_no_default(recipe_file):
    text = 'name = "mine"\nepochs = 3\n[images]\nmean = [0.5, 0.5, 0.5]\nstd = [0.2, 0.2, 0.2]\n'
    recipe = load_recipe(recipe_file(text), ["epochs=4"])
    assert (recipe.name, recipe.epochs, recipe.model) == ("mine", 4, "resnet50")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("decay.kid=cosine", "unknown key 'decay.kid'; did you mean 'decay.kind'?"),
        ("momentum=0.8", "did you mean 'optimizer.momentum'?"),
        ("zzz=1", "there are name, model, epochs"),
        ("warmup.qqqq=1", "there are warmup.kind, warmup.duration"),
        ("decay=cosine", "'decay' is a table, not a value; set one of decay.kind"),
        ("epochs", "'epochs' should be KEY=VALUE"),
        ("precision=fp8", "precision = 'fp8': should be 'auto', 'fp32', 'bf16' or 'fp16'"),
        ("epochs=0", "epochs = 0: should be greater than or equal to 1"),
        ("epochs=true", "epochs = True: should be a valid integer"),
        ("batch_per_worker=32.5", "batch_per_worker = 32.5: should be a valid integer"),
        ("seed=-1", "seed = -1"),
        ("label_smoothing=1", "label_smoothing = 1"),
        ("learning_rate.reference=0", "learning_rate.reference = 0"),
        ("decay.factor=inf", "decay.factor = inf: should be a finite number"),
        ("decay.at=30ep", "decay.at = '30ep': should be a list"),
        ('decay.at=["30ep", "60"]', "decay.at[1]: '60' should be a number with its unit"),
        ("warmup.duration=5", "warmup.duration: '5' should be a number with its unit"),
        ("optimizer.momentum=0", "optimizer.nesterov=false"),
        ("images.mean=[0.5, 0.5]", "key 'images.mean[2]' is missing"),
        ("images.std=[0.5, 0.5, 0]", "images.std[2] = 0: should be greater than 0"),
        ("images.area=[1.0, 0.5]", "images.area: [1.0, 0.5] should be [lowest, highest]"),
        ("images.evaluation_resize=100", "should be at least size = 224"),
    ],
)
def test_a_wrong_override_is_explained_in_one_line(override, said):
    with pytest.raises(UsageError) as raised:
        load_recipe("goyal2017", [override])
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_wrong_file_is_explained_in_one_line(recipe_file):
    text = 'epochs = 3\ndecay = "cosine"\nlearningrate = 1\n[optimizer]\nmomentun = 1\n'
    path = recipe_file(text)
    with pytest.raises(UsageError) as raised:
        load_recipe(path)
    for said in (
        path,
        "key 'name' is missing",
        "key 'images' is missing",
        "decay = 'cosine': should be a table of keys",
        "unknown key 'learningrate'; did you mean 'learning_rate.",
        "unknown key 'optimizer.momentun'; did you mean 'optimizer.momentum'?",
    ):
        assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("goyal2071", "no recipe 'goyal2071'; did you mean 'goyal2017'? presets: demo, glyphs, goyal2017"),
        ("xyz", "no recipe 'xyz'; presets: demo, glyphs, goyal2017"),
        ("/nowhere/mine.toml", "recipe /nowhere/mine.toml: No such file"),
    ],
)
def test_an_unknown_recipe_is_explained(name, said):
    with pytest.raises(UsageError) as raised:
        load_recipe(name)
    assert said in str(raised.value)


@pytest.mark.parametrize("content", [b"a = = 3", b"\xff\xfe"])
def test_an_unreadable_file_is_explained(tmp_path, content):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="mine.toml: ") as raised:
        load_recipe(str(path))
    assert "\n" not in str(raised.value)


def test_a_file_says_only_what_differs_from_the_recipe_that_it_extends(tmp_path):
    (tmp_path / "base.toml").write_text('extends = "goyal2017"\nname = "base"\nepochs = 50\n[optimizer]\nmomentum = 0.8\n')
    (tmp_path / "mine.toml").write_text('extends = "base.toml"\nname = "mine"\n[optimizer]\nweight_decay = 0.0\n')
    mine, original = load_recipe(str(tmp_path / "mine.toml")), load_recipe("goyal2017")
    assert (mine.name, mine.epochs) == ("mine", 50)
    assert (mine.optimizer.momentum, mine.optimizer.weight_decay, mine.optimizer.nesterov) == (0.8, 0.0, True)
    assert (mine.images, mine.decay, mine.learning_rate) == (original.images, original.decay, original.learning_rate)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extends = "mine.toml"', "extends itself"),
        ('extends = "other.toml"', "extends itself: .*mine.toml extends .*other.toml extends .*mine.toml"),
        ('extends = "goyal2071"', "no recipe .*goyal2071"),
        ("extends = 1", "extends = 1: should be a preset's name or the path"),
        ('extends = "goyal2017"\n[optimiser]\nmomentum = 0.5', "unknown key 'optimiser'"),
        ('extends = "goyal2017"\noptimizer = 3', "optimizer = 3: should be a table of keys"),
    ],
)
def test_what_cannot_be_extended_is_told_in_one_line(recipe_file, text, message):
    path = recipe_file(f"{text}\n")
    from pathlib import Path

    Path(path).with_name("other.toml").write_text('extends = "mine.toml"')
    with pytest.raises(UsageError, match=message) as error:
        load_recipe(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "batch", "values"),
    [
        ("lars-mlperf-4k", 4096, {0: 0.0, 2 * 313: 4.0, 5 * 313: 10.0}),
        ("lars-mlperf-8k", 8192, {0: 0.0, 5 * 157: 17.0}),
        ("lars-mlperf-32k", 32768, {0: 0.0, 8 * 40: 10.6, 16 * 40: 21.2}),
        ("nvidia-resnet50", 256, {0: 0.0, 5 * 5005: 0.256}),
        ("nvidia-resnet50", 2048, {0: 0.0, 5 * 626: 2.048}),
        ("goyal2017-resnet101", 8192, {0: 0.1, 5 * 157: 3.2}),
    ],
)
def test_published_rates_are_reached(name, batch, values):
    """MLPerf's and NVIDIA's warm up from 0, the paper's from its reference rate."""
    from lbsgd.policy.schedule import build_schedule

    schedule = build_schedule(load_recipe(name), global_batch=batch, iterations_per_epoch=-(-1281167 // batch))
    for iteration, rate in values.items():
        assert schedule.lr(iteration) == pytest.approx(rate, rel=1e-6), iteration
    assert schedule.lr(schedule.total_iterations - 1) < 0.01 * schedule.peak_lr


def test_lars_has_no_look_ahead():
    with pytest.raises(UsageError, match="should come with plain momentum; set optimizer.nesterov=false"):
        load_recipe("goyal2017", ["optimizer.kind=lars"])
