"""The shared suite that judges any YOLOv2 loss through an adapter."""
