"""Seeds for the target `layer`: what the tests generate to compare with other programs, plain and packed.

layers.py DIRECTORY
"""

import gzip
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import layertrees

for seed in range(32):
    plain = layertrees.some_layer(seed)
    (Path(sys.argv[1]) / f"plain-{seed}").write_bytes(plain)
    (Path(sys.argv[1]) / f"gzip-{seed}").write_bytes(gzip.compress(plain, mtime=0))
