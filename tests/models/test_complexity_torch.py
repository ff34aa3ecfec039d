"""MACs and parameters of PyTorch modules: hand counts, published ones, and thop's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from edlab.models.complexity import count_torch
from edlab.torchvision_import import import_torchvision

IMAGE = torch.zeros(1, 3, 32, 32)
TOKENS, WIDTH = 32, 96  # rows of the image as tokens


def tokens(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 2, 1, 3).reshape(images.shape[0], TOKENS, WIDTH)


class OnTokens(nn.Module):
    """A layer on the rows of an image; of layers that return a tuple, the first output."""

    def __init__(self, layer: nn.Module, times: int = 1, **keys: Any) -> None:
        super().__init__()
        self.layer, self.times, self.keys = layer, times, keys

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        output = self.layer(*[tokens(images)] * self.times, **self.keys)
        return output[0] if isinstance(output, tuple) else output


class Einsum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3072, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bk,kc->bc", images.flatten(1), self.weight)


class Attention(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        heads = tokens(images).reshape(-1, TOKENS, 4, 24).transpose(1, 2)
        return functional.scaled_dot_product_attention(heads, heads, heads)


class Tied(nn.Module):
    """One layer used twice, a second with the same weights, and one that no forward pass uses."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.unused = (nn.Linear(32, 32, bias=False) for _ in range(3))
        self.two.weight = self.one.weight

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.two(self.one(self.one(images)))


class Branches(nn.Module):
    def __init__(self, *, same: bool) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(32, 32), nn.Linear(32, 32) if same else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cond(images.sum() > 0, lambda image: self.one(image), lambda image: self.two(image) * 1, (images,))


class Autocast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.layer(images)


ATTENTION = 2 * TOKENS * TOKENS * WIDTH
CASES: dict[str, tuple[nn.Module, int]] = {
    "convolution": (nn.Conv2d(3, 16, 3, 2, 1), 16 * 27 * 256),
    "grouped": (nn.Conv2d(3, 12, 3, padding=1, groups=3), 12 * 9 * 1024),
    "transposed": (nn.ConvTranspose2d(3, 8, 3, 2), 3 * 8 * 9 * 1024),
    "transposed, grouped": (nn.ConvTranspose2d(3, 6, 3, 2, groups=3), 3 * 2 * 9 * 1024),
    "3D": (nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv3d(1, 8, 3, padding=1)), 8 * 27 * 3072),
    "einsum": (Einsum(), 30720),
    "attention": (Attention(), ATTENTION),
    "nn.MultiheadAttention": (OnTokens(nn.MultiheadAttention(96, 4, batch_first=True), 3), 32 * 96 * 384 + ATTENTION),
    "nn.TransformerEncoderLayer": (
        OnTokens(nn.TransformerEncoderLayer(96, 4, 384, batch_first=True)), 32 * 96 * (384 + 768) + ATTENTION,
    ),
    "LSTM": (OnTokens(nn.LSTM(96, 64, batch_first=True)), 32 * 256 * 160),
    "LSTM, two ways, two layers, projected": (
        OnTokens(nn.LSTM(96, 64, 2, batch_first=True, bidirectional=True, proj_size=16)),
        2 * 32 * (256 * (96 + 16) + 64 * 16 + 256 * (32 + 16) + 64 * 16),
    ),
    "GRU": (OnTokens(nn.GRU(96, 64, batch_first=True)), 32 * 192 * 160),
    "RNN": (OnTokens(nn.RNN(96, 64, batch_first=True)), 32 * 64 * 160),
    "tied": (Tied(), 3 * 3 * 32 * 32 * 32),
    "autocast": (Autocast(), 1024 * 12),
    "weight norm": (nn.utils.weight_norm(nn.Conv2d(3, 4, 1)), 1024 * 12),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_operator_counts_by_its_formula_live_and_exported(name: str) -> None:
    module, macs = CASES[name]
    complexity = count_torch(module.eval(), IMAGE)
    assert (complexity.macs, complexity.note) == (macs, "")
    program = torch.export.export(module, (IMAGE,))
    exported = count_torch(program.module(), IMAGE, cross_check=False)
    assert (exported.macs, exported.parameters) == (macs, complexity.parameters)


def test_parameters_are_those_that_are_used_each_once() -> None:
    assert count_torch(Tied().eval(), IMAGE).parameters == 32 * 32


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_batch_is_divided_out(dynamic: bool) -> None:
    images = torch.zeros(4, 3, 32, 32)
    shapes = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)} if dynamic else {}
    program = torch.export.export(nn.Sequential(nn.Conv2d(3, 4, 1)).eval(), (images,), **shapes)
    assert count_torch(program.module(), images, cross_check=False).macs == 12 * 1024


def test_an_unknown_operator_is_named() -> None:
    class Spectrum(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.fft.rfft2(images).abs()

    complexity = count_torch(nn.Sequential(nn.Conv2d(3, 3, 1), Spectrum()).eval(), IMAGE)
    assert (complexity.macs, complexity.parameters) == (None, 12)
    assert complexity.note == "cannot be counted: the graph has aten::_fft_r2c"


class Compares(nn.Module):
    """Comparisons and whole numbers in place, and a conjugate."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        whole = (images * 8).int()
        conjugate = torch.conj_physical(torch.complex(images, images)).real
        return conjugate + whole.gcd_(whole).lcm_(whole) + images.clone().eq_(1.0)


FREE_OF_PRODUCTS: dict[str, nn.Module] = {
    "Hardtanh": nn.Hardtanh(),
    "Hardtanh in place": nn.Hardtanh(inplace=True),
    "ReLU6 in place": nn.ReLU6(inplace=True),
    "LeakyReLU": nn.LeakyReLU(),
    "LeakyReLU in place": nn.LeakyReLU(inplace=True),
    "ELU": nn.ELU(),
    "ELU in place": nn.ELU(inplace=True),
    "CELU": nn.CELU(),
    "CELU in place": nn.CELU(inplace=True),
    "SELU": nn.SELU(),
    "SELU in place": nn.SELU(inplace=True),
    "Hardsigmoid": nn.Hardsigmoid(),
    "Hardsigmoid in place": nn.Hardsigmoid(inplace=True),
    "comparisons": Compares(),
}


@pytest.mark.parametrize("name", FREE_OF_PRODUCTS)
def test_what_a_release_does_not_tag_as_pointwise_is_free_by_its_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch 2.11 tags none of these in place; here only `mul` and `add`, which all releases tag, remain."""
    tags = torch._ops.OpOverload.tags
    kept = ("aten::mul", "aten::add")
    untagged = property(lambda operator: tags.fget(operator) if operator._schema.name in kept else [])
    monkeypatch.setattr(torch._ops.OpOverload, "tags", untagged)
    complexity = count_torch(nn.Sequential(nn.Conv2d(3, 4, 1), FREE_OF_PRODUCTS[name]).eval(), IMAGE)
    assert (complexity.macs, complexity.note) == (1024 * 12, "")


def test_branches_count_where_they_cost_the_same() -> None:
    assert count_torch(Branches(same=True).eval(), IMAGE).macs == 3 * 32 * 32 * 32
    assert "cond with branches of different cost" in count_torch(Branches(same=False).eval(), IMAGE).note


def test_a_forward_pass_that_hangs_on_data_is_not_counted() -> None:
    class Data(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images if images.sum() > 0 else images @ images

    assert count_torch(Data().eval(), IMAGE).note.startswith("cannot be counted from shapes")


def test_counting_changes_neither_the_module_nor_torch() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.kept = nn.Linear(32, 8), None

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.kept = self.layer(images) if self.kept is None else self.kept
            return self.kept

    module = Keeps().eval()
    assert count_torch(module, IMAGE).macs == 3 * 32 * 32 * 8
    assert module.kept is None
    assert not module.layer._forward_hooks
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.mkldnn.enabled


class TestThop:
    def test_where_it_knows_all_products_it_agrees(self) -> None:
        module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(1800, 4))
        complexity = count_torch(module.eval(), IMAGE)
        assert complexity.macs == complexity.thop_macs == 30 * 30 * 27 * 8 + 1800 * 4

    def test_it_decides_nothing_of_what_it_does_not_know(self) -> None:
        shared = nn.Linear(32, 32)
        twice = nn.Sequential(nn.Sequential(shared), nn.Sequential(shared))  # thop would count both uses at each place
        for module in (nn.Sequential(nn.ConvTranspose2d(3, 8, 3, 2)), OnTokens(nn.LSTM(96, 8)), Attention(), twice):
            complexity = count_torch(module.eval(), IMAGE)
            assert complexity.macs
            assert complexity.thop_macs is None

    def test_a_disagreement_withholds_and_names_both(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module = nn.Sequential(nn.Conv2d(3, 4, 1)).eval()
        monkeypatch.setattr("thop.profile", lambda *_, **__: (12_000.0, 0.0))
        assert count_torch(module, IMAGE).macs == 12_288
        monkeypatch.setattr("thop.profile", lambda *_, **__: (11_000.0, 0.0))
        complexity = count_torch(module, IMAGE)
        assert (complexity.macs, complexity.thop_macs, complexity.parameters) == (None, 11_000, 16)
        assert "12,288 MACs by edlab, 11,000 by thop" in complexity.note


# Of each family of torchvision one network; the published figures are in units of 1e9 to three digits.
ZOO = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "mnasnet1_0",
    "mobilenet_v2", "mobilenet_v3_large", "resnet18", "resnext50_32x4d", "shufflenet_v2_x1_0", "squeezenet1_1",
    "swin_t", "vgg11", "vit_b_16",
]  # fmt: skip


@pytest.mark.parametrize("arch", ZOO)
def test_the_zoo_has_its_published_macs(arch: str) -> None:
    models = import_torchvision().models
    published = models.get_model_weights(arch).DEFAULT
    size = published.transforms().crop_size[0]
    with torch.device("meta"):  # no weights: the large ones would take gigabytes
        network = models.get_model(arch, weights=None).eval()
        complexity = count_torch(network, torch.zeros(1, 3, size, size), cross_check=False)
    assert complexity.note == ""
    assert complexity.macs / 1e9 == pytest.approx(published.meta["_ops"], rel=0.005, abs=0.001)
    if arch not in ("googlenet", "inception_v3"):  # published with the heads of training
        assert complexity.parameters == published.meta["num_params"]


def test_heads_of_training_are_no_parameters() -> None:
    with torch.device("meta"):
        network = import_torchvision().models.inception_v3(weights=None, init_weights=False).eval()
        assert count_torch(network, torch.zeros(1, 3, 299, 299), cross_check=False).parameters == 23_834_568
