"""Adapters for public YOLOv2 losses, each run from the user's own checkout of one commit."""
