"""DeepLab-v3+ on MobileNet-v2, trained on ADE20K's first 31 classes: a judge of layouts that was in no loss of ours. (A parser that starts from
its weights is its kin; tables name that.)

The weights (github.com/mlcommons/mobile_models, `v0_7/tflite/deeplabv3_mnv2_ade20k_int8.tflite`, Apache-2.0; batch norms folded) are read from an .npz with 8-bit
kernels `NAME.weight.q`, scales `NAME.weight.s` and biases `NAME.bias`.
"""
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from msca.base.labels import UNLABELLED
from msca.model.deeplab import ADE_CLASSES, DeepLab, first_pixel_resize, load_deeplab_weights

COMMON = {  # what both sides can tell apart → (classes of the shared label set, the network's classes)
    'sky': ('sky', 'sky'), 'mountain': ('mountain rock', 'mountain'), 'water': ('water', 'water sea'),
    'grass': ('grass field', 'grass field earth'), 'tree': ('tree plant', 'tree plant'),
    'road': ('road', 'road'), 'pavement': ('pavement', 'sidewalk floor'),
    'building': ('building window door', 'building house wall windowpane door'), 'vehicle': ('vehicle', 'car'),
    'person': ('person', 'person')}  # sand is left out: the network calls it sea
LONG_SIDE = 512  # pixels, at which the network was trained and sees best


def load_deeplab(path):
    "The network with its published weights, as they were trained: maps are enlarged as old TensorFlow did it."
    return load_deeplab_weights(DeepLab(len(ADE_CLASSES), first_pixel_resize), path).eval().requires_grad_(False)


def common_ids(names, side):
    "Table from ids of one side's classes to numbers of `COMMON`; 255 where there is none."
    numbers = {c: i for i, pair in enumerate(COMMON.values()) for c in pair[side].split()}
    table = np.full(256, UNLABELLED, np.uint8)
    table[:len(names)] = [numbers.get(n, UNLABELLED) for n in names]
    return table


class Judge:
    "How much of a layout DeepLab sees in a picture."
    def __init__(self, path, label_set):
        self.net, self.theirs, self.ours = load_deeplab(path), common_ids(ADE_CLASSES, 1), common_ids(label_set.classes, 0)

    @torch.inference_mode()
    def parse(self, picture):
        "Numbers of `COMMON` for every pixel of an RGB PIL image."
        scale = LONG_SIDE/max(picture.size)
        x = np.array(picture.resize([round(n*scale) for n in picture.size], Image.Resampling.BICUBIC), np.float32)
        ids = self.net(torch.from_numpy(x).permute(2, 0, 1)[None]/127.5-1)
        return self.theirs[F.interpolate(ids, picture.size[::-1], mode='bilinear')[0].argmax(0).numpy()]

    def accuracy(self, picture, layout):
        "Share of the pixels whose class both sides can tell; NaN where the layout has none."
        wanted = self.ours[layout]
        known = wanted != UNLABELLED
        return float((self.parse(picture) == wanted)[known].mean()) if known.any() else float('nan')
