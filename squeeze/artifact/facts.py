"""Facts in an artifact's header besides the model's configuration, and sentences that repeat them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Fields = Mapping[str, Any]


def assumed_of(header: Fields) -> dict[str, Any]:
    """Return the fields of the configuration that nobody stated when the artifact was made."""
    assumed = header.get("assumed")
    return dict(assumed) if isinstance(assumed, dict) else {}


def assumed_notes(assumed: Fields) -> list[str]:
    """Return the sentence that repeats assumed fields; none where there are none."""
    return [f"assumed, as no file says it: {listed(assumed)}"] if assumed else []


def listed(fields: Fields) -> str:
    """Return fields as they are written after --set.

    >>> listed({"mlp_power": 2, "qk_norm": True, "layer_schedule": (0, 1)})
    'mlp_power=2, qk_norm=on, layer_schedule=0,1'
    """
    return ", ".join(f"{name}={_text(value)}" for name, value in fields.items())[:1000]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
