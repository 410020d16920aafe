import pytest
import torch

from experiments.models import BasicBlock, cifar_resnet, init_, large_resnet


def num_parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("depth", "layers"), [(8, 7), (32, 31)])
def test_cifar_network_has_its_layers(depth, layers):
    model = cifar_resnet(depth, 10)
    assert sum(isinstance(module, torch.nn.Conv2d) for module in model.modules()) == layers
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_resnet_32_has_the_published_size():
    assert round(num_parameters(cifar_resnet(32, 10)) / 1e6, 2) == 0.46  # He et al. (2016), table 6


@pytest.mark.parametrize(("depth", "parameters"), [(50, 25_557_032), (101, 44_549_160), (152, 60_192_808)])
def test_large_networks_have_the_known_sizes(depth, parameters):
    with torch.device("meta"):
        assert num_parameters(large_resnet(depth, 1000)) == parameters


def test_large_network_sees_images_of_any_size():
    model = large_resnet(50, 7).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 96)).shape == (1, 7)


def test_option_a_shortcut_averages_and_pads_both_sides():
    block = BasicBlock(16, 32, stride=2)
    torch.nn.init.zeros_(block.bn2.weight)
    image = torch.arange(16.0).reshape(1, 1, 4, 4).expand(1, 16, 4, 4)
    out = block(image)
    assert not out[:, :8].any()
    assert not out[:, 24:].any()
    torch.testing.assert_close(out[0, 8], torch.tensor([[2.5, 4.5], [10.5, 12.5]]))


@pytest.mark.parametrize("depth", [7, 33])
def test_wrong_depth_is_named(depth):
    with pytest.raises(ValueError, match=rf"--depth must be 6n \+ 2 .*got {depth}"):
        cifar_resnet(depth, 10)
    with pytest.raises(ValueError, match=f"--depth must be one of 50, 101, 152 .*got {depth}"):
        large_resnet(depth, 10)


def test_large_initial_weights_have_unit_gain_and_a_small_head():
    model = large_resnet(50, 1000)
    init_(model, torch.Generator().manual_seed(0), large=True)
    weight, head = model.blocks[-1].conv2.weight.detach(), model.head.weight.detach()
    assert float(weight.std() * (weight[0].numel() ** 0.5)) == pytest.approx(1, rel=0.01)
    assert float(head.std()) == pytest.approx(0.01, rel=0.01)


def test_logits_are_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert cifar_resnet(8, 10)(torch.zeros(1, 3, 32, 32)).dtype == torch.float32
