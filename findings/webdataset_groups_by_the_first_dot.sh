#!/usr/bin/env bash
# webdataset 1.0.2: a sample's key ends at the FIRST dot of a file name. Names with dots in the stem, which are usual for labelled photos
# (exports like street7_jpg.rf.a1f.jpg, versions like v1.0_001.jpg), are grouped wrongly and without a word: photos of different scenes become
# one sample when they share the text before their first dot, and the fields are called 'rf.a1f.jpg' instead of 'jpg'.
# Seen: six files of three pairs come out as two samples; the second holds four files of two scenes.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv v && v/bin/pip -q install webdataset==1.0.2 >/dev/null 2>&1
v/bin/python - <<'P'
import io, tarfile
import webdataset as wds
pairs = ['street7_jpg.rf.a1f', 'v1.0_001', 'v1.0_002']
with tarfile.open('a.tar', 'w') as tar:
    for stem in pairs:
        for end in ('jpg', 'png'):
            entry = tarfile.TarInfo(f'{stem}.{end}')
            entry.size = 1
            tar.addfile(entry, io.BytesIO(b'x'))
found = [{k for k in s if not k.startswith('__')} | {'key ' + s['__key__']} for s in wds.WebDataset('a.tar', shardshuffle=False)]
for f in found: print(sorted(f))
assert found == [{'key street7_jpg', 'rf.a1f.jpg', 'rf.a1f.png'}, {'key v1', '0_001.jpg', '0_001.png', '0_002.jpg', '0_002.png'}], found
print('as described')
P
