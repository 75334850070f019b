"""Inputs that a fuzzer found worth keeping still pass; `make soak` looks for more."""

from pathlib import Path

import pytest

from fuzz_targets import TARGETS

_CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("target", TARGETS)
def test_every_kept_input_still_passes(target: str) -> None:
    inputs = sorted((_CORPUS / target).iterdir())
    assert inputs
    for path in inputs:
        try:
            TARGETS[target](path.read_bytes())
        except Exception as error:
            error.add_note(f"The input is {path}.")
            raise


def test_the_corpus_stays_small() -> None:
    files = [path for path in _CORPUS.rglob("*") if path.is_file()]
    assert len(files) < 300
    assert sum(path.stat().st_size for path in files) < 200_000
