from my_port import InputError, loss_and_gradient  # [N, A, 5+C, H, W]; truths padded to 50 rows of zeros

from regionloss_adapters import from_numpy, layouts, truths


def loss(outputs, boxes, question):
    thresh = question.profile.thresh  # an option of the port, so it is declared below
    return loss_and_gradient(outputs, boxes, question.batch.anchors, question.batch.images_seen, thresh=thresh)


adapter = from_numpy(
    loss,
    name="my port",
    layout=layouts.NAEHW,
    truths=truths.Padded(capacity=50),
    options=("thresh",),
    answers=("gradient", "potential"),
    refuses=(InputError,),
    dtypes=("float32", "float64"),
)
