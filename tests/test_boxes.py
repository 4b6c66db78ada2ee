"A layout from boxes: the command, mistakes in it, and real photos as memory."
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msca.base.labels import SCENE_LABELS
from msca.commands.cli import main
from msca.data.boxes import Box
from msca.data.datasets import ProceduralScenes, write_scenes
from msca.data.published import open_dataset
from msca.data.scene import load_labels
from msca.pretrained.synthesizer import Synthesizer
from msca.steering.boxed_layouts import BoxIndex, boxed_layout, find_outlines

SKY, TREE = map(SCENE_LABELS.index, ('sky', 'tree'))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    "A folder of drawn scenes, which lies where commands run."
    monkeypatch.chdir(tmp_path)
    write_scenes(ProceduralScenes(12, 64, seed=4), 'photos')
    return ['--data', 'photos', '--cache', 'cache', '--size', '64']


def test_a_layout_that_other_commands_take(photos, capsys):
    assert main(['boxes', '--box', 'sky=0,0,1,.5', *photos]) == 0
    assert 'over the layout of procedural_' in capsys.readouterr().out
    with Image.open('layout.png') as im: ids, mode = np.array(im), im.mode
    assert mode == 'P' and ids.shape == (64, 64) and (ids[:32] == SKY).all() and not (ids[32:] == SKY).any()
    Image.effect_noise((64, 64), 60).convert('RGB').save('noise.png')
    assert main(['synth', 'layout.png', 'noise.png', '--size', '64', '--out', 'out.png']) == 0
    assert Image.open('out.png').size == (64, 64)


def test_the_picture_is_painted_in_a_precision(photos):
    "What `--exemplar` paints is the picture of `Synthesizer.load(precision=)`."
    Image.effect_noise((64, 64), 60).convert('RGB').save('noise.png')
    found = {}
    for p in ('float32', 'bfloat16'):
        assert main(['boxes', '--box', 'sky=0,0,1,.5', *photos, '--exemplar', 'noise.png', '--device', 'cpu', '--precision', p, '--picture', f'{p}.png']) == 0
        with Image.open(f'{p}.png') as im: found[p] = np.asarray(im, int)
        own = Synthesizer.load(device='cpu', quiet=True, precision=p)(load_labels('layout.png', SCENE_LABELS), 'noise.png')
        assert (found[p] == np.asarray(own)).all()
    assert 0 < abs(found['float32']-found['bfloat16']).mean() < 1


def test_pixels_and_shares_are_one(photos):
    Path('b.json').write_text(json.dumps(dict(size=[128, 128], boxes=[{'class': 'tree', 'box': [32, 32, 96, 96]}])))
    for name, given in (('a', ['--box', 'tree=16,16,48,48']), ('b', ['--boxes', 'b.json']), ('c', ['--box', 'tree=.25,.25,.75,.75'])):
        assert main(['boxes', *given, *photos, '--out', f'{name}.png']) == 0
    assert Path('a.png').read_bytes() == Path('b.png').read_bytes() == Path('c.png').read_bytes()


@pytest.mark.parametrize('argv, said', [
    ([], 'no box is given'), (['--box', 'sky'], 'is not CLASS=left,top,right,bottom'), (['--box', 'skies=0,0,1,1'], "'skies': no class of"),
    (['--box', 'sky=.5,0,.2,1'], 'is no box in the picture'), (['--box', 'sky=0,0,1,inf'], 'needs four numbers'), (['--boxes', 'none.csv'], 'no such file'),
    (['--box', 'sky=0,0,1,1', '--rank', '13'], 'there are 12 layouts'), (['--box', 'sky=0,0,1,1', '--out', 'photos/labels/new.jpg'], 'end the name in .png'),
    (['--box', 'sky=0,0,1,1', '--exemplar', 'none.jpg'], 'no such file')])
def test_mistakes_take_one_line(photos, capsys, argv, said):
    try: code = main(['boxes', *argv, *photos])
    except SystemExit as e: code = e.code
    told = capsys.readouterr().err
    assert code == 2 and said in told and told.count('\n') == 1
    assert not Path('layout.png').exists()


def test_boxes_of_one_class_count_their_union():
    index = BoxIndex(ProceduralScenes(8, 64, seed=4))
    one, twice = [Box('sky', 0, 0, 1, .5)], [Box('sky', 0, 0, 1, .5), Box('sky', .2, .1, .6, .5)]
    assert np.array_equal(index.box_overlaps(one), index.box_overlaps(twice))
    both = index.box_overlaps([Box('sky', 0, 0, 1, .5), Box('tree', 0, .5, 1, 1)])
    assert (both <= np.maximum(index.box_overlaps(one), index.box_overlaps([Box('tree', 0, .5, 1, 1)]))+1e-9).all()  # a mediant lies between


@pytest.mark.skipif('MSCA_DATA' not in os.environ, reason='needs real photos in $MSCA_DATA')
def test_photos_of_streets_as_memory():
    source = open_dataset(Path(os.environ['MSCA_DATA'])/'camvid', None, SCENE_LABELS)
    index, asked = BoxIndex(source, 4/3), [Box('sky', .2, 0, .8, .35), Box('road', 0, .6, 1, 1), Box('car', .1, .5, .4, .75)]
    best, worst = (boxed_layout(index, asked, (96, 128), r, find_outlines(index, asked, r)) for r in (0, len(source)-1))
    assert best.overlap > .5 > worst.overlap
    assert best.outlines[2] is not None  # there are cars of this size
    assert not (best.labels == 255).any() and (best.labels[60:, :] == SCENE_LABELS.index('road')).mean() > .5
