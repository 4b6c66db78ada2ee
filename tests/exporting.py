"What tests of several models' exports share: the ONNX graph agrees with the model for any batch and any sides."
import numpy as np
import onnxruntime
import torch

from msca.base.labels import SCENE_LABELS
from msca.model.portable import PortableSynthesizer, export_program, write_onnx
from msca.pretrained.models import fold_spectral_norm


def scene_batch(b, h, w, eh, ew, seed=0):
    "uint8 layout, exemplar and its labels, in squares of 16."
    rng = np.random.default_rng(seed)
    squares = lambda n, high, width, classes: rng.integers(0, classes, (n, high//16, width//16)).repeat(16, 1).repeat(16, 2).astype(np.uint8)
    return dict(layout=squares(b, h, w, len(SCENE_LABELS)+2), exemplar=rng.integers(0, 256, (b, eh, ew, 3)).astype(np.uint8), exemplar_layout=squares(b, eh, ew, 6))


def check_onnx(model, folder, tolerance=1e-4):
    "The model's ONNX graph paints what the model paints, for three batches and shapes."
    portable = PortableSynthesizer(fold_spectral_norm(model.eval()).requires_grad_(False))
    write_onnx(export_program(portable), portable, folder/'model.onnx')
    graph = onnxruntime.InferenceSession(str(folder/'model.onnx'), providers=['CPUExecutionProvider'])
    for sizes in ((1, 64, 64, 64, 64), (2, 48, 96, 112, 64), (3, 64, 160, 32, 48)):
        inputs = scene_batch(*sizes)
        with torch.no_grad(): wanted = portable(*map(torch.from_numpy, inputs.values())).numpy()
        assert np.abs(graph.run(None, inputs)[0]-wanted).max() < tolerance < wanted.std()
