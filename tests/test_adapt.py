"""`msca adapt` from outside: exit codes, lines, and a Ctrl-C from the terminal."""
import os
import shutil
import signal
import subprocess
import sys

import pytest
from PIL import Image

from msca.commands.cli import main
from msca.data.render import procedural_scene
from msca.data.scene import indexed_image
from msca.pretrained.models import model_folder
from msca.pretrained.synthesizer import Synthesizer


@pytest.fixture
def scene_files(tmp_path):
    scene = procedural_scene(4, 160)
    scene.image.save(tmp_path/'photo.png')
    indexed_image(scene.labels, scene.label_set).save(tmp_path/'map.png')
    return tmp_path


def said(capsys, *argv):
    "Exit code and the error line."
    code = main(['adapt', *map(str, argv)])
    return code, capsys.readouterr().err.strip()


def test_wrong_input_takes_one_line(scene_files, capsys):
    photo, out = scene_files/'photo.png', scene_files/'out'
    Image.open(photo).crop((0, 0, 1600, 10)).save(scene_files/'strip.png')
    (scene_files/'broken.jpg').write_bytes(b'no photo')
    for argv, words in (
            (['--exemplar', scene_files/'none.jpg', '--out', out], 'none.jpg: no such file'),
            (['--exemplar', scene_files/'broken.jpg', '--out', out], 'broken.jpg'),
            (['--exemplar', photo, '--out', scene_files], 'is there already; name a new folder'),
            (['--exemplar', photo, '--out', photo], 'is there already; name a new folder'),
            (['--exemplar', photo, '--labels', scene_files/'none.png', '--out', out], 'none.png: no such file'),
            (['--exemplar', photo, '--out', out, '--model', 'scenes-9000'], 'neither a shipped model')):
        code, line = said(capsys, *argv)
        assert code == 2 and words in line and '\n' not in line, line
    assert not out.exists()


@pytest.mark.parametrize('model, words', [('procedural-128', 'has no segmenter'), ('sean-128', "variant 'sean' cannot learn one photo")])
def test_models_that_cannot_learn_are_told_in_one_line(scene_files, capsys, model, words):
    bare = shutil.copytree(model_folder(model), scene_files/'bare')
    if model == 'procedural-128':
        for name in ('parser.json', 'parser.safetensors'): (bare/name).unlink()
    code, line = said(capsys, '--exemplar', scene_files/'photo.png', '--labels', scene_files/'map.png', '--model', bare, '--out', scene_files/'out')
    assert code == 2 and words in line and '\n' not in line
    assert not (scene_files/'out').exists()


@pytest.mark.slow
@pytest.mark.skipif(os.name == 'nt', reason='signals of POSIX')
def test_ctrl_c_keeps_what_was_learned_or_writes_nothing(scene_files):
    line = ['--exemplar', 'photo.png', '--labels', 'map.png', '--model', 'procedural-128', '--device', 'cpu', '--out', 'tuned']
    p = subprocess.Popen([sys.executable, '-u', '-m', 'msca', 'adapt', *line], cwd=scene_files, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert 'learned in patches' in p.stdout.readline()
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=120)
    if (scene_files/'tuned').exists():
        assert p.returncode == 0 and 'stopped; ' in out
        assert 'adapted to photo.png' in str(Synthesizer.load(scene_files/'tuned', quiet=True))
    else: assert p.returncode == 130 and 'nothing is written' in err
