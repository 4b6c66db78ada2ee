"Norms under SPADE, and layers that stay within borders: what the notebooks do not ask."
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from msca.base.labels import one_hot
from msca.data.render import procedural_scene
from msca.evidence.borders import border_bleed
from msca.model.synthesizer import SceneSynthesizer, SynthesizerConfig
from msca.relatives.borders import BorderConv2d, LayoutFeatures, border_ids, border_upsample
from msca.relatives.layers import LayeredSynthesizer, LayersConfig, with_borders
from msca.relatives.norms import NORMS, AttentiveNorm, regional_norm

SHAPE = dict(pyramid_widths=(8,)*5, image_channels=(8,)*5, label_channels=(8,)*5, slots=(4,)*5, mlp_width=8, widths=(8, 8, 12, 16, 16), spade_hidden=(8,)*5, init_gain=1.)


def pair(h=32, w=48, n=2):
    torch.manual_seed(0)
    return one_hot(torch.randint(0, 3, (n, h, w)), 3), torch.rand(n, 3, h, w)*2-1


@pytest.mark.parametrize('upsampling', ['nearest', 'bilinear'])
def test_a_bordered_painter_keeps_classes_apart_at_all_scales(upsampling):
    "Two halves: what the conditions of one are does not reach the other, to the last bit, with either up-sampling and noise."
    torch.manual_seed(0)
    model = LayeredSynthesizer(LayersConfig(3, borders='class', upsampling=upsampling, noise=1, **SHAPE)).eval()
    ids = (torch.arange(64) >= 32).long().expand(1, 1, 64, 64)
    onehot = one_hot(ids[:, 0], 3)
    conditions = [torch.randn(1, 16, 64 >> i, 64 >> i) for i in range(5)]
    other = [c+(ids[..., ::2**i, ::2**i] == 1)*torch.randn_like(c) for i, c in enumerate(conditions)]
    with torch.inference_mode(): a, b = (model.generator(LayoutFeatures(c, onehot)) for c in (conditions, other))
    assert torch.equal(a[..., :32], b[..., :32]) and (a-b)[..., 32:].abs().max() > .01


def test_instances_are_borders_too():
    scene = procedural_scene(3, 64)
    labels, things = (torch.from_numpy(a.astype(np.int64))[None] for a in (scene.labels, scene.instances))
    conv, x = BorderConv2d(3, 3, 3), torch.randn(1, 3, 64, 64)
    by_class, by_thing = (conv(x, border_ids(labels, b, things)) for b in ('class', 'instance'))
    changed = (by_class != by_thing).any(1)[0]
    touching = torch.zeros(64, 64, dtype=torch.bool)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            rolled = [F.pad(a, (1, 1, 1, 1), value=-1)[0, 1+dy:65+dy, 1+dx:65+dx] for a in (labels, things)]
            touching |= (rolled[0] == labels[0]) & (rolled[1] != things[0])
    assert touching.any() and torch.equal(changed, touching)


def test_upsampling_keeps_a_constant_class_constant():
    ids = torch.randint(0, 4, (1, 1, 16, 16))
    coarse = ids[..., ::2, ::2]
    for mode in ('nearest', 'bilinear'):
        up = border_upsample(coarse.float(), coarse, ids, torch.full((1, 1, 16, 16), -1.), mode)
        assert ((up == -1) | ((up-ids).abs() < 1e-5)).all() and (up == -1).any()


def test_weights_of_a_trained_model_fit_with_and_without_spectral_norm():
    model = SceneSynthesizer(SynthesizerConfig(3, **SHAPE)).eval()
    assert with_borders(model).state_dict().keys() == model.state_dict().keys()
    for m in model.modules():
        if torch.nn.utils.parametrize.is_parametrized(m): torch.nn.utils.parametrize.remove_parametrizations(m, 'weight')
    assert with_borders(model).state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize('name', NORMS)
def test_norms_learn_in_every_size_and_stay_finite(name):
    model = LayeredSynthesizer(LayersConfig(3, norm=name, **SHAPE)).train()
    layout, photo = pair()
    small = layout[..., :16, :32], photo[..., :16, :32]  # an exemplar of another size
    loss = (model(layout, small[1], small[0])-photo).abs().mean()+sum(model.regularization().values())
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    empty = torch.zeros_like(layout)
    empty[:, -1] = 1  # everything unlabelled
    with torch.inference_mode(): assert model.eval()(empty, photo, empty).isfinite().all()


def test_a_config_with_an_unknown_norm_is_refused():
    with pytest.raises(ValueError, match='norm'): replace(LayersConfig(3), norm='layer')


def test_regional_norm_in_half_precision_and_with_absent_classes():
    x, regions = torch.randn(1, 4, 8, 8), torch.zeros(1, 3, 8, 8)
    regions[:, 0, :4], regions[:, 2, 4:] = 1, 1  # class 1 is not there
    out = regional_norm(x, regions)
    assert out.isfinite().all() and torch.allclose(out[..., :4, :], F.instance_norm(x[..., :4, :]), atol=1e-4)
    assert regional_norm(x.half(), regions).dtype == torch.float16


def test_attentive_norm_draws_in_training_only_and_depends_on_torch_seed():
    norm, x = AttentiveNorm(16, 4, residual=False), torch.randn(2, 16, 8, 8)
    torch.manual_seed(3)
    a = norm(x)
    torch.manual_seed(3)
    assert torch.equal(a, norm(x)) and not torch.equal(norm(x), norm(x)) and torch.equal(norm.eval()(x), norm(x))


def test_bleed_does_not_count_what_nobody_has_labelled():
    scene = procedural_scene(4, 64)
    unknown = scene.labels.copy()
    unknown[scene.labels == scene.labels[0, 0]] = 255
    assert border_bleed(scene.image, scene.image, unknown).pixels < border_bleed(scene.image, scene.image, scene.labels).pixels
