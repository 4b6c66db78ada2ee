"Metrics and tasks: the wiring of the large networks with random weights, missing weights, real photos, large pools, worker processes."
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from msca.base.labels import SCENE_LABELS, InputError
from msca.data.datasets import ProceduralScenes, SceneFolder, write_scenes
from msca.data.lookalikes import LabelIndex, fit_scene, label_histogram
from msca.data.places import place_of
from msca.data.render import procedural_scene
from msca.data.scene import Scene
from msca.evidence import metrics
from msca.evidence.distributions import FrechetDistance, inception_network
from msca.evidence.metrics import PAPER_METRICS, SQUEEZENET_METRICS, Backbones, build_metrics
from msca.evidence.perceptual import lpips_network
from msca.evidence.protocol import Unavailable, picture_batch
from msca.evidence.retrieval import Retrieving, build_tasks
from msca.evidence.tasks import Mirroring, Restyling
from msca.model.features import vgg19_features

torch.set_num_threads(1)
photos = pytest.mark.skipif('MSCA_DATA' not in os.environ, reason='real photos: set MSCA_DATA')


@pytest.fixture(scope='module')
def pictures():
    "Four pictures and four truths, `uint8` 4×3×64×64."
    drawn = [procedural_scene(s, 64).image for s in range(8)]
    return picture_batch(drawn[:4]), picture_batch(drawn[4:])


def one(name, **weights): return build_metrics([name], Backbones(**weights))[0]


# ---- the networks of the paper's metrics, with random weights -------------------------------------------------------

def test_lpips_reads_a_vgg16_file_and_agrees_with_the_package(pictures, tmp_path):
    from lpips import LPIPS
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        direct = LPIPS(net='vgg', pnet_rand=True, verbose=False)
    trunk = {k: v for part in direct.net.children() for k, v in part.state_dict().items()}
    save_file({f'features.{k}': v for k, v in trunk.items()} | {'classifier.0.bias': torch.zeros(3)}, tmp_path/'vgg16.safetensors')
    made, truth = pictures
    lpips = one('lpips_vgg', vgg16=str(tmp_path/'vgg16.safetensors'))
    with torch.inference_mode(): expected = direct(made/127.5-1, truth/127.5-1).flatten()
    values = lpips(made, truth)
    assert values.dtype == torch.float64 and torch.allclose(values, expected.double(), atol=1e-4) and (values > 0).all()
    assert (lpips(truth, truth) == 0).all()
    assert torch.equal(torch.cat([lpips(made[:1], truth[:1]), lpips(made[1:], truth[1:])]), values)
    save_file({'features.0.weight': torch.zeros(64, 3, 3, 3)}, tmp_path/'other.safetensors')
    with pytest.raises(InputError, match='no VGG-16 weights'): lpips_network('vgg', tmp_path/'other.safetensors')


class First(torch.nn.Module):
    "A network's first features, so that torchmetrics' eigenvalues take no time."
    num_features = 32

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x): return self.net(x)[:, :self.num_features]


def test_fid_reads_an_inception_file_and_agrees_with_torchmetrics(pictures, tmp_path, monkeypatch):
    from torch_fidelity import feature_extractor_inceptionv3 as extractor
    from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3
    monkeypatch.setattr(extractor, 'load_state_dict_from_url', lambda *a, **k: {})
    with monkeypatch.context() as m:
        m.setattr(extractor.FeatureExtractorInceptionV3, 'load_state_dict', lambda *a: None)
        direct = NoTrainInceptionV3('inception-v3-compat', ['2048'])
    torch.save(direct.state_dict(), tmp_path/'inception.pth')
    made, truth = pictures
    net = inception_network(tmp_path/'inception.pth')
    assert torch.allclose(net(made[:2]), direct(made[:2]), atol=1e-4) and net(made[:1]).shape == (1, 2048)
    ours, theirs = FrechetDistance(First(net)), FrechetInceptionDistance(First(direct))
    theirs.update(truth, real=True)
    theirs.update(made, real=False)
    with pytest.warns(UserWarning, match='4 pictures for 32 features, fewer than ten'):
        for i in range(4): ours.update(made[i:i+1], truth[i:i+1])
        value = ours.compute()
    assert value == pytest.approx(float(theirs.compute()), rel=1e-4)
    torch.save({'a': torch.zeros(1)}, tmp_path/'other.pth')
    with pytest.raises(InputError, match='not Inception weights'): inception_network(tmp_path/'other.pth')


def test_style_loss_reads_a_vgg19_file(pictures, tmp_path):
    save_file({f'features.{k}': v for k, v in vgg19_features(None).state_dict().items()}, tmp_path/'vgg19.safetensors')
    style, (made, truth) = one('style', vgg19=str(tmp_path/'vgg19.safetensors')), pictures
    values = style(made, truth)
    assert (values > 0).all() and (style(made, made) == 0).all()
    assert torch.equal(torch.cat([style(made[i:i+1], truth[i:i+1]) for i in range(4)]), values)


# ---- what cannot be measured says why --------------------------------------------------------------------------------

def test_failed_downloads_are_reasons_not_crashes(monkeypatch):
    def no_network(*args, **kwargs): raise OSError('no network')
    monkeypatch.setattr(torch.hub, 'load_state_dict_from_url', no_network)
    monkeypatch.setattr('torchvision.models._api.load_state_dict_from_url', no_network)
    names = dict.fromkeys(('lpips_vgg', 'lpips_alex', 'frechet_alexnet', 'fid', 'style', *SQUEEZENET_METRICS))
    missing = build_metrics(names)
    assert [m.name for m in missing] == list(names) and all(isinstance(m, Unavailable) for m in missing)
    assert all('downloaded' in m.reason and '\n' not in str(m) and len(str(m)) < 300 for m in missing)


def test_missing_packages_and_segmenters_are_reasons(monkeypatch):
    monkeypatch.setattr(metrics, 'find_spec', lambda name: None)
    reasons = {m.name: m.reason for m in build_metrics(PAPER_METRICS[:4]+('pixel_accuracy',))}
    assert 'package lpips' in reasons['lpips_vgg'] and 'package torchmetrics' in reasons['psnr'] and 'segmenter' in reasons['pixel_accuracy']
    with pytest.raises(InputError, match="unknown metric 'beauty'"): build_metrics(['beauty'])


# ---- pools ----------------------------------------------------------------------------------------------------------

class ManyScenes:
    "A pool of small scenes of two classes, made on demand; a thousand different ones, each many times."
    label_set, name = SCENE_LABELS, 'many'

    def __init__(self, n): self.names, self.read = [f'procedural_{i:07d}' for i in range(n)], 0

    def __len__(self): return len(self.names)

    def key_of(self, i): return str(i)

    def labels(self, i):
        ids = np.full(1024, 9, np.uint8)
        ids[:i % 1000] = 0
        return ids.reshape(32, 32)

    def __getitem__(self, i):
        self.read += 1
        return Scene(Image.new('RGB', (32, 32)), self.labels(i), SCENE_LABELS, self.names[i])


def check_pool(n, folder):
    pool = ManyScenes(n)
    index = LabelIndex(pool, 32, folder)
    assert pool.read == n and index.histograms.shape == (n, 17)
    again = LabelIndex(pool, 32, folder)
    assert pool.read == n and np.array_equal(again.histograms, index.histograms)
    assert sum(f.stat().st_size for f in folder.iterdir()) < 60*n
    best = again.nearest(pool.labels(437), pool.names[437], 5)
    assert list(best) == [437+1000*k for k in range(1, 6)]            # not itself: that is its own place
    expected = np.minimum(label_histogram(pool.labels(3), 17).astype(int), label_histogram(pool.labels(990), 17)).sum()/65535
    assert again.overlaps(pool.labels(3))[990] == pytest.approx(expected)


def test_index_of_many_scenes(tmp_path): check_pool(6000, tmp_path)


@pytest.mark.slow
def test_index_of_a_hundred_thousand_scenes(tmp_path): check_pool(100_000, tmp_path)


def test_a_pool_of_one_place_is_refused():
    scenes = ProceduralScenes(1, 64)
    with pytest.raises(InputError, match='no photo from another place'): Retrieving(scenes, 64)[0]
    with pytest.raises(InputError, match='multiple of 16'): Mirroring(scenes, 100)
    with pytest.raises(InputError, match='at least two'): Restyling(scenes, 64)


def equal(a, b): return all(np.array_equal(np.asarray(x), np.asarray(y)) for x, y in zip(a, b, strict=True))


def test_retrieving_does_not_depend_on_workers_or_cache(tmp_path):
    write_scenes(ProceduralScenes(12, 64, seed=5), tmp_path/'pool')
    pool, scenes = SceneFolder(tmp_path/'pool'), ProceduralScenes(4, 64, seed=6)
    plain, kept = Retrieving(scenes, 64, pool=pool), Retrieving(scenes, 64, pool=pool, cache=tmp_path/'cache')
    by_workers = [item for batch in DataLoader(plain, batch_size=3, num_workers=2, collate_fn=list) for item in batch]
    assert all(equal(plain[i], by_workers[i]) and equal(plain[i], kept[i]) for i in range(4))
    Image.new('RGB', (64, 64)).save(pool.photos[pool.names[0]])       # a photo of the pool changes: the search is made anew
    assert len(list((tmp_path/'cache').glob('matches-*.zip'))) == 1
    Retrieving(scenes, 64, pool=pool, cache=tmp_path/'cache')
    assert len(list((tmp_path/'cache').glob('matches-*.zip'))) == 2


# ---- real photos ----------------------------------------------------------------------------------------------------

@photos
def test_tasks_on_held_out_photos():
    scenes = SceneFolder(Path(os.environ['MSCA_DATA'])/'siftflow').split('val')
    duplicating, mirroring, retrieving = build_tasks(('duplicating', 'mirroring', 'retrieving'), scenes, 128)
    for i in (0, len(scenes)//2):
        one, two, three = duplicating[i], mirroring[i], retrieving[i]
        assert one.truth.size == three.truth.size == three.exemplar.size == (128, 128) and one.layout.shape == (128, 128)
        assert equal(one[:1], two[:1]) and equal(one[3:4], two[3:4]) and equal(one[1:2], one[3:4])
        assert place_of(three.exemplar_name) != place_of(three.name) == place_of(one.name)
        order, energies = retrieving.rank(fit_scene(scenes[i], 128))
        assert scenes.names[order[0]] == three.exemplar_name and (np.diff(energies) >= 0).all()
    with pytest.raises(InputError, match='only procedural scenes'): build_tasks(['restyling'], scenes, 128)


@photos
def test_photos_below_the_size_warn():
    scenes = SceneFolder(Path(os.environ['MSCA_DATA'])/'siftflow').split('val')
    with pytest.warns(UserWarning, match='below 512 pixels are enlarged'): assert Mirroring(scenes, 512)[0].truth.size == (512, 512)


@photos
def test_squeezenet_file_orders_pictures():
    file = Path(os.environ['MSCA_DATA']).parent/'weights'/'squeezenet1_0_torchvision_names.npz'
    if not file.is_file(): pytest.skip('no SqueezeNet weights beside the photos')
    scenes = SceneFolder(Path(os.environ['MSCA_DATA'])/'siftflow').split('val')
    truths = picture_batch([fit_scene(scenes[i], 128).image for i in range(0, 60, 12)])
    blurred = torch.nn.functional.avg_pool2d(truths.float(), 5, 1, 2, count_include_pad=False).round().byte()
    distance, style = build_metrics(('squeezenet_distance', 'squeezenet_style'), Backbones(squeezenet=str(file)))
    for metric in (distance, style):
        assert (metric(truths, truths) == 0).all() and (metric(blurred, truths) < metric(truths.roll(1, 0), truths)).all()
