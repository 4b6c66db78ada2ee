"Definitions that lessons show but cannot pin down, against their formula or a slow loop."
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from msca.learning.learner import AttentionPretrainer
from msca.model.features import init_unit_
from msca.model.synthesizer import SceneSynthesizer, SynthesizerConfig

EIGHT = (8,)*5


@pytest.mark.parametrize('n_in, n_out, side', [(128, 96, 3), (256, 512, 1)])
def test_he_start_fits_its_leaky_relu(n_in, n_out, side):
    "The weights' variance is 2 / ((1 + .2²) · inputs): with a LeakyReLU of slope .2 a signal keeps its strength. ReLU's would be 2 % off."
    torch.manual_seed(0)
    conv = init_unit_(nn.Conv2d(n_in, n_out, side, padding=side//2, padding_mode='circular'))
    assert float(conv.weight.detach().std()) == pytest.approx((2/(1.04*n_in*side**2))**.5, rel=6e-3)
    assert not conv.bias.any()
    with torch.no_grad(): out = F.leaky_relu(conv(torch.randn(16, n_in, 16, 16)), .2)
    assert float(out.square().mean()) == pytest.approx(1, rel=.02)


@pytest.fixture(scope='module')
def pretrainer():
    torch.manual_seed(0)
    return AttentionPretrainer(SceneSynthesizer(SynthesizerConfig(3, pyramid_widths=EIGHT, image_channels=EIGHT, label_channels=EIGHT,
                                                                  slots=(4,)*5, mlp_width=8, widths=EIGHT, spade_hidden=EIGHT)))


def slow_contrast(photo):
    "Four times how far a pixel is from the mean of the 5×5 pixels around it that lie in the picture (H×W array)."
    h, w = photo.shape
    around = lambda y, x: photo[max(y-2, 0):y+3, max(x-2, 0):x+3]
    return np.array([[4*abs(photo[y, x]-around(y, x).mean()) for x in range(w)] for y in range(h)])


def pooled(a, side): return a.reshape(a.shape[0]//side, side, a.shape[1]//side, side).mean((1, 3))


def test_what_the_attention_is_pretrained_to_predict(pretrainer):
    "Three channels of the pooled picture and three of its pooled local contrast, at every scale."
    truth = torch.rand(2, 3, 16, 32, generator=torch.Generator().manual_seed(0))*2-1
    for i, target in enumerate(pretrainer.targets(truth)):
        assert not target.requires_grad and target.shape == (2, 6, 16 >> i, 32 >> i)
        for b in range(2):
            for c in range(3):
                channel = truth[b, c].double().numpy()
                np.testing.assert_allclose(target[b, c], pooled(channel, 2**i), atol=1e-5)
                np.testing.assert_allclose(target[b, 3+c], pooled(slow_contrast(channel), 2**i), atol=1e-5)


def test_contrast_is_texture_not_color(pretrainer):
    "Nothing on an even picture, borders included; unchanged by other colors; twice for twice the texture; as much for its negative."
    contrast = lambda x: torch.cat([t[:, 3:].flatten() for t in pretrainer.targets(x)])
    texture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))*.4-.2
    assert contrast(torch.full((1, 3, 32, 32), .7)).abs().max() < 1e-5
    assert contrast(texture).mean() > .1
    for other in (texture+.5, -texture): assert torch.allclose(contrast(other), contrast(texture), atol=1e-5)
    assert torch.allclose(contrast(2*texture), 2*contrast(texture), atol=1e-5)


def test_every_pixel_reads_its_slots_in_full_precision_under_autocast():
    "einsum would be cast down although both of its inputs are float32."
    from msca.model.attention import mix_slots
    torch.manual_seed(0)
    vectors, beta = torch.randn(2, 6, 5), torch.randn(2, 5, 7, 9).softmax(1)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.einsum('bnk,bkhw->bnhw', vectors, beta).dtype == torch.bfloat16   # what it would be
        mixed = mix_slots(vectors, beta)
    assert mixed.dtype == torch.float32 and torch.equal(mixed, mix_slots(vectors, beta))
