from my_port import mean_loss  # NHWC, [class, x1, y1, x2, y2] in pixels, a mean over images

from regionloss_adapters import from_torch, layouts, truths


def loss(outputs, boxes, question):
    return mean_loss(outputs, boxes, question.batch.anchors, question.batch.images_seen)


adapter = from_torch(
    loss,
    name="my port",
    layout=layouts.NHWC,
    truths=truths.Ragged(columns="class x1 y1 x2 y2", unit="pixels", image_size=(416, 416)),
    reduction="per-image",
    answers=("gradient", "potential"),
)
