"Explaining and steering, by identities that hold for any weights; on a random model, and on the shipped one."
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from msca.base.labels import LabelSet, one_hot
from msca.data.scene import tensor_to_image
from msca.model.attention import AttentionMaps
from msca.model.synthesizer import SceneSynthesizer, SynthesizerConfig
from msca.pretrained.synthesizer import Synthesizer
from msca.steering.explain import TransferMatrix, explain_synthesis, style_source, transfer_matrix
from msca.steering.extrapolation import extrapolate, panorama
from msca.steering.interpolation import gated_styles, interpolate_styles, mixture_shares, paint_styles, read_target
from msca.steering.masks import interpolate_space, linear_masks

N_LABELS = 17  # of the shipped model; the random one has as many


def random_model(width=8):
    "Small and untrained, with weights large enough that every part matters."
    torch.manual_seed(0)
    small = (width,)*5
    config = SynthesizerConfig(N_LABELS, pyramid_widths=small, image_channels=small, label_channels=small, slots=(4, 5, 6, 5, 4),
                               widths=small, spade_hidden=small, init_gain=1.)
    model = SceneSynthesizer(config).eval()
    with torch.no_grad():
        for attend in model.attention:
            for weight in (attend.phi.weight, attend.psi.weight): weight *= 3
    return model


@pytest.fixture(scope='module', params=['random', 'shipped'])
def model(request): return random_model() if request.param == 'random' else Synthesizer.load(device='cpu', quiet=True).model


def blocks(height, width, seed):
    "A random layout of 16×16 blocks, some of them unlabelled."
    rng = np.random.default_rng(seed)
    ids = rng.choice([*range(N_LABELS), 255], (-(-height//16), -(-width//16))).astype(np.uint8)
    return ids.repeat(16, 0).repeat(16, 1)[:height, :width]


def scene_tensors(height, width, seed):
    "A random exemplar: (image, onehot)."
    rng = torch.Generator().manual_seed(seed)
    image = (torch.rand(1, 3, height//8, width//8, generator=rng)*2-1).repeat_interleave(8, 2).repeat_interleave(8, 3)
    return image, one_hot(torch.from_numpy(blocks(height, width, seed))[None], N_LABELS)


@pytest.fixture(scope='module')
def pairs(): return [scene_tensors(*size, seed) for seed, size in enumerate(((64, 64), (48, 80), (64, 64)))]


@pytest.fixture(scope='module')
def layout(): return one_hot(torch.from_numpy(blocks(64, 96, 9))[None], N_LABELS)


def plain(model, layout, pair):
    with torch.inference_mode(): return model(layout, *pair)


def encode(model, image, onehot):
    with torch.inference_mode(): return model.encode(image, onehot)


def close(a, b, tolerance=1e-5): return float((a-b).abs().max()) <= tolerance


def test_exemplars_make_a_difference(model, layout, pairs):
    "Without this, the identities below would say nothing."
    assert (plain(model, layout, pairs[0])-plain(model, layout, pairs[1])).abs().mean() > .01


def test_weight_one_is_the_single_exemplar(model, layout, pairs):
    target, read = read_target(model, layout), [encode(model, *p) for p in pairs]
    for j in range(3):
        assert close(interpolate_styles(model, target, read, [float(i == j) for i in range(3)]), plain(model, layout, pairs[j]))


@pytest.mark.parametrize('weights', [(.5, .5), (.1, .9), (.2, .3, .5), (1, 1, 1, 1)])
def test_equal_exemplars_give_the_single_result(model, layout, pairs, weights):
    read = [encode(model, *pairs[0])]*len(weights)
    assert close(interpolate_styles(model, read_target(model, layout), read, weights), plain(model, layout, pairs[0]))


def test_masks_of_ones_and_zeros_are_plain_synthesis(model, layout, pairs):
    target, read = read_target(model, layout), [encode(model, *p) for p in pairs[:2]]
    ones = np.ones(layout.shape[-2:])
    assert close(interpolate_space(model, target, read, [ones, 0*ones]), plain(model, layout, pairs[0]))
    assert close(interpolate_space(model, target, read, [0*ones, ones]), plain(model, layout, pairs[1]))
    assert close(interpolate_space(model, target, [read[0]]*2, linear_masks(ones.shape)), plain(model, layout, pairs[0]))


def test_share_rises_with_weight_in_every_slot(model, pairs):
    read = [encode(model, *p) for p in pairs[:2]]
    steps = [mixture_shares(read, (a, 1-a)) for a in np.linspace(0, 1, 21)]
    for scale in range(5):
        share = torch.stack([s[scale][0] for s in steps])
        assert (share.diff(dim=0) > 0).all() and (share[0] == 0).all() and (share[-1] == 1).all()


def test_mixture_is_one_softmax_over_all_pixels(model, pairs):
    "Against the formula: logits plus log w, side by side, one softmax (exemplars of one size)."
    w, same_size = (.3, .7), [pairs[0], pairs[2]]
    read = [encode(model, *p) for p in same_size]
    shares = mixture_shares(read, w)
    with torch.inference_mode():
        fx, fc = [model.image_pyramid(x) for x, _ in same_size], [model.label_pyramid(c) for _, c in same_size]
        for i, attend in enumerate(model.attention):
            logits = [attend.spatial_logits(fx[j][i], fc[j][i]).flatten(2)+np.log(w[j]) for j in (0, 1)]
            slow = torch.cat([fx[j][i].flatten(2) for j in (0, 1)], -1) @ torch.cat(logits, -1).softmax(-1).transpose(1, 2)
            assert close(sum(shares[i][j]*read[j][i].vectors for j in (0, 1)), slow, 1e-4)


def permuted():
    "The random model with its slots in another order."
    other, rng = random_model(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for attend in other.attention:
            order = torch.randperm(attend.n_slots, generator=rng)
            last = attend.mlp[-1]
            for p in (attend.phi.weight, attend.psi.weight, attend.psi.bias, last.weight, last.bias): p.copy_(p[order].clone())
    return other


def test_order_of_slots_means_nothing(layout, pairs):
    models, results = (random_model(), permuted()), []
    label_set = LabelSet('some', [f'class {i}' for i in range(N_LABELS)], [(i, i, i+1) for i in range(N_LABELS)])
    for m in models:
        target, read = read_target(m, layout), [encode(m, *p) for p in pairs[:2]]
        with torch.inference_mode(): maps = m.transfer(layout, *pairs[0])[1]
        table = np.nan_to_num(transfer_matrix(m, [(layout, *pairs[0])], label_set).matrix())
        results.append((plain(m, layout, pairs[0]), interpolate_styles(m, target, read, (.4, .6)),
                        interpolate_space(m, target, read, linear_masks((64, 96))),
                        torch.from_numpy(style_source(maps[1], 7, 30)), torch.from_numpy(table)))
    assert not torch.equal(models[0].attention[0].phi.weight, models[1].attention[0].phi.weight)
    for a, b in zip(*results): assert close(a, b)


def test_transfer_matrix_of_a_perfect_alignment_is_the_identity():
    n = 5
    label_set = LabelSet('five', [f'class {i}' for i in range(n)], [(40*i, 0, 10) for i in range(n)])
    table = TransferMatrix(label_set)
    for seed in range(3):
        ids = torch.from_numpy(np.random.default_rng(seed).choice([0, 1, 2, 3, 4, 255], (2, 2, 32, 32)))
        target, exemplar = one_hot(ids[0], n), one_hot(ids[1], n)
        alpha = exemplar/exemplar.sum((2, 3), keepdim=True)
        table.add([AttentionMaps(alpha, target, torch.rand(2, n+1))], target, exemplar)
    assert np.allclose(table.matrix(), np.eye(n), atol=1e-6)


def test_explanation_accounts_for_every_pixel(model, layout, pairs):
    label_set = LabelSet('some', [f'class {i}' for i in range(N_LABELS)], [(i, i, i+1) for i in range(N_LABELS)])
    told = explain_synthesis(model, label_set, layout, *pairs[0])
    assert np.array_equal(np.asarray(told.picture), np.asarray(tensor_to_image(plain(model, layout, pairs[0])[0])))
    for scale in range(5): assert abs(told.source(13, 77, scale).sum()-1) < 1e-4
    known = {i for i in range(N_LABELS) if (told.exemplar_ids == i).any()}
    flow = told.flow()
    assert all(i in known for i in np.flatnonzero(flow.sum(1))) and flow.sum() <= (told.target_ids != 255).sum()*(1+1e-4)


def pixels(im): return np.asarray(im, dtype=int)


@pytest.mark.parametrize('size', [(64, 64), (58, 71)])
def test_own_size_is_plain_synthesis(model, pairs, size):
    ids = blocks(*size, 4)
    down, right = (-k % 16 for k in size)
    mask = torch.nn.functional.pad(torch.ones(1, 1, *size), (0, right, 0, down))
    with torch.inference_mode():
        whole = model(one_hot(torch.from_numpy(np.pad(ids, ((0, down), (0, right)), mode='edge'))[None], N_LABELS), *pairs[0], mask)
    expected, style = pixels(tensor_to_image(whole[0, :, :size[0], :size[1]])), encode(model, *pairs[0])
    assert np.abs(pixels(extrapolate(model, ids, style, window=80))-expected).max() <= 1
    assert np.abs(pixels(panorama(model, ids, [style]))-expected).max() <= 1


def test_panorama_equals_one_pass(model, pairs):
    ids, read = blocks(48, 480, 5), [encode(model, *p) for p in pairs[:2]]
    masks = linear_masks(ids.shape)
    target = read_target(model, one_hot(torch.from_numpy(ids)[None], N_LABELS))
    single = paint_styles(model, target.features, [gated_styles(model, read[:1], [1], target.means)])
    mixed = interpolate_space(model, target, read, masks)
    assert np.abs(pixels(panorama(model, ids, read[:1], side=96))-pixels(tensor_to_image(single[0]))).max() <= 1
    assert np.abs(pixels(panorama(model, ids, read, masks, side=96))-pixels(tensor_to_image(mixed[0]))).max() <= 1


def test_extrapolation_is_seeded(pairs):
    model = random_model()
    ids, style = blocks(96, 128, 6), encode(model, *pairs[0])
    once, again, other = (pixels(extrapolate(model, ids, style, 64, 3, seed)) for seed in (1, 1, 2))
    assert np.array_equal(once, again) and not np.array_equal(once, other)


def memory(width):
    "Peak memory in MiB of a process that paints a 256×width panorama with a random model: (whole, above the start)."
    # VmHWM and not ru_maxrss, which in a child starts at what its parent held; freed blocks are handed back at once
    code = f'''
import json, re, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_steering import blocks, panorama, random_model, encode, scene_tensors
peak = lambda: int(re.search('VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])/1024
model = random_model(4)
style = encode(model, *scene_tensors(64, 64, 0))
panorama(model, blocks(256, 64, 1), [style])
start = peak()
assert panorama(model, blocks(256, {width}, 1), [style]).size == ({width}, 256)
print(json.dumps([peak(), peak()-start]))
'''
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'MALLOC_MMAP_THRESHOLD_': '262144'}
    return json.loads(subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True, env=env).stdout)


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_memory_of_a_panorama_does_not_grow_with_its_width():
    narrow, wide = memory(512), memory(8192)
    assert narrow[1] > 4  # MiB: the measurement sees the pictures at all
    assert wide[0] <= 2*narrow[0]
    assert wide[1] <= 3*narrow[1]  # with the picture itself, which does grow; one pass would need sixteen times as much


# the commands

def has(command):
    from msca.commands.cli import build_parser
    return re.search(rf'^ +{command}\s', build_parser().format_help(), re.M) is not None


def command(*argv):
    from msca.commands.cli import main
    return main([*map(str, argv), '--device', 'cpu'])


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    "Two layouts and three photos as files: real ones where MSCA_DATA says where, otherwise procedural."
    folder = tmp_path_factory.mktemp('steering')
    if 'MSCA_DATA' in os.environ:
        root = Path(os.environ['MSCA_DATA'])/'siftflow'
        names = sorted(p.stem for p in (root/'labels').glob('*.png'))[::400][:3]
        return [root/'labels'/f'{n}.png' for n in names[:2]], [next((root/'images').glob(f'{n}.*')) for n in names], folder
    from msca.data.render import procedural_scene
    for i in range(3):
        scene = procedural_scene(50+i, 64)
        scene.image.save(folder/f'{i}.jpg')
        Image.fromarray(scene.labels).save(folder/f'{i}.png')
    return [folder/'0.png', folder/'1.png'], [folder/f'{i}.jpg' for i in range(3)], folder


@pytest.mark.skipif(not has('interpolate'), reason='this msca has no interpolate command')
def test_interpolate_command(files):
    (layout, _), photos, out = files
    common = 'interpolate', '--layout', layout, '--exemplars', *photos[:2]
    assert command(*common, '--steps', 3, '--out', out/'strip.png', '--animation', out/'strip.gif') == 0
    assert command(*common, '--mask', 'radial', '--out', out/'radial.png') == 0
    assert command(*common, '--assign', 'sky=2', '--out', out/'classes.png') == 0
    with Image.open(out/'strip.gif') as gif: assert gif.n_frames == 4
    assert all(Image.open(out/n).size[0] >= 64 for n in ('strip.png', 'radial.png', 'classes.png'))


@pytest.mark.skipif(not has('extrapolate'), reason='this msca has no extrapolate command')
def test_extrapolate_command(files):
    (layout, _), photos, out = files
    common = 'extrapolate', '--layout', layout, '--exemplar', photos[0], '--size', '140x200'
    assert command(*common, '--out', out/'large.png') == 0
    assert command(*common, '--seamless', '--out', out/'seamless.png') == 0
    assert Image.open(out/'large.png').size == Image.open(out/'seamless.png').size == (200, 140)


@pytest.mark.skipif(not has('explain'), reason='this msca has no explain command')
def test_explain_command(files):
    (layout, _), photos, out = files
    assert command('explain', '--layout', layout, '--exemplar', photos[0], '--out', out/'why') == 0
    assert {p.name for p in (out/'why').iterdir()} == {'summary.png', *(f'scale{i}.png' for i in range(5))}


@pytest.mark.skipif(not has('grid'), reason='this msca has no grid command')
def test_grid_command(files):
    layouts, photos, out = files
    assert command('grid', '--layouts', *layouts, '--exemplars', *photos, '--out', out/'grid.png') == 0
    w, h = Image.open(out/'grid.png').size
    assert w > h  # three exemplars across, two layouts down
