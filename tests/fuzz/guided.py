"""Coverage-guided fuzzing of one target: `python tests/fuzz/guided.py TARGET --minutes 5`.

Knows: atheris; the inputs that are kept (tests/fuzz/corpus/TARGET) and where new ones go (build/fuzz).
Does not know: what a target asserts (tests/fuzz_targets.py).
"""

import argparse
import shlex
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
    parser.add_argument("--keep", action="store_true", help="add what reaches more code to the corpus")
    given, inner = parser.parse_known_args()
    # To keep inputs, libFuzzer starts this program again, with options of its own behind this.
    name = f"{shlex.quote(sys.executable)} {shlex.quote(__file__)} {given.target}"
    kept = _HERE / "corpus" / given.target
    found = _ROOT / "build" / "fuzz" / given.target
    found.mkdir(parents=True, exist_ok=True)
    if inner:
        options = inner
    elif given.keep:
        options = ["-set_cover_merge=1", "-use_counters=0", str(kept), str(found)]
    else:
        options = [f"-max_total_time={given.minutes * 60:.0f}", str(found), str(kept)]
    limits = ["-max_len=4096", "-timeout=20", "-rss_limit_mb=2048", f"-dict={_HERE / 'mqtt.dict'}"]
    artifacts = f"-artifact_prefix={found.parent}/{given.target}-"
    atheris.Setup([name, *limits, artifacts, *options], TARGETS[given.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
