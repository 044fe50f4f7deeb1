"""Short digests, which tell whether something changed."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def short_hash(value: Any) -> str:
    """16 hexadecimal digits that stand for the value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
