"""What `make image-check` takes from this host: pip's settings, and the files that they name."""

import os

from .image import host_settings


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
    monkeypatch.setenv("SECRET", "x")
    folder = tmp_path / "given"
    folder.mkdir()
    options = host_settings.build_options(folder)
    assert (folder / "pip.conf").read_text() == (
        f"[global]\nextra-index-url = https://example.org/simple file:///mnt{index}\nfind-links = /mnt{wheels}\n"
    )
    mounts = {folder / "pip.conf": "/etc/pip.conf", index.parent: f"/mnt{index.parent}", wheels: f"/mnt{wheels}"}
    assert sorted(options) == sorted(f"--volume={path}:{place}:ro" for path, place in mounts.items())
