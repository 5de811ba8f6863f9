"""What the CPU can do, as far as it decides how a backend computes."""

from pathlib import Path

BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})
"""Instructions of x86 that multiply bfloat16 numbers: AMX (Sapphire Rapids on), AVX512-BF16 (Cooper Lake, Zen 4 on)."""


def has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU multiplies bfloat16 numbers by hardware.

    On one that does, ResNet-18 trains 2 to 3 times as fast as in float32 (benchmarks/README.md); on others bfloat16 is
    emulated and slower.
    """
    if not cpuinfo.exists():
        return False
    flags = (line.partition(":")[2].split() for line in cpuinfo.read_text().splitlines() if line.startswith("flags"))
    return bool(BF16_FLAGS & set(next(flags, ())))
