"""How fast the exported forms paint, beside PyTorch: `python benchmarks/export_speed.py --out results/export.json`."""
import argparse
import json
import os
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from msca import Synthesizer
from msca.model.portable import PortableSynthesizer, write_portable


def seconds(paint, repeats):
    "Median processor time of a call."
    took = []
    paint()
    for _ in range(repeats):
        start = time.process_time()
        paint()
        took.append(time.process_time()-start)
    return float(np.median(took))


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('--model', help='a shipped model or a checkpoint folder (default: the shipped model)')
    ap.add_argument('--repeats', type=int, default=15)
    ap.add_argument('--out', required=True, type=Path)
    a = ap.parse_args()
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    s, rng = Synthesizer.load(a.model, 'cpu', quiet=True), np.random.default_rng(0)
    options, found = onnxruntime.SessionOptions(), {}
    options.intra_op_num_threads = 1
    eager = PortableSynthesizer(s.model)
    with tempfile.TemporaryDirectory() as d:
        files = write_portable(s.model, None, s.label_set, s.size, s.notice, d)
        program, graph = torch.export.load(files[1]).module(), onnxruntime.InferenceSession(str(files[0]), options)
        mib = {p.name: round(p.stat().st_size/2**20, 1) for p in files[:2]}
    for side in (128, 256):
        ids, photo = rng.integers(0, len(s.label_set), (1, side, side), dtype=np.uint8), rng.integers(0, 256, (1, side, side, 3), dtype=np.uint8)
        given = dict(layout=ids, exemplar=photo, exemplar_layout=ids.copy())
        tensors = [torch.from_numpy(v) for v in given.values()]
        with torch.inference_mode():
            wanted = eager(*tensors).numpy()
            took = dict(pytorch=seconds(lambda: eager(*tensors), a.repeats), torch_export=seconds(lambda: program(*tensors), a.repeats),
                        onnxruntime=seconds(lambda: graph.run(None, given), a.repeats))
            apart = dict(torch_export=float(abs(program(*tensors).numpy()-wanted).max()), onnxruntime=float(abs(graph.run(None, given)[0]-wanted).max()))
        found[f'{side}x{side}'] = dict(processor_seconds={k: round(v, 4) for k, v in took.items()}, against_pytorch={k: round(v/took['pytorch'], 2) for k, v in took.items()},
                                       largest_difference={k: float(f'{v:.1e}') for k, v in apart.items()})
        print(side, found[f'{side}x{side}'], flush=True)
    about = dict(command=f'python benchmarks/export_speed.py --out results/{a.out.name}', seed=0, data='random ids and pixels', date=time.strftime('%Y-%m-%d'),
                 hardware=f'one thread of a shared CPU ({os.uname().machine})', torch=torch.__version__, onnxruntime=onnxruntime.__version__)
    a.out.write_text(json.dumps(dict(made_by=about, model=s.name, mib=mib, **found), indent=1)+'\n')


if __name__ == '__main__': main()
