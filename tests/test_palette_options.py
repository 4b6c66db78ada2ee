"Label maps painted in somebody else's colors: every command that reads maps takes them, and does with them what it does with ids."
import json

import numpy as np
import pytest
from PIL import Image

from msca.base.files import save_image
from msca.base.labels import SCENE_LABELS
from msca.commands import cli
from msca.commands.cli import main
from msca.commands.options import command_parser
from msca.data.render import procedural_scene

LAYOUT_COLORS, EXEMPLAR_COLORS = (np.random.default_rng(k).integers(1, 255, (17, 3)).tolist() for k in (1, 2))


@pytest.fixture(scope='module')
def painted(tmp_path_factory):
    "Two folders of data with the same scenes: ids, and colors; the lists of the colors, and of others."
    folder = tmp_path_factory.mktemp('painted')
    for k, colors in enumerate((LAYOUT_COLORS, EXEMPLAR_COLORS)):
        (folder/f'{k}.txt').write_text(''.join(f'{r} {g} {b} {n}\n' for n, (r, g, b) in zip(SCENE_LABELS.classes, colors)))
    for part in ('images', 'labels'):
        for data in ('ids', 'colors'): (folder/data/part).mkdir(parents=True)
    for i in range(12):
        scene = procedural_scene(i, 64)
        for data in ('ids', 'colors'): save_image(scene.image, folder/data/'images'/f's{i}.png')
        Image.fromarray(scene.labels).save(folder/'ids'/'labels'/f's{i}.png')
        for k, colors in enumerate((LAYOUT_COLORS, EXEMPLAR_COLORS)):
            drawn = Image.fromarray(np.array([*colors, *[(0, 0, 0)]*239], np.uint8)[scene.labels])
            drawn.save(folder/f's{i}-{k}.png')
            if k == 0: drawn.save(folder/'colors'/'labels'/f's{i}.png')
    for data in ('ids', 'colors'): (folder/data/'classes.txt').write_text('\n'.join(SCENE_LABELS.classes))
    return folder


def options(command):
    parser = command_parser(cli.COMMANDS)
    return next(a for a in parser._actions if a.dest == 'command' or a.choices and command in a.choices).choices[command]._option_string_actions


ONE_MAP, TWO_MAPS = ('app', 'check', 'train'), ('synth', 'interpolate', 'extrapolate', 'explain', 'grid', 'mix', 'eval', 'compare', 'reproduce')


@pytest.mark.parametrize('command', ONE_MAP+TWO_MAPS)
def test_every_command_that_reads_maps_takes_a_palette(command):
    known = options(command)
    assert '--palette' in known and ('--exemplar-palette' in known) == (command in TWO_MAPS)


PICTURES = {
    'synth': ['--layout', '{a}', '--exemplar', '{x}', '--exemplar-layout', '{b}'],
    'interpolate': ['--layout', '{a}', '--exemplars', '{x}', '{y}', '--exemplar-layouts', '{b}', '{c}', '--steps', '2'],
    'extrapolate': ['--layout', '{a}', '--exemplar', '{x}', '--exemplar-layout', '{b}', '--seamless'],
    'grid': ['--layouts', '{a}', '{a}', '--exemplars', '{x}', '{y}', '--exemplar-layouts', '{b}', '{c}'],
    'explain': ['--layout', '{a}', '--exemplar', '{x}', '--exemplar-layout', '{b}'],
}


@pytest.mark.parametrize('command', PICTURES)
def test_painted_maps_make_the_same_picture(painted, tmp_path, command):
    "Layout in one palette, the exemplars' maps in another: not a pixel differs from the picture of the ids."
    found = {}
    for data in ('ids', 'colors'):
        maps = [painted/'ids'/'labels'/f's{i}.png' if data == 'ids' else painted/f's{i}-{int(i > 0)}.png' for i in range(3)]
        known = dict(a=maps[0], b=maps[1], c=maps[2], x=painted/'ids'/'images'/'s1.png', y=painted/'ids'/'images'/'s2.png')
        lists = [] if data == 'ids' else ['--palette', painted/'0.txt', '--exemplar-palette', painted/'1.txt']
        out = tmp_path/(data if command == 'explain' else f'{data}.png')
        size = [] if command == 'extrapolate' else ['--size', '64']
        assert main([command, *(t.format(**known) for t in PICTURES[command]), *map(str, lists), *size, '--model', 'procedural-128', '--out', str(out)]) == 0
        found[data] = np.asarray(Image.open(out/'summary.png' if command == 'explain' else out))
    np.testing.assert_array_equal(found['ids'], found['colors'])


def test_explained_dataset(painted, tmp_path, capsys):
    "Transfer matrices of a painted dataset and of its ids are the same numbers; options of single maps are refused."
    for data, more in (('ids', []), ('colors', ['--palette', str(painted/'0.txt')])):
        said = main(['explain', '--data', str(painted/data), '--pairs', '3', '--size', '64', '--model', 'procedural-128', '--out', str(tmp_path/data), *more])
        assert said == 0, capsys.readouterr().err
    assert (tmp_path/'ids'/'transfer.csv').read_text() == (tmp_path/'colors'/'transfer.csv').read_text()
    assert main(['explain', '--data', str(painted/'ids'), '--snap', '--out', str(tmp_path/'no')]) == 2 and '--snap' in capsys.readouterr().err


def of_command(painted, line):
    "What argparse makes of a command line about the painted data."
    return command_parser(cli.COMMANDS).parse_args(line.format(d=painted, p=painted/'0.txt', q=painted/'1.txt').split())


def test_questions_and_series_about_painted_maps(painted, capsys):
    "`eval`, `compare` and `study make` ask about, and `reproduce` learns from, what the palette says; so does a pool with a palette of its own."
    from msca.commands.evidence import question_scenes
    from msca.commands.series import series_scenes
    ids = question_scenes(of_command(painted, 'eval --data {d}/ids --side all --out x.json'), SCENE_LABELS, 32)[0]
    for line in ('eval --data {d}/colors --palette {p} --side all --out x.json', 'compare --models a --data {d}/colors --palette {p} --side all --out x',
                 'study make --models a b --data {d}/colors --palette {p} --side all --out x'):
        scenes = question_scenes(of_command(painted, line), SCENE_LABELS, 32)[0]
        assert scenes.names == ids.names and all((scenes[i].labels == ids[i].labels).all() for i in range(len(ids)))
    wanted = series_scenes(of_command(painted, 'reproduce table1 --data {d}/ids --updates 1 --out x'), 32)
    found = series_scenes(of_command(painted, 'reproduce table1 --data {d}/colors --palette {p} --updates 1 --out x'), 32)
    for mine, theirs in zip(found[:2], wanted[:2]):
        assert len(mine) == len(theirs) > 0 and all((mine[i].labels == theirs[i].labels).all() for i in range(len(mine)))
    other = painted/'pool'
    for part in ('images', 'labels'): (other/part).mkdir(parents=True)
    for i in range(4):
        (other/'images'/f's{i}.png').write_bytes((painted/'ids'/'images'/f's{i}.png').read_bytes())
        (other/'labels'/f's{i}.png').write_bytes((painted/f's{i}-1.png').read_bytes())
    (other/'classes.txt').write_text('\n'.join(SCENE_LABELS.classes))
    pool = question_scenes(of_command(painted, 'eval --data {d}/colors --palette {p} --pool {d}/pool --exemplar-palette {q} --out x.json'), SCENE_LABELS, 32)[1]
    assert all((pool[i].labels == procedural_scene(int(n[1:]), 64).labels).all() for i, n in enumerate(pool.names))
    assert main(['eval', '--data', str(painted/'ids'), '--exemplar-palette', str(painted/'1.txt'), '--out', str(painted/'x.json')]) == 2
    assert '--pool' in capsys.readouterr().err


def test_maps_told_by_name(painted):
    "The pairs of `msca mix --exemplar-layout PHOTO=MAP`."
    from msca.commands.options import read_told_maps
    args = of_command(painted, 'mix --layout {d}/s0-0.png --style sky=x.png --exemplar-layout x.png={d}/s1-1.png --palette {p} --exemplar-palette {q}')
    read_told_maps(args, SCENE_LABELS)
    (name, ids), = args.exemplar_layout
    assert name == 'x.png' and (ids == procedural_scene(1, 64).labels).all() and (args.layout == procedural_scene(0, 64).labels).all()


def test_the_page_begins_with_painted_maps(painted, capsys):
    "`msca app --data --palette`: its layouts are those of the ids; a palette that fits nothing is refused before anything is started."
    from msca.commands.app import _checked, open_studio
    given = _checked('procedural-128', 'cpu', str(painted/'colors'), None, str(painted/'0.txt'))
    assert json.loads(json.dumps(given)) == given
    mine, theirs = open_studio(**given), open_studio(**_checked('procedural-128', 'cpu', str(painted/'ids')))
    assert list(mine.layouts) == list(theirs.layouts)
    assert len(mine.layouts) > 3 and all((mine.layouts[n] == theirs.layouts[n]).all() for n in mine.layouts)
    (painted/'other.txt').write_text('1 2 3 lamp\n')
    assert main(['app', '--data', str(painted/'colors'), '--palette', str(painted/'other.txt'), '--no-browser']) == 2
    assert 'no class in it is one of' in capsys.readouterr().err
    assert main(['app', '--palette', str(painted/'other.txt'), '--no-browser']) == 2 and '--data' in capsys.readouterr().err
