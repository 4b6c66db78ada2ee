"""Make the pictures of the gallery: `python docs/gallery.py [--check]`.

Runs the commands of docs/pages/gallery.md in the order in which they stand there, in an empty folder, and keeps the pictures that the page shows in
docs/pages/gallery. `--check` keeps nothing, and fails where a picture differs from the one that is there.
"""
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

PAGE = Path(__file__).parent/'pages'/'gallery.md'
KEPT = PAGE.parent/'gallery'


def commands():
    "The command lines of the page, without the browser's."
    lines = '\n'.join(re.findall(r'```sh\n(.*?)```', PAGE.read_text(encoding='utf-8'), re.S)).splitlines()
    return [shlex.split(line) for line in lines if line and line != 'msca app']


def shown():
    "Files of the gallery that the page shows."
    return [KEPT/name for name in re.findall(r'\]\(gallery/([\w.-]+)\)', PAGE.read_text(encoding='utf-8'))]


def difference(a, b):
    "Mean difference of two pictures in gray levels; 255 where their sizes differ."
    a, b = (np.asarray(Image.open(p).convert('RGB'), dtype=float) for p in (a, b))
    return float(np.abs(a-b).mean()) if a.shape == b.shape else 255.


def make(folder):
    "Run every command of the page in a folder, and write beside their output what the page shows: name → file."
    for command in commands():
        words = command[1:] if command[0] == 'python' else ['-m', *command]
        subprocess.run([sys.executable, *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    made = {}
    for kept in shown():
        source = next(p for p in Path(folder).rglob(f'{kept.stem}.*') if p.suffix in ('.png', kept.suffix) and (p.suffix == kept.suffix or kept.suffix == '.jpg'))
        made[kept] = source.with_suffix(kept.suffix)
        if source != made[kept]: Image.open(source).convert('RGB').save(made[kept], quality=88, optimize=True)
    return made


def main():
    with tempfile.TemporaryDirectory() as folder:
        made, apart = make(folder), []
        for kept, file in made.items():
            if '--check' in sys.argv: apart += [kept.name] if not kept.exists() or difference(kept, file) > 3 else []
            else:
                KEPT.mkdir(exist_ok=True)
                kept.write_bytes(file.read_bytes())
    if apart: sys.exit(f"other pictures than in docs/pages/gallery: {', '.join(apart)}; run python docs/gallery.py")


if __name__ == '__main__': main()
