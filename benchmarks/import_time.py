"""Time that `import keras_archs` adds to `import keras`: a fresh process each round, median.

    python benchmarks/import_time.py [--rounds 9] [--json]

Target: at most 0.1 s.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

TARGET_S = 0.1
CODE = """
import time
start = time.perf_counter(); import keras
middle = time.perf_counter(); import keras_archs
end = time.perf_counter()
print(middle - start, end - middle)
"""


def measure() -> list[float]:
    """Seconds of the two imports in one fresh process."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", CODE]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return [float(number) for number in result.stdout.split()]


def main() -> None:
    """Measures, prints a line or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    keras, ours = zip(*(measure() for _ in range(arguments.rounds)), strict=True)
    row = {"keras_s": statistics.median(keras), "keras_archs_s": statistics.median(ours)}
    if arguments.json:
        print(json.dumps(row))
    else:
        print(
            f"import keras {row['keras_s']:.2f} s; import keras_archs adds {row['keras_archs_s']:.3f} s "
            f"({min(ours):.3f} to {max(ours):.3f} in {arguments.rounds} rounds)"
        )
    if row["keras_archs_s"] > TARGET_S:
        sys.exit(f"missed the target of {TARGET_S} s")


if __name__ == "__main__":
    main()
