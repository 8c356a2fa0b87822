"""The channels of a predictor: their names, and the channels of each block of a clause's view."""

from __future__ import annotations

#: The first five channels of a predictor; the classes follow (`notation.channel-order`).
CHANNELS = ("tx", "ty", "tw", "th", "to")

#: The channels of each block of a view.
BLOCK_CHANNELS = {"xy": slice(0, 2), "wh": slice(2, 4), "o": slice(4, 5), "c": slice(5, None)}


def channel_name(channel: int) -> str:
    """A channel in words: `tx`, or `class 2`."""
    return CHANNELS[channel] if channel < len(CHANNELS) else f"class {channel - len(CHANNELS)}"
