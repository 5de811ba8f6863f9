import hashlib
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lbsgd.errors import CheckpointError, EnvironmentNotReady
from lbsgd.models.state import State
from lbsgd.record import checkpoint
from lbsgd.record.checkpoint import FILES, find_checkpoint, list_checkpoints, load_checkpoint, save_checkpoint

ABOUT = {"epoch": 1.5, "classes": ["cat", "dog"], "recipe": {"model": "resnet20"}}
DTYPES = st.sampled_from([np.float32, np.float16, np.int64])
ARRAYS = DTYPES.flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, max_side=3)))
NAMED = st.dictionaries(st.text("abc.", min_size=1, max_size=4), ARRAYS, max_size=4)


def make_state(value: float = 1.0) -> State:
    model = {"conv1.weight": np.full((2, 3, 3, 3), value, np.float32), "bn1.num_batches_tracked": np.array(7)}
    return State(model, {"conv1.weight": np.full((2, 3, 3, 3), -value, np.float32)}, {"scale": 1024.0})


def make(root: Path, iteration: int = 5, value: float = 1.0, keep: int = 9) -> Path:
    return save_checkpoint(root, iteration, make_state(value), ABOUT, keep=keep)


def require_equal(found: State, expected: State) -> None:
    assert found.loss_scale == expected.loss_scale
    for one, other in ((found.model, expected.model), (found.velocity, expected.velocity)):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].dtype == other[name].dtype
            np.testing.assert_array_equal(one[name], other[name])


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def rewrite(path: Path, name: str, blob: bytes) -> None:
    """Replace a file and its hash: what somebody could do on purpose."""
    (path / name).write_bytes(blob)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {name: hashlib.sha256(blob).hexdigest()}))


@settings(deadline=None, max_examples=40)
@given(model=NAMED, velocity=NAMED, scale=st.floats(1, 1e9), turned=st.booleans())
def test_what_is_saved_is_loaded(tmp_path_factory, model, velocity, scale, turned):
    root = tmp_path_factory.mktemp("round")
    if turned:  # another memory order, as a layout change by a backend leaves it
        model = {name: array.T for name, array in model.items()}
    state = State(model, velocity, {"scale": scale})
    found, about = load_checkpoint(save_checkpoint(root, 12, state, ABOUT, keep=1))
    require_equal(found, state)
    assert about | ABOUT == about
    assert about["iteration"] == 12


def test_a_checkpoint_lies_where_its_name_may_be_anything(hostile_dir):
    path = make(hostile_dir / "checkpoints")
    require_equal(load_checkpoint(path)[0], make_state())
    assert find_checkpoint(hostile_dir) == path


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_damage_is_found_or_harmless(tmp_path_factory, data):
    """Random bytes of any file are flipped: the state is refused, or (spaces of the manifest) still what was saved."""
    path = make(tmp_path_factory.mktemp("damage"))
    file = path / data.draw(st.sampled_from([*FILES, "manifest.json"]))
    blob = bytearray(file.read_bytes())
    for place in data.draw(st.sets(st.integers(0, len(blob) - 1), min_size=1, max_size=3)):
        blob[place] ^= data.draw(st.integers(1, 255))
    file.write_bytes(blob)
    try:
        found, about = load_checkpoint(path)
    except CheckpointError as error:
        assert "\n" not in str(error)
        return
    assert file.name == "manifest.json"
    require_equal(found, make_state())
    assert about | ABOUT == about


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_of_the_arrays_is_refused_by_name(tmp_path, name):
    path = make(tmp_path)
    blob = bytearray((path / name).read_bytes())
    blob[-1] ^= 1
    (path / name).write_bytes(blob)
    with pytest.raises(CheckpointError, match=f"{name} is damaged.*no other here"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_file_cut_short_is_refused(tmp_path, name, share):
    path = make(tmp_path)
    blob = (path / name).read_bytes()
    (path / name).write_bytes(blob[: int(len(blob) * share)])
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_missing_file_is_refused_and_the_other_checkpoints_are_named(tmp_path, name):
    make(tmp_path, 3)
    path = make(tmp_path, 5)
    (path / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}.*others here: iteration-00000003"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", ["[]", "3", "null", "{}", '{"model.safetensors": 1}', "\xff"])
def test_a_manifest_that_is_none_is_refused(tmp_path, content):
    path = make(tmp_path)
    (path / "manifest.json").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@pytest.mark.parametrize("schema", ["lbsgd.checkpoint/2", "other", None])
def test_another_schema_is_refused(tmp_path, schema):
    path = make(tmp_path)
    rewrite(path, "state.json", json.dumps({"schema": schema, "iteration": 1, "loss_scale": {}}).encode())
    with pytest.raises(CheckpointError, match="this version reads lbsgd.checkpoint/1"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"[]", b"{}", b'"text"', b"no json"])
def test_a_state_that_is_none_is_refused(tmp_path, content):
    path = make(tmp_path)
    rewrite(path, "state.json", content)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@pytest.mark.parametrize("name", FILES)
def test_a_pickle_under_our_name_is_refused_and_not_executed(tmp_path, name):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    path = make(tmp_path)
    rewrite(path, name, pickle.dumps(Trap()))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    assert not (tmp_path / "executed").exists()


def test_the_newest_are_kept(tmp_path):
    for iteration in (5, 10, 9, 20):
        make(tmp_path, iteration, keep=2)
    assert names(tmp_path) == ["iteration-00000010", "iteration-00000020"]


@given(st.lists(st.integers(0, 200_000_000), min_size=1, max_size=6, unique=True), st.integers(1, 4))
@settings(deadline=None, max_examples=15)
def test_only_the_oldest_are_deleted(tmp_path_factory, iterations, keep):
    root = tmp_path_factory.mktemp("keep")
    saved = [make(root, iteration, keep=keep) for iteration in sorted(iterations)]
    assert list_checkpoints(root) == saved[-keep:]
    assert len(names(root)) == len(saved[-keep:])


def test_what_is_not_a_checkpoint_is_neither_listed_nor_deleted(tmp_path):
    shutil.copytree(make(tmp_path, 1), tmp_path / "iteration-00000001.copy")
    (tmp_path / "notes").mkdir()
    for iteration in (2, 3):
        make(tmp_path, iteration, keep=1)
    assert names(tmp_path) == ["iteration-00000001.copy", "iteration-00000003", "notes"]
    assert [path.name for path in list_checkpoints(tmp_path)] == ["iteration-00000003"]


def test_the_same_iteration_may_be_saved_again(tmp_path):
    make(tmp_path, 5, value=1.0)
    path = make(tmp_path, 5, value=2.0)
    require_equal(load_checkpoint(path)[0], make_state(2.0))
    assert names(tmp_path) == ["iteration-00000005"]


class Killed(BaseException):
    """Nothing after this point runs, as after SIGKILL."""


@pytest.mark.parametrize("writes", range(4))
@pytest.mark.parametrize("again", [5, 6])
def test_a_write_cut_short_leaves_the_earlier_checkpoints(tmp_path, monkeypatch, writes, again):
    make(tmp_path, 4)
    make(tmp_path, 5, value=1.0)
    written = []

    def write_some(path, data):
        if len(written) == writes:
            path.write_bytes(data[: len(data) // 2])
            raise Killed
        written.append(path.write_bytes(data))

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoint, "write_atomically", write_some)
        patch.setattr(checkpoint, "write_json", lambda path, content: write_some(path, json.dumps(content).encode()))
        make(tmp_path, again, value=2.0)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["iteration-00000004", "iteration-00000005"]
    require_equal(load_checkpoint(list_checkpoints(tmp_path)[-1])[0], make_state(1.0))
    make(tmp_path, 7)
    assert names(tmp_path) == [f"iteration-0000000{n}" for n in (4, 5, 7)]


def test_a_place_that_cannot_be_written_is_named_and_earlier_checkpoints_stay(tmp_path, monkeypatch):
    make(tmp_path, 1)

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_atomically", full)
    with pytest.raises(EnvironmentNotReady, match="iteration-00000002.*No space left on device; earlier"):
        make(tmp_path, 2)
    assert names(tmp_path) == ["iteration-00000001"]


def test_find_takes_a_checkpoint_or_the_newest_of_a_run(tmp_path):
    older, newer = make(tmp_path / "checkpoints", 5), make(tmp_path / "checkpoints", 10)
    assert find_checkpoint(older) == older
    assert find_checkpoint(tmp_path) == newer


def test_find_says_that_there_is_none(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CheckpointError, match="is neither a checkpoint nor a run that has one"):
            find_checkpoint(path)
