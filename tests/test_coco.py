"COCO-Stuff from its archives to Table 1: drawn scenes packed as COCO packs its photos, one small model, every mistake that a download makes."
import hashlib
import json
import os
import shutil
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from complaints import complaint
from safetensors.torch import save_file
from torch.utils.data import Subset

from msca.base.files import save_image
from msca.base.labels import SCENE_LABELS, UNLABELLED, label_lut
from msca.commands.cli import main
from msca.data.coco import ARCHIVES, check_download, count_lines, download_lines, kind_counts, prepare_coco, scene_kinds
from msca.data.datasets import ProceduralScenes
from msca.data.published import COCO_STUFF_LABELS, CocoStuff
from msca.evidence.estimate import StepTimes
from msca.evidence.series import training_seconds
from msca.learning.recipe import TrainingConfig
from msca.learning.run import fitting_scenes
from msca.model.segmenter import load_segmenter
from msca.pretrained.models import model_folder

TRAIN, VAL = 8, 5


def numbers():
    "From ids of the shared set to the first id of COCO-Stuff that means the same and that pixels have."
    back = np.full(256, UNLABELLED, dtype=np.uint8)
    for i, shared in reversed(list(enumerate(label_lut(COCO_STUFF_LABELS, SCENE_LABELS)[0][:182]))):
        if i not in (67, 70): back[shared] = i
    back[UNLABELLED] = UNLABELLED
    return back


@pytest.fixture(scope='module')
def loose(tmp_path_factory):
    "The four folders, unpacked."
    folder, scenes, table = tmp_path_factory.mktemp('loose'), ProceduralScenes(TRAIN+VAL, 64, seed=2), numbers()
    for i in range(TRAIN+VAL):
        side = 'train2017' if i < TRAIN else 'val2017'
        save_image(scenes[i].image, folder/f'images/{side}/{i:012d}.jpg')
        save_image(table[scenes[i].labels], folder/f'stuffthingmaps/{side}/{i:012d}.png')
    return folder


@pytest.fixture(scope='module')
def archives(loose, tmp_path_factory):
    "The same as the three archives that people download."
    folder = tmp_path_factory.mktemp('archives')
    for a in ARCHIVES:
        with ZipFile(folder/a.name, 'w') as z:
            for inside, (where, _) in a.folders.items():
                z.writestr(f'{inside}/', '')  # as zip writes a folder
                for file in sorted((loose/where).iterdir()): z.write(file, f'{inside}/{file.name}')
    return folder


@pytest.fixture
def downloaded(archives, tmp_path): return shutil.copytree(archives, tmp_path/'coco')


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    "No curves are drawn, which takes longer than the training; a cache of our own."
    monkeypatch.setattr('msca.learning.history.RunLog.draw', lambda *_: None)
    monkeypatch.setenv('MSCA_CACHE', str(tmp_path/'cache'))


@pytest.fixture(scope='module')
def features(tmp_path_factory):
    "Options for SqueezeNet's metrics, with weights from the shipped parser's encoder."
    path = tmp_path_factory.mktemp('weights')/'squeezenet.safetensors'
    save_file({f'features.{k}': v.contiguous() for k, v in load_segmenter(model_folder())[0].encoder.features.state_dict().items()}, path)
    return ['--features', 'squeezenet', '--weights', str(path)]


def said(capsys, *argv, code=0):
    "What a command prints, and what it says on the error stream."
    capsys.readouterr()
    got = main(list(map(str, argv)))
    out, err = capsys.readouterr()
    assert got == code, (out, err)
    return out, err


def small(data, out, features, *more):
    "The smallest series."
    return ['reproduce', 'coco-stuff', '--data', data, '--out', out, '--part', '--config', 'compact', '--size', 32, '--batch-size', 4,
            '--pretrain-epochs', 1, '--warmup-epochs', 0, '--parser-epochs', 1, '--models', 'msca', '--seeds', 0, '--n', 3, '--device', 'cpu', *features, *more]


# ---- the whole ------------------------------------------------------------------------------------------------------

def test_from_archives_to_the_table(downloaded, features, capsys, tmp_path):
    "Unpacked, filtered, trained, stopped and gone on with, asked all three tasks, set beside the paper's numbers with intervals; done once."
    command, out = small(downloaded, tmp_path/'series', features, '--updates', 4), tmp_path/'series'
    with pytest.MonkeyPatch.context() as m:
        def stopped(*_): raise KeyboardInterrupt
        m.setattr('msca.evidence.series._train', stopped)
        _, err = said(capsys, *command, code=130)
    assert 'go on with the same command' in err
    steps = StepTimes(out/'steps.json').read()
    assert not steps['trainings']['finished'] and steps['parser']['finished']
    unpacked, parser = (p.stat().st_mtime_ns for p in (downloaded/'images'/'train2017', out/'parser'/'parser.safetensors'))
    text, _ = said(capsys, *command)
    assert unpacked == (downloaded/'images'/'train2017').stat().st_mtime_ns and parser == (out/'parser'/'parser.safetensors').stat().st_mtime_ns
    assert f'of {TRAIN} photos kept (paper: 34,698)' in text and 'paper: psnr | 17.03' in text
    told = json.loads((out/'table1.json').read_text())
    assert {r['task'] for r in told['table']} == {'duplicating', 'mirroring', 'retrieving'}
    rows = {(r['task'], r['metric']): r for r in told['table']}
    paper = {(t, m): rows[t, m]['paper'] for t in ('retrieving', 'mirroring') for m in ('psnr', 'squeezenet_distance', 'squeezenet_fid', 'squeezenet_style', 'ssim')}
    assert list(paper.values()) == [16.65, .437, 91.91, 5.34e-4, None, 17.03, .397, 76.75, 3.96e-4, None]
    for r in told['table']:
        if r['metric'] in ('psnr', 'squeezenet_distance'): assert r['low'] <= r['value'] <= r['high']
    assert rows['mirroring', 'squeezenet_fid']['low'] is None  # a metric of sets has no interval
    assert 'A trial of the program' in told['remarks'][0] and 'size 32 (paper: 256)' in told['remarks'][1]
    took, = told['trainings']
    assert took['updates'] == 4 and took['peak_gb'] > .1
    steps = StepTimes(out/'steps.json').read()
    assert all(s['finished'] for s in steps.values()) and steps['trainings']['sittings'] == 2
    assert {'unpack', 'look', 'filter', 'parser', 'photos', 'trainings', 'questions msca', 'references', 'tables'} <= set(steps)
    again, _ = said(capsys, *command)
    assert 'msca: trained already' in again and json.loads((out/'table1.json').read_text())['table'] == told['table']
    assert 'begun with another' in said(capsys, *small(downloaded, out, features, '--updates', 5), code=2)[1]


def test_estimate(loose, features, capsys, tmp_path):
    "Measured, multiplied by the schedule and the paper's numbers, written down; nothing is trained, and the sum is that of its parts."
    out = tmp_path/'series'
    text, _ = said(capsys, *small(loose, out, features, '--estimate', 1, '--tasks', 'mirroring'))
    told = json.loads((out/'estimate.json').read_text())
    steps = {s['name']: s for s in told['steps']}
    assert set(steps) == {'parser', 'photos', 'training msca', 'questions', 'references'} and not (out/'models').exists() and not (out/'parser').exists()
    assert (told['photos'], told['questions']) == (34_696, 499) and 'extrapolated' in text and told['total'] in text
    each, config = steps['training msca']['batch_seconds'], TrainingConfig.from_dict(told['recipe'])
    assert steps['training msca']['seconds'] == pytest.approx(training_seconds(config, 34_696, each), rel=.01)
    assert told['total_seconds'] == pytest.approx(sum(s['seconds'] for s in told['steps']), abs=2)
    assert steps['training msca']['peak_gb'] > .1


@pytest.mark.slow
def test_the_paper_shape_is_estimated(loose, features, capsys, tmp_path):
    "The paper's configuration goes all the way, with a file of random weights in VGG-19's shapes for both of its uses."
    from torchvision.models import vgg19
    weights = tmp_path/'vgg19.safetensors'
    save_file({k: v.contiguous() for k, v in vgg19(weights=None).features.state_dict().items()}, weights)
    command = [a for a in small(loose, tmp_path/'series', features, '--estimate', 1, '--tasks', 'mirroring', '--vgg-weights', weights) if a not in ('--config', 'compact')]
    said(capsys, *command)
    told = json.loads((tmp_path/'series'/'estimate.json').read_text())
    assert 'paper shape' in told['about'] and told['recipe']['perceptual'] == 'vgg19' and told['recipe']['generator_every'] == 5


# ---- what can be wrong with a download ------------------------------------------------------------------------------

def refusal(capsys, *argv):
    "The only line on the error stream of a command that ends with code 2."
    out, err = said(capsys, *argv, code=2)
    assert err.count('\n') == 1 and err.startswith('msca: error: '), err
    return err


def cut(path, keep): path.write_bytes(path.read_bytes()[:keep])


def test_bad_downloads_end_in_one_line(downloaded, capsys, tmp_path):
    command = lambda data, *more: ('reproduce', 'coco-stuff', '--data', data, '--out', tmp_path/'series', *more)
    (tmp_path/'empty').mkdir()
    assert 'no such file' in refusal(capsys, *command(tmp_path/'nowhere'))
    assert 'needs train2017.zip' in refusal(capsys, *command(tmp_path/'empty'))
    assert 'half a download' in refusal(capsys, *command(downloaded)) and 'wget -c http' in refusal(capsys, *command(downloaded))
    maps = downloaded/ARCHIVES[2].name
    maps.rename(tmp_path/'maps.zip')
    assert 'needs stuffthingmaps_trainval2017.zip' in refusal(capsys, *command(downloaded, '--part'))
    (tmp_path/'maps.zip').rename(maps)
    cut(maps, maps.stat().st_size//2)
    assert 'no table of contents' in refusal(capsys, *command(downloaded, '--part'))
    assert 'give --data' in refusal(capsys, 'reproduce', 'coco-stuff', '--out', tmp_path/'series')
    assert '--estimate goes with coco-stuff' in refusal(capsys, 'reproduce', 'table1', '--procedural', 9, '--updates', 9, '--estimate', '--out', tmp_path/'series')
    assert not (tmp_path/'series').exists()


def test_unpacked_and_incomplete(loose, tmp_path, capsys):
    "Fewer files than published are an error unless a part is meant; a photo without map is one anyway; other places are found."
    assert f'{TRAIN} of 118,287 files' in complaint(prepare_coco, loose)
    assert prepare_coco(loose, part=True) == dict(train=TRAIN, val=VAL)
    other = shutil.copytree(loose, tmp_path/'other')
    (other/'stuffthingmaps').rename(other/'annotations')
    assert prepare_coco(other, part=True) == dict(train=TRAIN, val=VAL)
    next((other/'annotations'/'val2017').iterdir()).unlink()
    assert 'has no partner' in refusal(capsys, 'reproduce', 'coco-stuff', '--data', other, '--part', '--out', tmp_path/'series')
    (other/'annotations'/'train2017').rename(other/'away')
    assert 'no label maps of the side train2017' in complaint(prepare_coco, other, True)


def test_damage_is_found_and_nothing_is_left(downloaded):
    path = downloaded/'val2017.zip'
    data = bytearray(path.read_bytes())
    data[len(data)//3] ^= 255
    path.write_bytes(data)
    assert 'damaged at val2017/' in complaint(prepare_coco, downloaded, True)
    assert sorted(p.name for p in (downloaded/'images').iterdir()) == ['train2017']  # what was whole before stays


def test_published_size_and_checksum(downloaded):
    "Both are compared where they are known; a part is not held against them."
    path = downloaded/'val2017.zip'
    known = ARCHIVES[1]._replace(folders={'val2017': ('images/val2017', VAL)}, size=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(check_download(path, known)['val2017']) == VAL
    assert f'{VAL} files' in complaint(check_download, path, known._replace(folders={'val2017': ('images/val2017', VAL+1)}))
    assert 'its SHA-256 is not' in complaint(check_download, path, known._replace(sha256='0'*64))
    check_download(path, known._replace(sha256='0'*64), part=True)
    cut(path, 1000)
    assert '1,000 of ' in complaint(check_download, path, known)


def test_downloads_are_a_script(capsys):
    out, _ = said(capsys, 'reproduce', 'coco-stuff', '--downloads')
    lines = out.splitlines()
    assert lines == download_lines() and [x.split()[-1].rsplit('/', 1)[-1] for x in lines[1::2]] == [a.name for a in ARCHIVES]
    assert all(x.startswith('# ') for x in lines[::2]) and 'no checksum is published' in lines[4]
    assert all(len(a.sha256) == 64 for a in ARCHIVES if a.sha256)


# ---- the filter, and what it costs ----------------------------------------------------------------------------------

def test_kinds_are_counted_once(loose, tmp_path, monkeypatch):
    source = CocoStuff(loose, None)
    kinds = scene_kinds(source, tmp_path/'kinds.json')
    counts = kind_counts(source, kinds)
    assert {s: sum(c.values()) for s, c in counts.items()} == dict(train=TRAIN, val=VAL)
    assert count_lines(counts, 'all')[0].startswith(f'train: {TRAIN} of {TRAIN} photos kept: ')
    monkeypatch.setattr(CocoStuff, 'own_ids', lambda *_: pytest.fail('counted again'))
    assert scene_kinds(source, tmp_path/'kinds.json') == kinds
    monkeypatch.undo()
    (tmp_path/'kinds.json').write_text('{"scenes"')
    assert scene_kinds(source, tmp_path/'kinds.json') == kinds


def test_sizes_of_a_part_are_read_from_headers(loose, monkeypatch):
    "A series hands on parts of parts; none of their photos is decoded to learn its size."
    source = CocoStuff(loose, None)
    monkeypatch.setattr(CocoStuff, '__getitem__', lambda *_: pytest.fail('decoded'))
    part = fitting_scenes(Subset(Subset(source, [5, 4, 3, 2, 1]), [0, 1, 2, 3]), TrainingConfig(size=32), 'training')
    assert part.indices == [0, 1, 2, 3]


@pytest.mark.skipif(not os.environ.get('MSCA_DATA'), reason='MSCA_DATA does not name a folder of real datasets')
def test_real_photos(tmp_path):
    path = Path(os.environ['MSCA_DATA'])/'coco_stuff_samples'
    if not path.is_dir(): pytest.skip('MSCA_DATA has no coco_stuff_samples')
    assert prepare_coco(path, part=True) == dict(train=13, val=8)
    source = CocoStuff(path, None)
    counts = kind_counts(source, scene_kinds(source, tmp_path/'kinds.json'))
    assert counts == dict(train=dict(objects=7, outdoor=3, indoor=2, unclear=1), val=dict(outdoor=3, objects=3, indoor=2))
    assert 'of 118,287' not in complaint(prepare_coco, path) and 'needs train2017.zip' in complaint(prepare_coco, path)
