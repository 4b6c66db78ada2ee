"""DeepLab-v3+ on MobileNet-v2, trained on ADE20K's first 31 classes: a judge of layouts that no parser or loss of ours has seen.

The weights (github.com/mlcommons/mobile_models, `v0_7/tflite/deeplabv3_mnv2_ade20k_int8.tflite`, Apache-2.0; batch norms folded) are read from an .npz with 8-bit
kernels `NAME.weight.q`, scales `NAME.weight.s` and biases `NAME.bias`.
"""
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from msca.base.labels import UNLABELLED, InputError
from msca.base.weights import load_weights_file

CLASSES = ('other', 'wall', 'building', 'sky', 'floor', 'tree', 'ceiling', 'road', 'bed', 'windowpane',
           'grass', 'cabinet', 'sidewalk', 'person', 'earth', 'door', 'table', 'mountain',
           'plant', 'curtain', 'chair', 'car', 'water', 'painting', 'sofa', 'shelf', 'house', 'sea', 'mirror', 'rug', 'field', 'armchair')  # the network's, in order
COMMON = {  # what both sides can tell apart → (classes of the shared label set, the network's classes)
    'sky': ('sky', 'sky'), 'mountain': ('mountain rock', 'mountain'), 'water': ('water', 'water sea'),
    'grass': ('grass field', 'grass field earth'), 'tree': ('tree plant', 'tree plant'),
    'road': ('road', 'road'), 'pavement': ('pavement', 'sidewalk floor'),
    'building': ('building window door', 'building house wall windowpane door'), 'vehicle': ('vehicle', 'car'),
    'person': ('person', 'person')}  # sand is left out: the network calls it sea
BLOCKS = ((16, 1, 1, 1), (24, 6, 2, 1), (24, 6, 1, 1), (32, 6, 2, 1), (32, 6, 1, 1), (32, 6, 1, 1), (64, 6, 2, 1), (64, 6, 1, 1), (64, 6, 1, 1), (64, 6, 1, 1), (96, 6, 1, 1),
          (96, 6, 1, 1), (96, 6, 1, 1), (160, 6, 1, 1), (160, 6, 1, 2), (160, 6, 1, 2), (320, 6, 1, 2))  # channels, widening, stride, dilation
LONG_SIDE = 512  # pixels, at which the network was trained and sees best


class SameConv(nn.Conv2d):
    "Convolution with TensorFlow's padding: as much as the output needs, the odd pixel on the right and below."
    def forward(self, x):
        k, s, d = self.kernel_size[0], self.stride[0], self.dilation[0]
        lack = [max((-(-n//s)-1)*s + (k-1)*d + 1 - n, 0) for n in (x.shape[3], x.shape[2])]
        return super().forward(F.pad(x, [p for n in lack for p in (n//2, n-n//2)]))


class Block(nn.Module):
    "MobileNet-v2's inverted residual; gives its widened map too."
    def __init__(self, n_in, n_out, widen, stride, dilation):
        super().__init__()
        width, self.residual = n_in*widen, stride == 1 and n_in == n_out
        self.expand = SameConv(n_in, width, 1) if widen > 1 else None
        self.depthwise, self.project = SameConv(width, width, 3, stride, dilation=dilation, groups=width), SameConv(width, n_out, 1)

    def forward(self, x):
        wide = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(wide)))
        return (x+y if self.residual else y), wide


def first_pixel_resize(x, size):
    "Bilinear resize whose grids share the first pixel's center, as the network was trained."
    for dim, n in ((2, size[0]), (3, size[1])):
        at = torch.arange(n, dtype=x.dtype)*(x.shape[dim]/n)
        low = at.floor().long()
        high, part = (low+1).clamp(max=x.shape[dim]-1), (at-low).view([-1 if d == dim else 1 for d in range(4)])
        x = x.index_select(dim, low)*(1-part) + x.index_select(dim, high)*part
    return x


class DeepLab(nn.Module):
    "Pictures in [-1, 1] → scores of the 32 classes, at the picture's size."
    def __init__(self):
        super().__init__()
        widths = [32, *(b[0] for b in BLOCKS)]
        self.stem, self.blocks = SameConv(3, 32, 3, 2), nn.ModuleList(Block(n, *b) for n, b in zip(widths, BLOCKS))
        self.image_pooling, self.aspp0, self.concat_projection = SameConv(320, 256, 1), SameConv(320, 256, 1), SameConv(512, 256, 1)
        self.feature_projection0, self.logits = SameConv(144, 48, 1), SameConv(256, 32, 1)
        self.dec0_dw, self.dec0_pw, self.dec1_dw, self.dec1_pw = SameConv(304, 304, 3, groups=304), SameConv(304, 256, 1), SameConv(256, 256, 3, groups=256), SameConv(256, 256, 1)

    def forward(self, x):
        size, h = x.shape[2:], F.relu6(self.stem(x))
        for i, block in enumerate(self.blocks):
            h, wide = block(h)
            if i == 3: low = wide
        pooled = F.relu(self.image_pooling(h.mean((2, 3), keepdim=True))).expand(-1, -1, *h.shape[2:])
        h = F.relu(self.concat_projection(torch.cat([pooled, F.relu(self.aspp0(h))], 1)))
        h = torch.cat([first_pixel_resize(h, low.shape[2:]), F.relu(self.feature_projection0(low))], 1)
        for conv in (self.dec0_dw, self.dec0_pw, self.dec1_dw, self.dec1_pw): h = F.relu(conv(h))
        return first_pixel_resize(self.logits(h), size)


def load_deeplab(path):
    "The network with weights from a local file; `InputError` where they do not fit."
    net, state = DeepLab(), load_weights_file(path)
    whole = {k: state[f'{k}.q'].float()*state[f'{k}.s'].view(-1, 1, 1, 1) if f'{k}.q' in state else state.get(k) for k in net.state_dict()}
    wrong = next((k for k, v in net.state_dict().items() if whole[k] is None or whole[k].shape != v.shape), None)
    if wrong: raise InputError(f"{path}: no weights of DeepLab on MobileNet-v2 for 32 classes; {wrong} is missing or has another shape")
    net.load_state_dict(whole)
    return net.eval().requires_grad_(False)


def common_ids(names, side):
    "Table from ids of one side's classes to numbers of `COMMON`; 255 where there is none."
    numbers = {c: i for i, pair in enumerate(COMMON.values()) for c in pair[side].split()}
    table = np.full(256, UNLABELLED, np.uint8)
    table[:len(names)] = [numbers.get(n, UNLABELLED) for n in names]
    return table


class Judge:
    "How much of a layout DeepLab sees in a picture."
    def __init__(self, path, label_set):
        self.net, self.theirs, self.ours = load_deeplab(path), common_ids(CLASSES, 1), common_ids(label_set.classes, 0)

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
