"""Pack what the training of scenes-256 needs into a folder small enough to be carried to a rented GPU.

    python benchmarks/gpu_pack.py --data $MSCA_DATA --perceptual-weights $WEIGHTS/vgg19_small16x_fp16.npz --backbone-weights $WEIGHTS/efficientnet_lite0_fp16.npz --out gpu-pack

`photos.zip` holds the photos of `train_scenes.py` at a short side of 256 as JPEG, their annotated and their parsed maps as PNG, on the sides of the split by place: all held-out
ones that its sample grids draw from (an even selection) and as many training photos as fit, an even selection too. `pack.json` tells what was chosen. The networks of the losses
are copied beside it. `docs/pages/howto/one-gpu.md` goes on from there.
"""
import argparse
import io
import json
import shutil
import time
import zipfile
from pathlib import Path

from PIL import Image
from train_scenes import FOLDERS, stores

from msca.base.files import write_whole
from msca.pretrained.models import PRETRAINED


def encoded(arrays, quality):
    "A photo and its two maps as the bytes of three files, by ending."
    files = {}
    for array, end in zip(arrays, ('photo.jpg', 'labels.png', 'parsed.png')):
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, **(dict(format='JPEG', quality=quality) if end.endswith('jpg') else dict(format='PNG', optimize=True)))
        files[end] = buffer.getvalue()
    return files


def evenly(n, wanted): return [k*n//wanted for k in range(min(n, wanted))] if wanted < n else list(range(n))


def chosen(store, quality, most):
    "Encoded photos of a store by index: all, or the densest even selection that stays below so many bytes."
    files = {i: encoded(store[i], quality) for i in range(len(store))}
    size = {i: sum(map(len, f.values())) + 600 for i, f in files.items()}   # the zip's own entries
    low, high = 0, len(store)
    while low < high:
        middle = (low+high+1)//2
        low, high = (middle, high) if sum(size[i] for i in evenly(len(store), middle)) <= most else (low, middle-1)
    return {i: files[i] for i in evenly(len(store), low)}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--data', required=True, help='folder with the photo sets')
    ap.add_argument('--perceptual-weights', required=True, type=Path, help='local file of the perceptual loss')
    ap.add_argument('--backbone-weights', required=True, type=Path, help="local file of the semantic discriminator's backbone")
    ap.add_argument('--parser', default=PRETRAINED/'scenes-256', help='parser folder')
    ap.add_argument('--cache', type=Path, help='folder for decoded photos (default: in OUT)')
    ap.add_argument('--quality', type=int, default=80, help='of the JPEGs (default: 80)')
    ap.add_argument('--mebibytes', type=float, default=45, help='most that photos.zip may take (default: 45)')
    ap.add_argument('--held-out', type=int, default=100, help='held-out photos (default: 100)')
    ap.add_argument('--out', required=True, type=Path)
    a = ap.parse_args()
    a.pack, a.cache, start = None, a.cache or a.out/'cache', time.time()
    a.out.mkdir(parents=True, exist_ok=True)
    train, valid = stores(a)
    held_out = {i: encoded(valid[i], a.quality) for i in evenly(len(valid), a.held_out)}
    budget = a.mebibytes*2**20 - sum(len(b)+200 for f in held_out.values() for b in f.values())
    packed = dict(val=held_out, train=chosen(train, a.quality, budget))
    with write_whole(a.out/'photos.zip') as part, zipfile.ZipFile(part, 'w', zipfile.ZIP_STORED) as pack:
        for side, photos in packed.items():
            for i, files in photos.items():
                for end, data in files.items(): pack.writestr(f'{side}/{i:05d}.{end}', data)
    for path, name in ((a.perceptual_weights, 'perceptual'), (a.backbone_weights, 'backbone')): shutil.copyfile(path, a.out/f'{name}{path.suffix}')
    size = (a.out/'photos.zip').stat().st_size
    about = dict(sets=FOLDERS, train=len(packed['train']), of=len(train), val=len(held_out), quality=a.quality, bytes=size, seconds=round(time.time()-start))
    (a.out/'pack.json').write_text(json.dumps(about, indent=1)+'\n')
    print(f"{a.out}/photos.zip: {len(packed['train'])} of {len(train)} training photos and {len(held_out)} held-out ones, {size/2**20:.1f} MiB")


if __name__ == '__main__': main()
