"What the notebooks and model cards say of committed measurements: only numbers in `results/` are read, nothing is measured again."
import json
from pathlib import Path

import pytest

from msca.evidence.plan import TRAINED
from msca.learning.learner import TrainingConfig

RESULTS = Path(__file__).parents[1]/'results'
MODELS = 'scenes-256-v1', 'scenes-128', 'procedural-256', 'procedural-128'  # those that shipped_measures.py measured
SETS = 'siftflow', 'labelmefacade', 'msrc_v2'


def read(name): return json.loads((RESULTS/f'{name}.json').read_text(encoding='utf-8'))


@pytest.mark.parametrize('name', MODELS)
def test_shipped_models_meet_the_targets(name):
    report = read(name)
    restyling = report['procedural']['restyling']
    assert restyling['difference'] >= 2 and restyling['n'] >= 50
    assert ('photos' in report) == name.startswith('scenes')
    if 'photos' in report:
        assert report['photos']['swapping']['color']['nearer_to_given'] >= .85 and report['photos']['swapping']['layout']['ratio'] >= .7


def test_what_limited_the_model_before():
    "Its decibels were in the parser and in the classes' colors."
    for s in SETS:
        psnr = {k: v['value'] for k, v in read('scenes-128-at-256')['sets'][s]['psnr'].items()}
        assert psnr['class_means'] > psnr['parsed_class_means'] + .4 and psnr['recolored'] > psnr['right'] + .3


def test_what_helps_other_small_gans_showed_little_here():
    "Three tricks changed nothing beyond luck; averaging helped; the paper's cadence raised PSNR at the price of texture."
    d = {name: t['minus_as_is'] for name, t in read('regularizers')['trials'].items() if 'minus_as_is' in t}
    for name in ('r1', 'diffaugment', 'reconstruction'):
        assert d[name]['psnr']['low'] < 0 < d[name]['psnr']['high'] and abs(d[name]['psnr']['value']) < .05
    assert d['no-average']['psnr']['high'] < 0 < d['generator-every-5']['psnr']['low']
    assert d['generator-every-5']['high_frequency']['high'] < -.1


def test_the_default_model_against_the_one_before():
    "Perceptual distances, layout and distributions are better beyond luck, color is as good; measures that were in its losses are marked."
    new, old = read('held-out-scenes-256'), read('held-out-scenes-256-v1')
    d = new['against']
    assert d['model'] == 'held-out-scenes-256-v1.json'
    assert d['lpips_vgg']['high'] < 0 and d['lpips_alex']['high'] < 0 < d['deeplab']['low'] and d['frechet_alexnet_ratio']['high'] < .8
    assert d['color']['low'] < 0 < d['color']['high'] and d['psnr']['low'] < 0 < d['psnr']['high']
    for key in ('lpips_vgg', 'lpips_alex', 'psnr', 'ssim', 'color'):
        differences = [a[key]-b[key] for a, b in zip(new['rows'], old['rows'])]
        assert d[key]['value'] == pytest.approx(sum(differences)/len(differences), abs=2e-4)
    assert set(new['in_losses']) == {'lpips_vgg', 'efficientnet'} and not old['in_losses']


def test_the_card_of_the_default_model_tells_its_numbers_and_its_losses():
    card = (RESULTS.parent/'msca'/'pretrained_models'/'scenes-256'/'MODEL_CARD.md').read_text(encoding='utf-8')
    for said in ('LPIPS, VGG-16 (lower is better) †', '0.554', '0.526', '98.7%', '96.0%', 'preferred this model', 'EfficientNet-Lite0', 'distilled',
                 'non-commercial', 'repeat', 'merge'):
        assert said in card
    assert 'default model before' in (RESULTS.parent/'msca'/'pretrained_models'/'scenes-256-v1'/'MODEL_CARD.md').read_text(encoding='utf-8')


def test_what_the_largest_model_reaches_on_held_out_photos():
    for r in read('scenes-256-v1')['sets'].values():
        assert r['right_nearer_than_random']['squeezenet'] >= .9 and r['nearer_than_class_means'] >= .9
        assert .5 <= r['high_frequency_median'] <= 1.5
        assert r['psnr']['right']['value'] > r['psnr']['random']['value'] + 1


@pytest.mark.parametrize('series', ['procedural', 'siftflow'])
def test_every_model_of_a_series_was_trained_alike(series):
    "The same number of updates, all models, the full one and its nearest baseline with a second seed."
    found = read(f'table1-{series}/table1')
    plan, took = found['plan'], found['trainings']
    assert TrainingConfig.from_dict(plan['recipe']).size > 0
    assert {t['updates'] for t in took} == {plan['updates']}
    assert {t['model'] for t in took} == set(TRAINED)
    assert sum(t['model'] in ('msca', 'gap') for t in took) == 4


@pytest.mark.parametrize('source', read('loader')['sources'])
def test_reading_from_a_mapped_file_is_as_fast_as_from_memory(source):
    rate = {way: m['cpu_per_s'] for way, m in read('loader')['sources'][source]['read'].items()}
    assert rate['mapped_warm'] > 20*rate['decode_each_time'] and rate['mapped_warm'] > .7*rate['memory']
    assert read('loader')['sources'][source]['memory_for_reading_it_mb'] < 1


@pytest.mark.parametrize('source', ['siftflow', 'labelmefacade'])
def test_making_batches_takes_no_time_beside_the_network(source):
    m = read('loader')['sources'][source]
    for ms in m['batch_cpu_ms'].values(): assert max(ms['batched'], ms['per_sample']) < .02*m['compact_forward_backward_cpu_ms']


def test_a_panoramas_memory_hardly_grows_with_its_width():
    narrow, widest = (next(r for r in read('panorama_memory')['runs'] if r['way'] == 'tiles' and r['width'] == w) for w in (512, 8192))
    for key in ('peak_mib', 'above_start_mib'): assert widest[key]/narrow[key] < 2


def test_trainings_that_were_not_shipped_are_told_as_they_went():
    "The sentences of notebook 480 have the numbers of the curves; the kept phase is the iteration that they name."
    cells = json.loads((RESULTS.parent/'nbs'/'480_evidence.shipped.ipynb').read_text(encoding='utf-8'))['cells']
    said = ' '.join(' '.join(''.join(c['source']).split()) for c in cells)
    longer, begun, given_up = (dict(map(tuple, read(n)['lpips_alex'])) for n in ('scenes-256-longer', 'compact-l-begun', 'compact-l-given-up'))
    number = lambda v: f'{v:.3f}'.lstrip('0')
    assert min(longer, key=longer.get) == 3500 == 2951+549 and max(longer, key=longer.get) == 4500
    assert f'It went to {number(longer[3500])} within 550 iterations, to {number(longer[4500])} at 4500 and ended at {number(longer[5000])}.' in said
    last = max(begun)
    assert json.loads((RESULTS.parent/'benchmarks'/'phases'/'compact-l'/'phase.json').read_text())['iteration'] == last and min(begun, key=begun.get) == last
    assert f'its weights at iteration {last} are' in said and f'There LPIPS, AlexNet, is {number(begun[last])}' in said
    assert f'its best was {number(min(given_up.values()))}.' in said
    grown = dict(map(tuple, read('compact-l-grown')['lpips_alex']))
    assert f'LPIPS was {number(grown[3000])} after 49 iterations and {number(grown[3250])} after 299' in said  # from iteration 2951 on
    percent = lambda model, k: f"{100*read('by-class')['models'][model][k]['pattern']['value']:.1f}".lstrip('0')+' %'
    assert f"({percent('scenes-256, grown', 'water')} on water, {percent('scenes-256, grown', 'building')} on buildings)" in said
    more, moved = 'scenes-256, 250 iterations more', 'scenes-256, 250 iterations more, shifted'
    assert f"up to {percent('scenes-256', 'water')} while" in said and f"on roads ({percent('compact-l', 'road')})" in said
    road, building = ([percent(model, k) for model in (moved, more)] for k in ('road', 'building'))
    assert f'on roads {road[0]} are left against {road[1]}; elsewhere intervals overlap (buildings: {building[0]} against {building[1]})' in said
