"""Adapters for YOLOv2 losses of other people, each run from the user's own checkout of one commit."""
