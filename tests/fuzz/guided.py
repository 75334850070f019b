"""Coverage-guided fuzzing of one target: `python tests/fuzz/guided.py TARGET --minutes 5`.

Knows: atheris; the inputs that are kept (tests/fuzz/corpus/TARGET) and where new ones go (build/fuzz).
Does not know: what a target asserts (tests/fuzz_targets.py).
"""

import argparse
import sys
from pathlib import Path

import atheris

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
sys.path[:0] = [str(_ROOT), str(_ROOT / "tests")]

with atheris.instrument_imports(include=["broker", "fuzz_targets"]):
    from fuzz_targets import TARGETS


def main() -> None:
    """Fuzz until the time is over or an input fails; that input is then build/fuzz/TARGET-crash-...."""
    parser = argparse.ArgumentParser(description="Coverage-guided fuzzing of one target.")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--minutes", type=float, default=5.0, help="for how long (default: 5)")
    parser.add_argument("--keep", action="store_true", help="add to the corpus what reaches more code, and end")
    given = parser.parse_args()
    kept = _HERE / "corpus" / given.target
    found = _ROOT / "build" / "fuzz" / given.target
    found.mkdir(parents=True, exist_ok=True)
    if given.keep:
        options = ["-merge=1", str(kept), str(found)]
    else:
        options = [f"-max_total_time={given.minutes * 60:.0f}", str(found), str(kept)]
    artifacts = f"-artifact_prefix={found.parent}/{given.target}-"
    limits = ["-max_len=4096", "-timeout=20", "-rss_limit_mb=2048", f"-dict={_HERE / 'mqtt.dict'}"]
    atheris.Setup([sys.argv[0], artifacts, *limits, *options], TARGETS[given.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
