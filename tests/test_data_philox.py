from hypothesis import given
from hypothesis import strategies as st

from lbsgd.policy.philox import Purpose, uniforms, words

MASK = 2**64 - 1


def philox_4x64(counter: list[int], key: list[int]) -> list[int]:
    """Ten rounds of Philox 4x64 as its authors define it (Salmon et al. 2011, Random123)."""
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * a, 0xCA5A826395121157 * c
        a, b, c, d = (second >> 64) ^ b ^ k0, second & MASK, (first >> 64) ^ d ^ k1, first & MASK
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK, (k1 + 0xBB67AE8584CAA73B) & MASK
    return [a, b, c, d]


def test_the_reference_gives_the_authors_known_answer():
    known = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    assert philox_4x64([0, 0, 0, 0], [0, 0]) == known


word = st.integers(0, MASK)


@given(st.sampled_from(Purpose), word, word, word)
def test_words_are_philox_of_the_documented_key_and_counter(purpose, seed, epoch, sample):
    """numpy counts up before it draws, so the first block has counter 1."""
    blocks = [philox_4x64([block, sample, 0, purpose], [seed, epoch]) for block in (1, 2)]
    assert words(7, purpose, seed=seed, epoch=epoch, sample=sample).tolist() == (blocks[0] + blocks[1])[:7]


@given(word, word, word)
def test_uniforms_are_the_words_below_one(seed, epoch, sample):
    numbers = uniforms(9, Purpose.AUGMENTATION, seed=seed, epoch=epoch, sample=sample)
    drawn = words(9, Purpose.AUGMENTATION, seed=seed, epoch=epoch, sample=sample).tolist()
    assert numbers == [(word >> 11) / 2**53 for word in drawn]
    assert all(0 <= number < 1 for number in numbers)
