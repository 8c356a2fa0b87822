"""Modules that stand in for the losses of other people: their interface alone, and our own loss behind it.

Each is given to its adapter as a checkout, so that what the adapter does to predictions, truths and options is tested
without one. They use on purpose the idioms that the adapter answers.
"""

from __future__ import annotations

from pathlib import Path

_OURS = """
import torch
from regionloss import region_loss
from regionloss_spec import load_profile

def ours(output, lists, anchors, classes, seen, profile, **axes):  # the reference, and its gradient for autograd
    rows = [[[float(value) for value in row] for row in image] for image in lists]
    t = output.detach().double().numpy()
    said = region_loss(t, rows, anchors, classes=classes, images_seen=int(seen),
                       profile=load_profile(profile).replace(**axes))
    pull = torch.tensor(said.gradient, dtype=output.dtype)
    return (pull * (output - output.detach())).sum() + said.potential

def first(classless):  # rows that begin with the class
    return [[*row[1:5], row[0]] for row in classless]
"""

LIGHTNET = """
from distutils.version import LooseVersion
assert LooseVersion("2.10.0+cpu") > LooseVersion("2.9")

class RegionLoss(torch.nn.Module):
    def __init__(self, classes, anchors, thresh, object_scale, noobject_scale, class_scale, coord_prefill):
        super().__init__()
        self.fixed = anchors, classes
        self.axes = dict(thresh=thresh, object_weight=object_scale, no_object_weight=noobject_scale,
                         class_weight=class_scale, prior_until=coord_prefill)

    def forward(self, output, target, seen):
        assert self.training
        lists = [first([row for row in image.tolist() if row[0] >= 0]) for image in target]
        return ours(output, lists, *self.fixed, seen, "lightnet", **self.axes)
"""

MARVIS = """
import math, time
from utils import helper

class RegionLoss(torch.nn.Module):
    def __init__(self, num_classes, anchors, num_anchors):
        super().__init__()
        self.classes, self.anchors, self.step = num_classes, anchors, len(anchors) / num_anchors

    def forward(self, output, target):
        assert isinstance(self.step, int)
        images = output.size(0)
        assert torch.cuda.LongTensor([0]).cuda().is_cuda is False
        found = int((output > 0.25).sum().data[0])
        grid = torch.zeros(2, 3).view(2, 3)
        grid[0] = torch.ones(3, 1) + torch.zeros(1, 1, 3)
        assert grid[0].tolist() == [1, 1, 1], found
        ious = torch.arange(4.0)
        mask = torch.zeros(2, 2)
        mask[ious > 2] = 7
        assert mask.tolist() == [[0, 0], [0, 7]]
        assert (torch.ones(2, 2) * torch.full((4,), 3.0)).tolist() == [[3, 3], [3, 3]]
        lists = []
        for b in xrange(images):
            lists.append([])
            for t in xrange(50):
                if target[b][t * 5 + 1] == 0:
                    break
                box = torch.FloatTensor([target[b][t * 5 + c] for c in xrange(5)]).repeat(2, 1)[0]
                lists[-1].append([*box[1:].tolist(), helper(box[0])])
        print("seen", self.seen)
        pairs = torch.Tensor(self.anchors).view(-1, self.step).tolist()
        return ours(output, lists, pairs, self.classes, self.seen, "marvis", thresh=self.thresh,
                    coord_weight=self.coord_scale, object_weight=self.object_scale,
                    no_object_weight=self.noobject_scale, class_weight=self.class_scale)
"""

_UTILS = """
import imghdr
from PIL import Image, ImageDraw

def helper(value):
    return float(value)
"""

ANDY_YUN = """
import sys
from utils import helper

class RegionLayer(torch.nn.Module):
    def __init__(self, num_classes, anchors, num_anchors, use_cuda):
        super().__init__()
        assert not use_cuda
        self.classes, self.pairs = num_classes, torch.tensor(anchors).view(num_anchors, -1).tolist()

    def forward(self, output, target):
        lists = []
        for image in target.view(len(target), target.shape[1] // 5, 5).tolist():
            lists.append([])
            for row in image[:50]:
                if row[1] == 0:
                    break
                lists[-1].append([*row[1:], helper(row[0])])
        print("seen", self.seen)
        if torch.isnan(output).any():
            sys.exit(0)
        return ours(output, lists, self.pairs, self.classes, self.seen, "andy-yun", thresh=self.thresh)
"""

UVIPEN = """
class YoloLoss(torch.nn.Module):
    def __init__(self, num_classes, anchors, coord_scale, object_scale, noobject_scale, thresh):
        super().__init__()
        self.fixed = anchors, num_classes
        self.axes = dict(thresh=thresh, coord_weight=coord_scale, object_weight=object_scale,
                         no_object_weight=noobject_scale)

    def forward(self, output, target):
        height, width = 32.0 * output.size(2), 32.0 * output.size(3)
        lists = [[[(x + w / 2) / width, (y + h / 2) / height, w / width, h / height, c]
                  for x, y, w, h, c in image.double().tolist()] for image in target]
        return ours(output, lists, *self.fixed, 10**9, "uvipen", **self.axes), None
"""

SAMYLEE = """
from utils.utils import helper

class YOLOV2Loss(torch.nn.Module):
    def __init__(self, B, C, object_scale, noobject_scale, class_scale, coord_scale, anchors, device):
        super().__init__()
        assert device == "cpu" and B == len(anchors)
        self.fixed = anchors, C
        self.axes = dict(coord_weight=coord_scale, object_weight=object_scale,
                         no_object_weight=noobject_scale, class_weight=class_scale)

    def forward(self, output, target):
        assert output.size(2) == output.size(3)
        lists = [first([row for row in image.tolist() if row[1] > 0]) for image in target]
        return ours(output, lists, *self.fixed, helper(self.seen), "samylee", thresh=self.iou_thresh, **self.axes)
"""

ZJYKZJ = """
from utils.torch_utils import de_parallel

class YOLOv2Loss(torch.nn.Module):
    def __init__(self, model, ignore_thresh, coord_scale, noobj_scale, obj_scale, class_scale):
        super().__init__()
        self.device = next(model.parameters()).device
        head = de_parallel(model).model[-1]
        assert head.nl == 1 and head.na == head.anchors.shape[1]
        self.fixed = head.anchors[0].tolist(), head.nc
        self.axes = dict(thresh=ignore_thresh, coord_weight=coord_scale, object_weight=obj_scale,
                         no_object_weight=noobj_scale, class_weight=class_scale)

    def forward(self, p, targets):
        images, anchors, height, width, entries = p[0].shape
        output = p[0].permute(0, 1, 4, 2, 3).reshape(images, anchors * entries, height, width)
        lists = [first(targets[targets[:, 0] == image][:, 1:].tolist()) for image in range(images)]
        loss = ours(output, lists, *self.fixed, 10**9, "darknet", reduction="per-image", truth_end="none",
                    max_truths=0, **self.axes)
        return loss, None
"""

_OURS_IN_KERAS = """
import numpy as np
from regionloss import region_loss
from regionloss_spec import load_profile

def ours(tf, output, lists, anchors, classes, seen, profile, **axes):  # output [N, H, W, A, 5+C]
    images, height, width, count, entries = output.shape
    t = np.transpose(np.array(output, dtype=np.float64), (0, 3, 4, 1, 2))
    t = t.reshape(images, count * entries, height, width)
    said = region_loss(t, lists, anchors, classes=classes, images_seen=seen,
                       profile=load_profile(profile).replace(**axes))
    pull = said.gradient.reshape(images, count, entries, height, width).transpose(0, 3, 4, 1, 2)
    return tf.reduce_sum(pull.astype(np.float32) * (output - tf.stop_gradient(output))) + np.float32(said.potential)
"""

YAD2K = """
import tensorflow
from keras import backend as K
from keras.layers import Lambda
from keras.layers.merge import concatenate
from keras.models import Model
from ..utils import compose
from .keras_darknet19 import DarknetConv2D

def preprocess_true_boxes(true_boxes, anchors, image_size):
    height, width = image_size[0] // 32, image_size[1] // 32
    mask = np.zeros((height, width, len(anchors), 1))
    matching = np.zeros((height, width, len(anchors), true_boxes.shape[1]))
    for box in true_boxes:
        label = box[4:5]
        box = box[0:4] * np.array([width, height, width, height])
        i, j = np.floor(box[1]).astype("int"), np.floor(box[0]).astype("int")
        mask[min(i, height - 1), min(j, width - 1), 0] = 1
        matching[min(i, height - 1), min(j, width - 1), 0] = np.array([*box, label])
    return mask, matching

def yolo_loss(args, anchors, num_classes):
    output, boxes, mask, matching = args
    images, height, width, channels = output.shape
    assert mask.shape == (images, height, width, len(anchors), 1) and mask.dtype == np.float32
    assert matching.shape == (images, height, width, len(anchors), 5) and matching.dtype == np.float32
    assert K.dtype(output) == "float32" and boxes.dtype == np.float32
    lists = [[row for row in image.tolist() if row[2] > 0] for image in boxes]
    output = tensorflow.reshape(output, (images, height, width, len(anchors), channels // len(anchors)))
    return ours(tensorflow, output, lists, anchors, num_classes, 10**9, "yad2k")
"""

KERAS_YOLO2 = """
import tensorflow as tf
import cv2
from keras.models import Model
from keras.applications.mobilenet import MobileNet
from preprocessing import BatchGenerator
from utils import scale

class YOLO:
    def custom_loss(self, y_true, y_pred):
        images, height, width, count, entries = y_pred.shape
        assert (height, width, images, count) == (self.grid_h, self.grid_w, self.batch_size, self.nb_box)
        assert y_true.shape == y_pred.shape and y_true.dtype == self.true_boxes.dtype == np.float32
        pairs = np.reshape(self.anchors, (count, 2)).tolist()
        boxes = np.concatenate([self.true_boxes[:, 0, 0, 0], np.zeros((images, self.true_boxes.shape[4], 1))], axis=2)
        boxes[..., :4] /= [width, height, width, height]
        for n, j, i, k in np.argwhere(y_true[..., 4] > 0):
            same = np.abs(boxes[n, :, :4] - y_true[n, j, i, k, :4] / [width, height, width, height]).max(axis=1) < 1e-6
            boxes[n, same, 4] = np.argmax(y_true[n, j, i, k, 5:])
        lists = [[row for row in image.tolist() if row[2] > 0] for image in boxes]
        early = tf.Variable(0.0) < self.warmup_batches
        return scale * ours(tf, y_pred, lists, pairs, entries - 5, 0 if early else 10**9, "darknet", truth_end="none",
                            coord_weight=self.coord_scale, object_weight=self.object_scale,
                            no_object_weight=self.no_object_scale, class_weight=self.class_scale)
"""

_PREPROCESSING = """
import cv2, copy
import imgaug as ia
from utils import shape_iou
import numpy as np

class BatchGenerator:
    def __getitem__(self, at):
        config = self.config
        height, width = config["GRID_H"], config["GRID_W"]
        assert (config["IMAGE_H"], config["IMAGE_W"]) == (height, width)
        grid = np.zeros((config["BATCH_SIZE"], height, width, config["BOX"], 5 + len(config["LABELS"])))
        boxes = np.zeros((config["BATCH_SIZE"], 1, 1, 1, config["TRUE_BOX_BUFFER"], 4))
        for n, one in enumerate(self.images):
            picture, objects = self.aug_image(one, jitter=self.jitter)
            self.norm(picture)
            for t, found in enumerate(objects):
                box = [(found["xmin"] + found["xmax"]) / 2, (found["ymin"] + found["ymax"]) / 2,
                       found["xmax"] - found["xmin"], found["ymax"] - found["ymin"]]
                k = int(np.argmax([shape_iou(box[2:], anchor) for anchor in self.anchors]))
                at = n, int(box[1]), int(box[0]), k
                grid[at] = 0
                grid[at][:4], grid[at][4], grid[at][5 + config["LABELS"].index(found["name"])] = box, 1, 1
                boxes[n, 0, 0, 0, t] = box
        return [None, boxes], grid
"""

_KERAS_UTILS = """
scale = 1.0

def shape_iou(size, anchor):
    width, height = anchor.xmax - anchor.xmin, anchor.ymax - anchor.ymin
    shared = min(size[0], width) * min(size[1], height)
    return shared / (size[0] * size[1] + width * height - shared)
"""

LONGCW = """
import numpy as np
from functools import partial
from multiprocessing import Pool
import utils.network as net_utils
import cfgs.config as cfg
from layers.reorg.reorg_layer import ReorgLayer
from utils.cython_bbox import as_fractions
from utils.cython_yolo import half

def rows_of(boxes, size):
    boxes = as_fractions(np.ascontiguousarray(boxes, dtype=np.float), np.asarray(size, dtype=np.float))
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    return np.stack([x, y, boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]], axis=1)

class Darknet19(torch.nn.Module):
    def __init__(self):
        self.pool = Pool(processes=10)

    def forward(self, im_data, gt_boxes=None, gt_classes=None, dontcare=None, size_index=0):
        print("cell inds")
        both = self.conv1s(im_data)
        output = torch.cat([self.reorg(both), self.conv3(self.conv2(both))], 1)
        output = self.global_average_pool(self.conv5(self.conv4(output)))
        size, cells = cfg.multi_scale_inp_size[size_index], cfg.multi_scale_out_size[size_index]
        assert tuple(cells) == tuple(output.shape[:1:-1]) and tuple(size) == tuple(32 * cells)
        assert output.shape[1] == cfg.num_anchors * (5 + cfg.num_classes) and len(dontcare) == len(output)
        assert (cfg.object_scale, cfg.noobject_scale, cfg.class_scale, cfg.coord_scale) == (5, 1, 1, 1)
        found = self.pool.map(partial(rows_of, size=size), (gt_boxes[n] for n in range(len(output))))
        assert all(labels.dtype == np.int for labels in gt_classes)
        lists = [np.concatenate([rows, labels[:, None]], axis=1) for rows, labels in zip(found, gt_classes)]
        thresh = net_utils.np_to_variable(np.array([half(2 * cfg.iou_thresh)], dtype=np.float))
        assert thresh.dtype == torch.float32 and net_utils.np_to_variable(np.ones(1), dtype=torch.FloatTensor) == 1
        torch.nn.MSELoss(size_average=False)
        self.bbox_loss = ours(output, lists, cfg.anchors, cfg.num_classes, 10**6, "darknet", truth_end="none",
                              max_truths=0, thresh=round(thresh.item(), 6))

    @property
    def loss(self):
        return self.bbox_loss
"""

_BBOX_PYX = """
cimport cython
import numpy as np
cimport numpy as np
DTYPE = np.float
ctypedef np.float_t DTYPE_t

def as_fractions(np.ndarray[DTYPE_t, ndim=2] boxes, np.ndarray[DTYPE_t, ndim=1] size):
    cdef np.ndarray[DTYPE_t, ndim=2] found = np.zeros((boxes.shape[0], 4), dtype=DTYPE)
    cdef unsigned int n, c
    for n in range(boxes.shape[0]):
        for c in range(4):
            found[n, c] = boxes[n, c] / size[c % 2]
    return found
"""

_YOLO_PYX = "def half(double number):\n    return number / 2\n"

#: By adapter: the files of its stand-in.
FILES = {
    "lightnet": {"lightnet/network/loss/_regionloss.py": _OURS + LIGHTNET},
    "marvis": {"region_loss.py": _OURS + MARVIS, "utils.py": _UTILS},
    "andy-yun": {"region_layer.py": _OURS + ANDY_YUN, "utils.py": _UTILS},
    "uvipen": {"src/loss.py": _OURS + UVIPEN},
    "samylee": {"utils/loss.py": _OURS + SAMYLEE, "utils/utils.py": "def helper(value):\n    return int(value)\n"},
    "keras-yolo2": {
        "frontend.py": _OURS_IN_KERAS + KERAS_YOLO2,
        "preprocessing.py": _PREPROCESSING,
        "utils.py": _KERAS_UTILS,
    },
    "yad2k": {"yad2k/models/keras_yolo.py": _OURS_IN_KERAS + YAD2K},
    "longcw": {"darknet.py": _OURS + LONGCW, "utils/bbox.pyx": _BBOX_PYX, "utils/yolo.pyx": _YOLO_PYX},
    "zjykzj": {"models/yolov2v3/yolov2loss.py": _OURS + ZJYKZJ},
}


def write(folder: Path, name: str) -> Path:
    """The stand-in of an adapter, as a checkout."""
    for file, text in FILES[name].items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text, encoding="utf-8")
    return folder
