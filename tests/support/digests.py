"""Digests for tests: of no bytes, and arbitrary ones."""

from hypothesis import strategies as st

from wsgi_store.digest import Algorithm, Digest

ALGORITHMS = st.sampled_from(Algorithm)
# Loads its package now, not in the first example, whose time Hypothesis limits.
Algorithm.BLAKE3.new()


EMPTY = {
    Algorithm.MD5: "d41d8cd98f00b204e9800998ecf8427e",
    Algorithm.SHA1: "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    Algorithm.SHA256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    Algorithm.SHA512: "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce"
    "47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
    Algorithm.BLAKE2B: "786a02f742015903c6c6fd852552d272912f4740e15847618a86e217f71f5419"
    "d25e1031afee585313896444934eb04b903a685b1448b755d56f701afe9be2ce",
    Algorithm.BLAKE3: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
}


@st.composite
def digests(draw: st.DrawFn, algorithms: st.SearchStrategy[Algorithm] = ALGORITHMS) -> Digest:
    """Arbitrary digests."""
    algorithm = draw(algorithms)
    return Digest(algorithm, draw(st.binary(min_size=algorithm.size, max_size=algorithm.size)))
