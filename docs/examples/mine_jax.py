from my_port import terms_of  # channels last; a dict of the five terms, each a mean over images

from regionloss_adapters import from_jax, layouts, truths


def loss(outputs, boxes, question):
    return terms_of(outputs, boxes, question.batch.anchors, question.batch.images_seen)


adapter = from_jax(
    loss,
    name="my port",
    layout=layouts.NHWAE,
    truths=truths.Padded(),
    reduction="per-image",
    answers=("gradient", "potential", "terms"),
)
