"The cache of decoded photos from the outside: several processes, kills, broken files, full disks, and what a training reads from it."
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset

warnings.filterwarnings('ignore', category=FutureWarning)

from msca.base.labels import SCENE_LABELS, InputError
from msca.data import cache as cache_module
from msca.data.cache import MappedArrays, cache_entries, cache_folder, clear_cache, scene_keys
from msca.data.datasets import MixedScenes, ProceduralScenes, SceneFolder, write_scenes
from msca.learning.samples import EpochDataLoader, PairDataset, PhotoStore

torch.set_num_threads(1)


class Threshold:
    "A parser: sky where it is bright, trees where it is dark. Notes how often it was asked."
    def __init__(self, threshold): self.threshold, self.parsed = threshold, 0
    def digest(self): return str(self.threshold)

    def __call__(self, photos):
        self.parsed += len(photos)
        return [np.where(np.asarray(p.convert('L')) > self.threshold, 0, 7).astype(np.uint8) for p in photos]


def bits(store): return [tuple((a.shape, a.tobytes()) for a in store[i]) for i in range(len(store))]


def files(folder): return sorted(p.name for p in Path(folder).iterdir())


@pytest.fixture
def photos(tmp_path):
    "A folder of eight photos."
    write_scenes(ProceduralScenes(8, 72, seed=3), tmp_path/'photos')
    return tmp_path/'photos'


# ---- what is in it

def test_equal_to_uncached(photos, tmp_path):
    "Photos, annotated and parsed maps by way of the cache are those without it, in memory-sized and other selections."
    source = MixedScenes([SceneFolder(photos), ProceduralScenes(5, 100, seed=1)], [3, 1])
    for scenes in (source, Subset(source, [28, 3, 11, 19, 4]), Subset(Subset(source, range(20, 29)), [8, 0, 3])):
        for parser in (None, Threshold(100)):
            plain = PhotoStore(scenes, 32, parser)
            for _ in range(2): assert bits(PhotoStore(scenes, 32, parser, tmp_path/'cache')) == bits(plain)


@pytest.mark.skipif('MSCA_DATA' not in os.environ, reason='needs real photos in $MSCA_DATA')
def test_equal_to_uncached_on_real_photos(tmp_path):
    "Real photos of all sizes, the shipped parser."
    from msca.model.segmenter import load_segmenter
    from msca.pretrained.models import PRETRAINED
    parser = load_segmenter(PRETRAINED/'scenes-128')[0].parse
    folders = [SceneFolder(p) for p in sorted(Path(os.environ['MSCA_DATA']).iterdir()) if (p/'classes.txt').is_file()]
    scenes = MixedScenes(folders)
    some = Subset(scenes, range(0, len(scenes), 211))
    assert bits(PhotoStore(some, 64, parser, tmp_path)) == bits(PhotoStore(some, 64, parser))


def test_name_changes_with_data_and_options(photos, tmp_path):
    "Whatever shapes an array shapes the name of its file: photos, maps, the meaning of ids, order, size, parser."
    cache, seen = tmp_path/'cache', set()

    def new_files(size=32, parser=None, pick=None, label_set=SCENE_LABELS):
        source = SceneFolder(photos, label_set)
        store = PhotoStore(source if pick is None else Subset(source, pick), size, parser, cache).prepare()
        assert bits(store) == bits(PhotoStore(store.scenes, size, parser))
        made = set(files(cache)) - seen
        seen.update(made)
        return len(made)

    assert new_files() == 1
    assert new_files() == 0
    assert new_files(size=16) == 1
    assert new_files(pick=range(7)) == new_files(pick=[1, 0]) == new_files(pick=[0, 1]) == 1
    assert new_files(pick=range(8)) == 0                       # all of them in order: the same photos
    assert new_files(parser=Threshold(100)) == 1               # maps alone
    assert new_files(parser=Threshold(50)) == 1
    first = photos/'images'/'procedural_3000000.png'
    Image.open(first).rotate(180).save(first)
    assert new_files() == 1
    labels = photos/'labels'/'procedural_3000004.png'
    Image.open(labels).transpose(0).save(labels)
    assert new_files(parser=Threshold(100)) == 2
    names = (photos/'classes.txt').read_text().split('\n')
    (photos/'classes.txt').write_text('\n'.join([names[1], names[0], *names[2:]]))
    assert new_files() == 1


def test_photo_and_parsed_maps_are_separate(photos, tmp_path, monkeypatch):
    "A new parser parses what the cache holds and decodes nothing."
    PhotoStore(SceneFolder(photos), 16, None, tmp_path/'cache').prepare()
    monkeypatch.setattr(SceneFolder, '__getitem__', lambda *_: pytest.fail('a photo was decoded'))
    parser = Threshold(100)
    for _ in range(2): bits(PhotoStore(SceneFolder(photos), 16, parser, tmp_path/'cache'))
    assert parser.parsed == 8


@pytest.mark.parametrize('start', ['fork', 'spawn'])
def test_read_by_other_processes(photos, tmp_path, start):
    "A prepared store is small in a pickle, and gives the same arrays in processes that were forked or started anew."
    store = PhotoStore(SceneFolder(photos), 32, Threshold(100), tmp_path/'cache').prepare()
    with ProcessPoolExecutor(1, get_context(start)) as pool: theirs = pool.submit(bits, store).result()
    assert theirs == bits(PhotoStore(SceneFolder(photos), 32, Threshold(100)))


# ---- several processes

# what the processes below begin with: they need not wait for torch
CHILD = """
import json, os, resource, sys, time
import numpy as np
from msca.base.labels import InputError
from msca.data import cache

def ask(folder, log, seconds):
    "Arrays from the cache; the reader appends its process number to a file for every item."
    def read(numbers):
        for i in numbers:
            with open(log, 'a') as f: f.write(f'{os.getpid()} ')
            time.sleep(seconds)
            yield np.full((40, 40+i, 3), i, np.uint8), np.full((40, 40+i), 255-i, np.uint8)
    arrays = cache.cached_arrays(folder, 'photos', [f'item {i}' for i in range(12)], {}, read)
    assert len(arrays) == 12
    for i, (photo, labels) in enumerate(arrays): assert photo.shape == (40, 40+i, 3) and (photo == i).all() and (labels == 255-i).all()
"""


def elsewhere(code, **names):
    "A process that runs a line with these names."
    code = f'{CHILD}\nglobals().update({names!r})\n{code}'
    return subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def asking(folder, log, seconds, before=''):
    code = f'{before}\nimport warnings\nwarnings.simplefilter("ignore")\nask(folder, log, seconds)'
    return elsewhere(code, folder=str(folder), log=str(log), seconds=seconds)


def finish(process):
    "Its output, if it ended well and without a word on stderr."
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, '')
    return out


def wait_for(log, lines, process):
    for _ in range(2000):
        if log.is_file() and len(log.read_text().split()) >= lines: return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(.02)
    pytest.fail('nothing was read')


def test_two_processes_build_once(tmp_path):
    "Two processes ask at once: one makes the file, the other waits for it and reads nothing."
    log, cache = tmp_path/'log', tmp_path/'cache'
    both = [asking(cache, log, .1) for _ in range(2)]
    for process in both: finish(process)
    readers = log.read_text().split()
    assert len(readers) == 12 and len(set(readers)) == 1
    assert [e.items for e in cache_entries(cache)] == [12] and len(files(cache)) == 1


def test_killed_while_building(tmp_path):
    "kill -9 on the maker: who was waiting takes over, and nothing of the dead one is left."
    log, cache = tmp_path/'log', tmp_path/'cache'
    maker = asking(cache, log, .5)
    wait_for(log, 3, maker)
    heir = asking(cache, log, .01)
    time.sleep(1)
    assert [e.kind for e in cache_entries(cache)] == ['unfinished'] and clear_cache(cache) == 0   # in the making: left alone
    maker.send_signal(signal.SIGKILL)
    maker.communicate()
    finish(heir)
    readers = log.read_text().split()
    assert readers.count(str(maker.pid)) < 12 and readers.count(str(heir.pid)) == 12
    assert [e.kind for e in cache_entries(cache)] == ['photos'] and len(files(cache)) == 1


def test_what_a_killed_process_left_can_be_cleared(tmp_path):
    "A file that nobody finishes is listed as unfinished, and goes when the cache is cleared."
    log, cache = tmp_path/'log', tmp_path/'cache'
    maker = asking(cache, log, .5)
    wait_for(log, 2, maker)
    maker.send_signal(signal.SIGKILL)
    maker.communicate()
    (left,) = cache_entries(cache)
    assert (left.kind, left.items) == ('unfinished', 0)
    clear_cache(cache)
    assert files(cache) == []


def test_without_locks_one_wins(tmp_path):
    "On file systems without locks both make the file; both get whole arrays, and one file stays."
    without = """
def refuse(self, *args, **kwargs): raise OSError(37, 'No locks available')
def until_both_read(seconds, sleep=time.sleep):
    while len(set(open(log).read().split())) < 2: sleep(.01)
cache.FileLock.acquire, time.sleep = refuse, until_both_read
"""
    log, cache = tmp_path/'log', tmp_path/'cache'
    both = [asking(cache, log, 0, without) for _ in range(2)]
    for process in both: finish(process)
    readers = log.read_text().split()
    assert {readers.count(str(p.pid)) for p in both} == {12}
    assert len(files(cache)) == 1


# ---- what goes wrong

@pytest.mark.parametrize('damage', ['half', 'last byte', 'empty', 'zeros', 'text', 'other zip', 'folder'])
def test_damaged_file_is_made_again(photos, tmp_path, damage):
    "A file that is cut short or something else is noticed and replaced."
    scenes, cache = SceneFolder(photos), tmp_path/'cache'
    wanted = bits(PhotoStore(scenes, 32))
    PhotoStore(scenes, 16, None, cache).prepare()
    (other,) = cache.iterdir()
    PhotoStore(scenes, 32, None, cache).prepare()
    (path,) = set(cache.iterdir()) - {other}
    whole = path.read_bytes()
    if damage == 'folder':
        path.unlink()
        path.mkdir()
        with pytest.raises(InputError, match='cannot be written'): PhotoStore(scenes, 32, None, cache)[0]
        return
    damaged = {'half': whole[:len(whole)//2], 'last byte': whole[:-1], 'empty': b'', 'zeros': bytes(len(whole)), 'text': b'hello',
               'other zip': other.read_bytes()}
    path.write_bytes(damaged[damage])
    assert bits(PhotoStore(scenes, 32, None, cache)) == wanted
    assert path.read_bytes() == whole and len(files(cache)) == 2


def test_full_disk(tmp_path):
    "One line that names the folder, nothing left behind, and no noise. (Here files may have 30 kB.)"
    code = """
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
try: ask(folder, log, 0)
except InputError as e: print(json.dumps(str(e)))
"""
    message = json.loads(finish(elsewhere(code, folder=str(tmp_path/'cache'), log=str(tmp_path/'log'))))
    assert '\n' not in message and str(tmp_path/'cache') in message and 'make room' in message
    assert files(tmp_path/'cache') == []


def test_folder_that_cannot_be_written(photos, tmp_path, monkeypatch):
    "Chosen: an error that names it. Not chosen: a warning, and photos stay in memory."
    (tmp_path/'file').write_text('in the way')
    monkeypatch.delenv('MSCA_CACHE', raising=False)
    monkeypatch.setattr(cache_module, 'user_cache_path', lambda *_, **__: tmp_path/'file'/'msca')
    with pytest.warns(UserWarning, match='cannot be written'): assert cache_folder() is None
    chosen = cache_folder(tmp_path/'file'/'mine')
    with pytest.raises(InputError, match='cannot be written') as e: PhotoStore(SceneFolder(photos), 32, None, chosen)[0]
    assert '\n' not in str(e.value)


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_folder_without_permission(photos, tmp_path):
    "The same where the system forbids it."
    (tmp_path/'locked').mkdir(mode=0o555)
    with pytest.raises(InputError, match='cannot be written'): PhotoStore(SceneFolder(photos), 32, None, tmp_path/'locked')[0]
    assert files(tmp_path/'locked') == []


def test_broken_photo_is_named(photos, tmp_path):
    "A photo that cannot be read stops the making under its own name and leaves nothing."
    bad = photos/'images'/'procedural_3000005.png'
    bad.write_bytes(bad.read_bytes()[:2000])
    with pytest.raises(InputError, match=r'procedural_3000005\.png'): PhotoStore(SceneFolder(photos), 32, None, tmp_path/'cache').prepare()
    assert files(tmp_path/'cache') == []


def test_building_needs_little_memory(tmp_path):
    "Making a file of 100 MB takes no memory that shows."
    code = """
def read(numbers):
    for i in numbers: yield np.full((512, 512, 3), i, np.uint8), np.full((512, 512), i, np.uint8)
def peak(n):
    cache.cached_arrays(folder, 'photos', [str(i) for i in range(n)], {}, read)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(-peak(2) + peak(100))
"""
    grown = int(finish(elsewhere(code, folder=str(tmp_path))))/(1024 if sys.platform != 'darwin' else 1024**2)
    assert max(p.stat().st_size for p in tmp_path.iterdir()) > 100e6
    assert grown < 15, grown


# ---- batches

@pytest.mark.parametrize('stage', [1, 2])
@pytest.mark.parametrize('world_size', [2, 4])
def test_shares_make_the_batch(photos, tmp_path, stage, world_size):
    "What all ranks see together is what one process sees, batch for batch, also after resuming in the middle of an epoch."
    source = MixedScenes([SceneFolder(photos), ProceduralScenes(11, 64, seed=5)])

    def loader(rank, world_size, cache, skip):
        dataset = PairDataset(PhotoStore(source, 32, Threshold(100), cache), stage, seed=4)
        dl = EpochDataLoader(dataset, len(SCENE_LABELS), 8, 4, True, rank, world_size)
        dl.set_epoch(3, skip)
        return dl

    for skip in (0, 1):
        alone, shares = loader(0, 1, None, skip), [loader(rank, world_size, tmp_path/'cache', skip) for rank in range(world_size)]
        assert {len(dl) for dl in shares} == {len(alone)} == {19//(8//stage)}
        batches = list(zip(alone, *shares, strict=True))
        assert len(batches) == len(alone)-skip
        for whole, *parts in batches:
            tasks = torch.cat([p[-1] for p in parts])
            order = tasks.argsort(stable=True)
            for k, wanted in enumerate(whole): assert torch.equal(torch.cat([p[k] for p in parts])[order], wanted)


def test_batch_that_cannot_be_shared():
    "The message says which batch sizes can."
    store = PhotoStore(ProceduralScenes(8, 64), 32)
    for stage, fits in ((1, 3), (2, 6)):
        with pytest.raises(InputError, match=f'multiple of {fits}$'): EpochDataLoader(PairDataset(store, stage), 17, 8, world_size=3)


def test_keys_through_subsets():
    "A training wraps its sources; what has no keys says so instead of failing."
    source = MixedScenes([ProceduralScenes(4, 64), ProceduralScenes(3, 32)])
    keys = scene_keys(source)
    assert len(set(keys)) == 7
    assert scene_keys(Subset(Subset(source, np.array([6, 2, 5])), [0, 2])) == [keys[6], keys[5]]
    assert scene_keys([source[0]]) is None
    assert scene_keys(Subset([source[0]], [0])) is None


def test_damaged_mapping_is_one_line(tmp_path):
    (tmp_path/'x.zip').write_bytes(b'PK')
    with pytest.raises(InputError) as e: MappedArrays(tmp_path/'x.zip')
    assert '\n' not in str(e.value)
