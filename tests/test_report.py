"Evidence from the outside: reports that are killed and go on, models side by side, the reproduction in miniature, a study on a page."
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

warnings.filterwarnings('ignore', category=FutureWarning)

from msca.base.labels import InputError, LabelSet
from msca.commands.cli import main
from msca.evidence.metrics import IMAGENET_METRICS
from msca.evidence.report import Report
from msca.model.checkpoint import load_synthesizer, save_synthesizer
from msca.model.segmenter import load_segmenter
from msca.model.synthesizer import SceneSynthesizer, SynthesizerConfig
from msca.pretrained.models import model_folder

torch.set_num_threads(1)
MODEL = ['--model', 'procedural-128', '--device', 'cpu']
SMALL = ['--procedural', '4', '--size', '48']


@pytest.fixture(scope='module')
def features(tmp_path_factory):
    "Options for SqueezeNet's metrics, with weights from the shipped parser's encoder."
    from safetensors.torch import save_file
    path = tmp_path_factory.mktemp('weights')/'squeezenet.safetensors'
    encoder = load_segmenter(model_folder())[0].encoder.features
    save_file({f'features.{k}': v.contiguous() for k, v in encoder.state_dict().items()}, path)
    return ['--features', 'squeezenet', '--weights', str(path)]


@pytest.fixture(scope='module', autouse=True)
def cache(tmp_path_factory):
    "A cache of our own."
    with pytest.MonkeyPatch.context() as m:
        m.setenv('MSCA_CACHE', str(tmp_path_factory.mktemp('cache')))
        yield


def msca(capsys, *argv, code=0):
    "What a command prints, and what it says on the error stream."
    capsys.readouterr()
    got = main(list(map(str, argv)))
    out, err = capsys.readouterr()
    assert got == code, err
    return out, err


def refusal(capsys, *argv):
    "The only line of a command that gives up."
    out, err = msca(capsys, *argv, code=2)
    assert out == '' and err.count('\n') == 1, (out, err)
    return err


@pytest.fixture(scope='module')
def whole(tmp_path_factory, features):
    "A report in one piece."
    path = tmp_path_factory.mktemp('whole')/'report.json'
    assert main(['eval', *MODEL, *SMALL, '--tasks', 'mirroring,restyling', *features, '--out', str(path)]) == 0
    return path


# ---- eval --------------------------------------------------------------------------------------------------------------

def test_a_report_says_everything(whole):
    about, report = json.loads(whole.read_text()), Report(whole)
    assert about['finished'] and about['settings']['exemplar_maps'] == 'parsed by the parser of procedural-128'
    assert 'that no training draws' in about['settings']['data'] and about['settings']['protocol']['pictures'].startswith('uint8')
    assert set(about['unavailable']) == set(IMAGENET_METRICS) and all('not given' in r for r in about['unavailable'].values())
    assert {'psnr', 'ssim', 'squeezenet_distance', 'squeezenet_fid', 'squeezenet_style', 'pixel_accuracy', 'mean_iou'} < set(about['metrics'])
    assert any('squeezenet_fid: 4 pictures' in r for r in about['remarks'])
    for task in ('mirroring', 'restyling'):
        for metric in about['metrics']:
            s = report.score(task, metric)
            assert np.isfinite(s.value) and s.n == 4
            if metric not in ('squeezenet_fid', 'mean_iou'):
                assert s.low <= s.value <= s.high and s.value == report.values(task, metric).mean()
    assert Image.open(whole.with_suffix('.png')).width > 400


def test_the_same_numbers_whatever_the_workers(whole, features, capsys, tmp_path):
    "Twice, and with other processes preparing the questions."
    msca(capsys, 'eval', *MODEL, *SMALL, '--tasks', 'mirroring,restyling', *features, '--workers', 2, '--out', tmp_path/'again.json')
    assert (tmp_path/'again.csv').read_text() == whole.with_suffix('.csv').read_text()
    assert Report(tmp_path/'again.json').about['scores'] == Report(whole).about['scores']


def test_killed_and_resumed(whole, features, capsys, tmp_path):
    "Every row is written once, and the end is that of the report in one piece."
    out = tmp_path/'killed.json'
    command = ['eval', *MODEL, *SMALL, '--tasks', 'mirroring,restyling', *features, '--out', str(out)]
    process = subprocess.Popen([sys.executable, '-W', 'ignore', '-m', 'msca', *command], env={**os.environ, 'OMP_NUM_THREADS': '1'},
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rows = lambda: list(csv.DictReader(out.with_suffix('.csv').open())) if out.with_suffix('.csv').is_file() else []
    end = time.monotonic()+120
    while len(rows()) < 3 and process.poll() is None and time.monotonic() < end: time.sleep(.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = rows()
    assert 3 <= len(before) and not json.loads(out.read_text())['finished']
    with out.with_suffix('.csv').open('a') as f: f.write('restyling,3,half a')
    with pytest.raises(InputError, match='no finished report'): Report(out)
    msca(capsys, *command)
    assert out.with_suffix('.csv').read_text() == whole.with_suffix('.csv').read_text()
    assert Report(out).about['scores'] == Report(whole).about['scores']
    assert rows()[:len(before)] == before


def test_a_finished_report_is_not_made_again(whole, features, capsys):
    "Nothing but the sheet of pictures is written."
    before = whole.read_text(), whole.with_suffix('.csv').stat().st_mtime_ns
    out, err = msca(capsys, 'eval', *MODEL, *SMALL, '--tasks', 'mirroring,restyling', *features, '--out', whole)
    assert (whole.read_text(), whole.with_suffix('.csv').stat().st_mtime_ns) == before and err == ''
    assert '| mirroring | psnr ↑ |' in out


def test_what_has_changed_is_said(features, capsys, tmp_path):
    "Another model, other scenes: measured afresh, and the warning says why."
    base = ['eval', '--device', 'cpu', '--tasks', 'duplicating', '--no-references', *features, '--out', tmp_path/'r.json']
    msca(capsys, *base, '--model', 'procedural-128', '--procedural', 2, '--size', 32)
    pictures = list((tmp_path/'r').rglob('*.png'))
    for changes, says in ((('scenes-128', 2, 32), r'\(model, weights, exemplar_maps, parser\)|\(exemplar_maps, parser, model, weights\)'),
                          (('scenes-128', 3, 32), r'\(data, tasks\)'), (('scenes-128', 3, 48), r'\(tasks\)')):
        model, n, size = changes
        _, err = msca(capsys, *base, '--model', model, '--procedural', n, '--size', size)
        assert err.startswith('msca: warning') and err.count('\n') == 1 and re.search('made with other settings '+says, err), err
        assert len(list((tmp_path/'r').rglob('*.png'))) == n
    assert len(pictures) == 2


def test_mistakes_in_one_line(capsys, tmp_path):
    notes = tmp_path/'notes.json'
    notes.write_text('{}')
    for argv, says in ((['--procedural', 3, '--out', tmp_path/'r.txt'], 'end the name in .json'),
                       (['--out', tmp_path/'r.json'], '--data DIR or --procedural N'),
                       (['--procedural', 3, '--data', tmp_path, '--out', tmp_path/'r.json'], 'one of them'),
                       (['--data', tmp_path/'none', '--out', tmp_path/'r.json'], 'no such file'),
                       (['--procedural', 3, '--weights', tmp_path/'none.npz', '--out', tmp_path/'r.json'], 'none.npz: no such file'),
                       (['--procedural', 3, '--model', 'nobody', '--out', tmp_path/'r.json'], 'neither a shipped model'),
                       (['--procedural', 1, '--tasks', 'restyling', '--features', 'squeezenet', '--weights', notes,
                         '--out', tmp_path/'r.json'], 'at least two scenes'),
                       (['--procedural', 2, '--tasks', 'mirroring', '--features', 'squeezenet', '--weights', notes, '--out', notes],
                        'no report of msca')):
        assert says in refusal(capsys, 'eval', '--device', 'cpu', *argv)
    assert notes.read_text() == '{}'
    for line in ('eval --procedural 3 --tasks guessing --out r.json', 'eval --procedural 3 --tasks mirroring,mirroring --out r.json',
                 'eval --procedural 3 --size 30 --out r.json'):
        with pytest.raises(SystemExit) as e: main(line.split())
        assert e.value.code == 2


def test_a_model_without_parser(features, capsys, tmp_path):
    "The shipped parser reads for it where it knows the classes; otherwise annotated maps are taken. The report says which."
    eight = dict.fromkeys(('pyramid_widths', 'image_channels', 'label_channels', 'slots', 'widths', 'spade_hidden'), (8,)*5)
    known = load_synthesizer(model_folder())[1]
    sets = dict(same=known, other=LabelSet('few', ('sky', 'grass', 'water'), ((10, 10, 200), (10, 200, 10), (100, 100, 255))))
    for name, label_set in sets.items():
        save_synthesizer(SceneSynthesizer(SynthesizerConfig(len(label_set), mlp_width=8, **eight)), label_set, 32, tmp_path/name)
    ask = lambda *argv: msca(capsys, *argv, '--procedural', 2, '--tasks', 'duplicating', '--device', 'cpu', *features)
    for name, maps in (('same', 'parsed by the parser of scenes-256'), ('other', 'annotated, as no parser knows these classes')):
        ask('eval', '--model', tmp_path/name, '--out', tmp_path/f'report-{name}.json')
        about = json.loads((tmp_path/f'report-{name}.json').read_text())
        assert about['settings']['exemplar_maps'] == maps and ('pixel_accuracy' in about['unavailable']) == (name == 'other')
    says = refusal(capsys, 'compare', '--models', tmp_path/'same', tmp_path/'other', '--procedural', 2, '--tasks', 'duplicating',
                   '--device', 'cpu', '--out', tmp_path/'c')
    assert 'other: has other classes than same' in says


@pytest.mark.skipif('MSCA_DATA' not in os.environ, reason='MSCA_DATA is not set: no real photos')
def test_real_photos(features, capsys, tmp_path):
    "Held-out photos, all three tasks; exemplars of retrieving come from other places; asked again, the matches are there."
    from msca.data.places import place_of, split_by_place
    command = ['eval', '--data', Path(os.environ['MSCA_DATA'])/'siftflow', '--tasks', 'duplicating,mirroring,retrieving', '--n', 3,
               '--size', 48, '--device', 'cpu', *features]
    msca(capsys, *command, '--out', tmp_path/'a.json')
    a = Report(tmp_path/'a.json')
    names = sorted(p.stem for p in (Path(os.environ['MSCA_DATA'])/'siftflow'/'images').iterdir())
    held_out = {names[i] for i in split_by_place(names)[1]}
    assert a.tasks == ('duplicating', 'mirroring', 'retrieving') and 'held out from training' in a.about['settings']['data']
    for task in a.tasks:
        assert {r['name'] for r in a.rows[task]} <= held_out and all(np.isfinite(a.score(task, m).value) for m in a.metrics)
    for r in a.rows['retrieving']: assert place_of(r['exemplar']) != place_of(r['name'])
    assert (a.values('duplicating', 'psnr') == a.values('mirroring', 'psnr')).sum() == 0
    msca(capsys, *command, '--workers', 1, '--out', tmp_path/'b.json')
    assert (tmp_path/'a.csv').read_text() == (tmp_path/'b.csv').read_text()


# ---- compare -----------------------------------------------------------------------------------------------------------

def test_compare(whole, features, capsys, tmp_path):
    "Finished reports are taken as they are; tables, numbers and pictures agree with them."
    (tmp_path/'reports').mkdir()
    for name in ('report.json', 'report.csv'): shutil.copy(whole.parent/name, tmp_path/'reports'/name.replace('report', 'procedural-128'))
    shutil.copytree(whole.with_suffix(''), tmp_path/'reports'/'procedural-128')
    out, _ = msca(capsys, 'compare', '--models', 'procedural-128', 'scenes-128', '--device', 'cpu', *SMALL,
                  '--tasks', 'mirroring,restyling', *features, '--out', tmp_path)
    assert (tmp_path/'reports'/'procedural-128.csv').read_text() == whole.with_suffix('.csv').read_text()
    assert {p.name for p in tmp_path.iterdir()} == {'reports', 'table.md', 'table.tex', 'comparison.json', 'differences.png',
                                                    'pictures.png'}
    assert (tmp_path/'table.md').read_text().strip() in out
    a, b = (Report(tmp_path/'reports'/f'{n}.json') for n in ('procedural-128', 'scenes-128'))
    assert a.about['settings']['parser'] == b.about['settings']['parser']
    found = json.loads((tmp_path/'comparison.json').read_text())['scores']['restyling']['psnr']['scenes-128']
    assert found['value'] == b.score('restyling', 'psnr').value
    np.testing.assert_allclose(found['difference']['value'], (b.values('restyling', 'psnr')-a.values('restyling', 'psnr')).mean(),
                               rtol=1e-9)
    assert found['difference']['low'] <= found['difference']['value'] <= found['difference']['high']
    sheet = Image.open(tmp_path/'pictures.png')
    assert sheet.width > 5*128 and sheet.height > 6*128


def test_the_committed_table(features, capsys, tmp_path):
    "The shipped models, asked again, give the committed numbers; SqueezeNet's where its own weights are at hand."
    committed = json.loads((Path(__file__).parents[1]/'results'/'comparison'/'comparison.json').read_text())
    file = Path(os.environ.get('MSCA_DATA', '/nowhere')).parent/'weights'/'squeezenet1_0_torchvision_names.npz'
    if file.is_file(): features = ['--features', 'squeezenet', '--weights', file]
    msca(capsys, 'compare', '--models', 'scenes-128', 'procedural-128', '--device', 'cpu', '--procedural', 12,
         '--tasks', 'mirroring,restyling', *features, '--out', tmp_path)
    again, compared = json.loads((tmp_path/'comparison.json').read_text())['scores'], 0
    for task in again:
        for metric in again[task]:
            if metric.startswith('squeezenet') and not file.is_file(): continue
            for model in committed['models']:
                np.testing.assert_allclose(again[task][metric][model]['value'], committed['scores'][task][metric][model]['value'], rtol=.01,
                                           atol=1e-7, err_msg=f'{task} {metric} {model}')
                compared += 1
    assert compared >= 2*6*2


# ---- reproduce ---------------------------------------------------------------------------------------------------------

def series(features, folder, *more):
    "A command for a series of the smallest size."
    return ['reproduce', 'table1', '--procedural', 20, '--size', 32, '--batch-size', 4, '--pretrain-epochs', 1, '--questions', 3,
            '--tasks', 'mirroring',
            '--parser', 'procedural-128', '--device', 'cpu', *features, '--out', folder, *more]


@pytest.fixture
def no_curves(monkeypatch):
    "Drawing the curves of a training takes longer than the training."
    monkeypatch.setattr('msca.learning.history.RunLog.draw', lambda *_: None)


def test_reproduce_in_miniature(features, capsys, tmp_path, no_curves):
    "Trained, stopped after the first model, gone on with, measured, set beside the paper's table; another number of updates is refused."
    command = series(features, tmp_path/'s', '--models', 'no-gate', 'spade-vae')
    with pytest.MonkeyPatch.context() as m:
        from msca.evidence import series as trainings
        real = trainings._train
        def once(run, *rest):
            if run.folder.name != 'no-gate': raise KeyboardInterrupt
            real(run, *rest)
        m.setattr(trainings, '_train', once)
        _, err = msca(capsys, *command, '--updates', 12, code=130)
    assert 'go on with the same command' in err
    out, _ = msca(capsys, *command, '--updates', 12)
    assert 'no-gate: trained already' in out and '2 trainings of 12 updates' in out
    plan = json.loads((tmp_path/'s'/'plan.json').read_text())
    took = {n: json.loads((tmp_path/'s'/'models'/n/'trained.json').read_text()) for n in ('no-gate', 'spade-vae')}
    assert {t['updates'] for t in took.values()} == {plan['updates']} == {12} and plan['photos'] == 12
    variants = {n: json.loads((tmp_path/'s'/'models'/n/'config.json').read_text())['variant'] for n in took}
    assert variants == {'no-gate': 'no-gate', 'spade-vae': 'spade-vae'}
    table = (tmp_path/'s'/'table1.md').read_text()
    assert '|  | paper: psnr | 16.02 | 15.37 |' in table and 'lpips (as squeezenet_distance)' in table
    found = json.loads((tmp_path/'s'/'table1.json').read_text())
    assert {(o['task'], o['model']) for o in found['orderings']} == {('mirroring', 'spade-vae')} and len(found['orderings']) == 4
    assert 'begun with another' in msca(capsys, *command, '--updates', 15, code=2)[1]


def test_reproduce_mistakes(features, capsys, tmp_path):
    for more, says in (([], '--updates N or --budget'), (['--updates', 12, '--budget', 3], 'one of them'),
                       (['--updates', 12, '--seeds', '0'], 'at least two'),
                       (['--updates', 2], 'updates are too few'), (['--updates', 12, '--models', 'msca', 'nobody'], 'no model to compare')):
        assert says in refusal(capsys, *series(features, tmp_path/'s', *more))
    assert not (tmp_path/'s').exists()


@pytest.mark.slow
def test_reproduce_all_models_within_a_budget(features, capsys, tmp_path, no_curves):
    "All of the table in some minutes; what the budget came to is kept."
    command = series(features, tmp_path/'s', '--budget', 2)
    command[command.index('mirroring')] = 'duplicating,mirroring,retrieving,restyling'
    msca(capsys, *command)
    plan = json.loads((tmp_path/'s'/'plan.json').read_text())
    took = [json.loads(p.read_text()) for p in (tmp_path/'s'/'models').glob('*/trained.json')]
    assert len(took) == 10 and {t['updates'] for t in took} == {plan['updates']} and plan['updates'] >= 4
    found = json.loads((tmp_path/'s'/'table1.json').read_text())['orderings']
    assert len(found) == 3*4*5
    out, _ = msca(capsys, *command[:-2], '--budget', 50)
    assert out.count('trained already') == 10


# ---- study -------------------------------------------------------------------------------------------------------------

def test_study(capsys, tmp_path):
    "Made, answered, added up; models of other names than files can have are refused."
    out, _ = msca(capsys, 'study', 'make', '--models', 'procedural-128', 'scenes-128', '--names', 'one', 'two', '--procedural', 3,
                  '--size', 48, '--device', 'cpu', '--out', tmp_path/'s')
    assert '3 questions to each person' in out
    from msca.app.preference import PreferenceStudy
    view = PreferenceStudy(tmp_path/'s', 'anna')
    while view.session: view.choose('left' if view.session.current.left == 'two' else 'right', view.session.done)
    out, _ = msca(capsys, 'study', 'summary', tmp_path/'s')
    assert '| one | two | 0 | 0 | 3 | 0% (0% to 56%) |' in out
    assert "cannot be a model's name" in refusal(capsys, 'study', 'make', '--models', 'procedural-128', 'scenes-128', '--names', '.x', 'y',
                                                 '--procedural', 3, '--out', tmp_path/'t')


CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
DRIVER = shutil.which('chromedriver')


@pytest.mark.slow
@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason='no Chromium with chromedriver; `make browser` installs them where it can')
def test_the_study_as_a_page(capsys, tmp_path):
    "A name, keys and buttons; answers arrive on disk; nothing on the page names a model."
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys
    msca(capsys, 'study', 'make', '--models', 'procedural-128', 'scenes-128', '--procedural', 3, '--size', 48, '--device', 'cpu',
         '--out', tmp_path/'s')
    server = subprocess.Popen([sys.executable, '-m', 'msca', 'study', 'ask', str(tmp_path/'s'), '--port', '0', '--no-browser'], text=True,
                              stdout=subprocess.PIPE)
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for a in ('headless', 'no-sandbox', 'disable-gpu', 'disable-dev-shm-usage', 'host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
              f'user-data-dir={tmp_path/"chromium"}'):
        options.add_argument(f'--{a}')
    def until(condition):
        end = time.monotonic()+90
        while time.monotonic() < end:
            if got := condition(): return got
            time.sleep(.05)
        pytest.fail('waited in vain')
    answers = tmp_path/'s'/'answers'/'anna.csv'
    rows = lambda: list(csv.DictReader(answers.open())) if answers.is_file() else []
    try:
        url = re.match(r'(http://127\.0\.0\.1:\d+/) ', server.stdout.readline())[1]
        driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        try:
            find = lambda css: driver.find_elements('css selector', css)
            driver.get(url)
            until(lambda: find('input[type=text]'))[0].send_keys('anna')
            find('button')[0].click()
            until(lambda: len(find('.msca-choice img')) == 4)
            assert 'scenes-128' not in driver.page_source and 'procedural-128' not in driver.page_source
            for k, press in enumerate((lambda: ActionChains(driver).send_keys(Keys.ARROW_LEFT).perform(),
                                       lambda: ActionChains(driver).send_keys(' ').perform(),
                                       lambda: find('button[data-answer=right]')[0].click())):
                until(lambda: f'{k+1} of 3' in driver.page_source)
                press()
                until(lambda: len(rows()) == k+1)
            assert [r['answer'] for r in rows()] == ['left', 'tie', 'right']
            until(lambda: 'That was all' in driver.page_source)
        finally: driver.quit()
    finally:
        server.terminate()
        assert 'msca study summary' in server.communicate(timeout=60)[0]


def test_two_reports_of_one_name_do_not_mix(tmp_path, capsys, features):
    "`check --out report` and `eval --out report.json` in either order: the second one is refused in a line and writes nothing."
    msca(capsys, 'scenes', '--n', 4, '--size', 64, '--out', tmp_path/'data')
    data, files = ['--data', tmp_path/'data'], lambda: sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob('*') if not p.is_relative_to(tmp_path/'data'))
    evaluate = ['eval', *MODEL, *data, '--size', 48, '--side', 'all', '--tasks', 'mirroring', '--no-references', *features]
    msca(capsys, 'check', *data, '--out', tmp_path/'first')
    before = files()
    assert 'first: is there already' in msca(capsys, *evaluate, '--out', tmp_path/'first.json', code=2)[1] and files() == before
    msca(capsys, *evaluate, '--out', tmp_path/'second.json')
    before = files()
    assert 'second.json; name another folder' in msca(capsys, 'check', *data, '--out', tmp_path/'second', code=2)[1] and files() == before
    msca(capsys, 'check', *data, '--out', tmp_path/'first')  # again is fine
    msca(capsys, *evaluate, '--out', tmp_path/'second.json')
