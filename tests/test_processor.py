"""What /proc/cpuinfo says of bfloat16."""

import pytest

from lbsgd.backends.processor import has_bf16

AMX = "flags\t\t: fpu vme avx512f amx_bf16 avx512_bf16 amx_tile"
ZEN4 = "flags\t\t: fpu vme avx512f avx512_bf16"
SKYLAKE = "flags\t\t: fpu vme avx512f avx512vl"
ARM = "Features\t: fp asimd bf16"


@pytest.mark.parametrize("line, has", [(AMX, True), (ZEN4, True), (SKYLAKE, False), (ARM, False), ("", False)])
def test_bfloat16_by_hardware(tmp_path, line, has):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nmodel name\t: some avx512_bf16 name\n{line}\n\nprocessor\t: 1\n{line}\n")
    assert has_bf16(cpuinfo) is has


def test_a_system_without_the_file_has_none(tmp_path):
    assert not has_bf16(tmp_path / "missing")
