"""What `make image-check` is made of: reading a Dockerfile, its COPY and its variables, and the settings of this host."""

import os
from pathlib import Path

import pytest

from .image import host_settings
from .image.build import Build
from .image.dockerfile import Instruction, expand, ignored, parse
from .image.image import PATH, Image

TEXT = """\
# a comment
ARG VARIANT=cpu
FROM debian:12.1-slim AS cpu
FROM other:1.0 AS gpu
FROM ${VARIANT} AS build
ARG VARIANT
ARG COLOUR=red
ENV PATH=/opt/bin:$PATH \\
    NAME="two words"
RUN --mount=type=cache,target=/c make "$COLOUR" \\
    && true
# between
FROM debian:12.1-slim
COPY --from=build /opt /opt
CMD ["lbsgd", "--help"]
"""


def test_a_dockerfile_is_stages_of_instructions():
    arguments, stages = parse(TEXT)
    assert arguments == {"VARIANT": "cpu"}
    assert [(stage.name, stage.base) for stage in stages] == [
        ("cpu", "debian:12.1-slim"), ("gpu", "other:1.0"), ("build", "${VARIANT}"), ("3", "debian:12.1-slim"),
    ]  # fmt: skip
    variant, colour, env, run = stages[2].instructions
    assert (variant.pairs, colour.pairs) == ({"VARIANT": ""}, {"COLOUR": "red"})
    assert env.pairs == {"PATH": "/opt/bin:$PATH", "NAME": "two words"}
    assert run == Instruction("RUN", {"mount": "type=cache,target=/c"}, 'make "$COLOUR" && true')
    assert [step.keyword for step in stages[3].instructions] == ["COPY", "CMD"]


@pytest.mark.parametrize("text, expanded", [("$A-${A}b", "1-1b"), ("${B}", ""), ("A", "A"), ("/x:$PATH", "/x:/bin")])
def test_variables_are_replaced(text, expanded):
    assert expand(text, {"A": "1", "PATH": "/bin"}) == expanded


@pytest.mark.parametrize(
    "path, left_out",
    [("lbsgd", False), ("lbsgd/cli.py", False), ("lbsgd/a/b.py", False), ("lbsgd/a/x.pyc", True), ("x.pyc", True),
     ("README.md", False), ("README.md.bak", True), ("tests", True), ("tests/lbsgd", True), ("lbsgd2", True)],
)  # fmt: skip
def test_dockerignore_goes_by_the_last_pattern(path, left_out):
    assert ignored(path, ["*", "!lbsgd", "!README.md", "**/*.pyc"]) is left_out


@pytest.fixture
def project(tmp_path) -> Path:
    """A project whose Dockerfile takes no chroot."""
    project = tmp_path / "project"
    (project / "code" / "__pycache__").mkdir(parents=True)
    for name in ("code/a.py", "code/__pycache__/a.pyc", "notes", "secret"):
        (project / name).write_text(name)
    (project / ".dockerignore").write_text("# all but\n*\n!code\n!notes\n**/__pycache__\n")
    return project


def build(project: Path, dockerfile: str, **given: str) -> Image:
    (project / "Dockerfile").write_text(dockerfile)

    def base(name: str, root: Path) -> None:
        root.mkdir(parents=True)
        (root / "base").write_text(name)

    folder = project.with_name("built")
    return Build(project, given, folder, base, folder / "cache", say=lambda line: None).last()


def files(image: Image) -> set[str]:
    return {str(path.relative_to(image.root)) for path in image.root.rglob("*") if path.is_file()}


def test_a_stage_begins_as_its_base_and_takes_what_is_copied(project):
    image = build(
        project, "FROM a:1 AS first\nCOPY code /opt/code\nFROM b:1\nWORKDIR /work\nCOPY notes ./\nCOPY --from=first /opt /opt\n"
    )
    assert files(image) == {"base", "work/notes", "opt/code/a.py"}
    assert (image.root / "base").read_text() == "b:1"
    assert image.folder == "/work"


def test_only_the_stages_that_are_needed_are_built(project):
    dockerfile = "ARG V=x\nFROM a:1 AS x\nFROM b:1 AS y\nFROM ${V}\nENV PATH=/opt/bin:$PATH V=1\nUSER 7:7\n"
    image = build(project, dockerfile, V="y")
    assert sorted(path.name for path in image.root.parent.iterdir()) == ["2", "y"]
    assert (image.root / "base").read_text() == "b:1"
    assert (image.environment, image.user) == ({"PATH": f"/opt/bin:{PATH}", "V": "1"}, "7:7")


def test_what_is_not_sent_cannot_be_copied(project):
    with pytest.raises(FileNotFoundError, match="COPY secret: .dockerignore leaves it out"):
        build(project, "FROM a:1\nCOPY secret /\n")


def test_an_instruction_that_is_not_known_is_not_passed_over(project):
    with pytest.raises(NotImplementedError, match="ONBUILD"):
        build(project, "FROM a:1\nONBUILD RUN make\n")


def test_the_environment_goes_before_pip_s_files():
    listing = ":env:.cert='/env.pem'\nglobal.cert='/file.pem'\nglobal.extra-index-url='a b'\ninstall.user='1'\n"
    assert host_settings.pip_settings(listing) == {"cert": "/env.pem", "extra-index-url": "a b"}


def test_files_that_the_settings_name_are_mounted_and_nothing_else(tmp_path, monkeypatch):
    index, wheels = tmp_path / "index" / "simple", tmp_path / "wheels"
    index.mkdir(parents=True)
    wheels.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"https://example.org/simple file://{index}")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("SECRET", "x")
    variables, mounts = host_settings.package_settings()
    assert variables == {
        "PIP_EXTRA_INDEX_URL": f"https://example.org/simple file:///mnt{index}",
        "PIP_FIND_LINKS": f"/mnt{wheels}",
        "HTTPS_PROXY": "http://proxy:3128",
    }
    assert mounts == {index.parent: f"/mnt{index.parent}", wheels: f"/mnt{wheels}"}
