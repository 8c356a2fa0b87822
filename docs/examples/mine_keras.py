from my_port import yolo_loss  # (y_true, y_pred); y_true is a grid with a row of x, y, w, h, 1 and one-hot classes

from regionloss_adapters import from_keras, layouts, truths


def loss(y_pred, y_true, question):
    return yolo_loss(y_true, y_pred)


adapter = from_keras(
    loss,
    name="my port",
    layout=layouts.NHWAE,
    truths=truths.Dense(columns="x y w h 1 classes"),
    answers=("gradient", "potential"),
)
