"""Marks of tests that need libraries which only some environments have."""

import importlib.util

import pytest

_LIBRARIES = ("torchao", "bitsandbytes")

NEEDS_QUANTIZATION = [
    pytest.mark.quantization,
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, _LIBRARIES)),
        reason="torchao or bitsandbytes is not installed: `make test-vision` has them",
    ),
]
