"""The columns that a row-sparse layer keeps for its backward pass: how many, and that their
gradient is exact.
"""

import copy
import pickle

import pytest
import timm
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from trpts.sparse import attach, detach, sparse_layers
from trpts.sparse_gradient import KEEP_COLUMNS_UP_TO, columns_and_local

IN, OUT, C = 64, 24, 2
FEW = torch.tensor([5, 17, 40])  # the inputs that a concentrated selection uses


def concentrated(out=OUT, columns=FEW):
    """Two of the few columns for every neuron, all of them used: [out, 2]."""
    pairs = torch.combinations(columns, 2)
    return pairs[torch.arange(out) % len(pairs)]


def scattered(out=OUT, fan_in=IN):
    """Two inputs of every neuron, spread over more than half of the fan-in: [out, 2]."""
    first = torch.arange(out) * 2 % (fan_in - 1)
    return torch.stack([first, first + 1], 1)


SELECTIONS = {"concentrated": concentrated, "scattered": scattered}


def layer(index, kind=torch.float32, bias=True):
    """(an attached Linear layer with `index`, a plain copy of it)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(IN, OUT, bias=bias)).to(kind)
    plain = copy.deepcopy(model)
    attach(model, {"0": index})
    return model, plain


def inputs(*shape, kind=torch.float32, seed=2):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(kind)


def gradients(model, x, weights=None):
    """One backward pass: the gradients of x and of the layer's values, or of its weight where it is
    plain.
    """
    x = x.clone().requires_grad_()
    z = model(x)
    (z * (inputs(*z.shape, seed=3).to(z.dtype) if weights is None else weights)).sum().backward()
    only = next(m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d)))
    return x.grad, only.values.grad if hasattr(only, "values") else only.weight.grad.flatten(1)


class Saved(torch.autograd.graph.saved_tensors_hooks):
    """Inside it: `floats()` floating-point numbers, parameters apart, are held for the backward
    pass.
    """

    def __init__(self, model):
        self.of_model = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.storages = {}
        super().__init__(self._keep, lambda tensor: tensor)

    def __enter__(self):
        super().__enter__()
        return self

    def _keep(self, tensor):
        storage = tensor.untyped_storage()
        if tensor.is_floating_point() and storage.data_ptr() not in self.of_model:
            # a view holds its whole base
            self.storages[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    def floats(self):
        return sum(self.storages.values())


@pytest.mark.parametrize("shape", [(50,), (5, 10), (1, 50), (1, 5, 10)])
def test_a_layer_holds_its_used_columns_and_not_its_input(shape):
    model, _ = layer(concentrated())
    x = inputs(*shape, IN).requires_grad_()
    with Saved(model) as saved:
        z = model(x)
    assert saved.floats() == 50 * len(FEW)
    z.sum().backward()


def test_a_layer_of_a_scattered_selection_holds_its_input_and_no_copy():
    """The same storage: whatever else keeps x does not pay twice."""
    model, _ = layer(scattered())
    x = inputs(50, IN).requires_grad_()
    with Saved(model) as saved:
        model(x)
    assert saved.storages == {x.untyped_storage().data_ptr(): 50 * IN}


def test_under_autocast_a_layer_holds_half_precision():
    model, _ = layer(concentrated())
    with Saved(model) as saved, torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        model(inputs(50, IN))
    assert saved.floats() == 50 * len(FEW)


def test_patches_hold_their_used_pixels():
    model = nn.Sequential(nn.Conv2d(4, OUT, 4, 4, bias=False))
    attach(model, {"0": concentrated()})
    with Saved(model) as saved:
        # a first layer's input needs no gradient: the convolution itself keeps nothing
        model(inputs(2, 4, 20, 20))
    assert saved.floats() == 2 * 25 * len(FEW)


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 4), (2, 3, 2), (1, 1), (0,)])
def test_gradient_is_exact_for_any_leading_shape(selection, kind, shape):
    index = SELECTIONS[selection]()
    model, plain = layer(index, kind)
    (dx, found), (dx_wanted, wanted) = (
        gradients(m, inputs(*shape, IN, kind=kind)) for m in (model, plain)
    )
    assert found.dtype == kind
    torch.testing.assert_close(found, wanted.gather(1, index))
    assert torch.equal(dx, dx_wanted)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("selection", SELECTIONS)
def test_autocast_sums_in_single_precision(selection, inside):
    """Of 1,000 tokens: nearer to the sum in float64 of what bfloat16 holds than bfloat16 could
    say.
    """
    index = SELECTIONS[selection]()
    model, _ = layer(index)
    x, g = inputs(1000, IN), inputs(1000, OUT, seed=3).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        z = model(x)
        if inside:
            z.backward(g)
    if not inside:
        z.backward(g)
    wanted = (g.double().T @ x.bfloat16().double()).gather(1, index)
    found = model[0].values.grad
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("batch", [1, 3])
def test_patches_gradient_is_exact(selection, batch):
    conv = nn.Sequential(nn.Conv2d(4, OUT, (4, 4), (4, 4)))
    plain, index = copy.deepcopy(conv), SELECTIONS[selection]()
    attach(conv, {"0": index})
    x = inputs(batch, 4, 8, 12)
    (dx, found), (dx_wanted, wanted) = gradients(conv, x), gradients(plain, x)
    torch.testing.assert_close(found, wanted.gather(1, index))
    torch.testing.assert_close(dx, dx_wanted)


@pytest.mark.slow
@pytest.mark.parametrize("selection", SELECTIONS)
def test_compiled_in_one_graph_a_layer_holds_no_more(selection):
    index = SELECTIONS[selection]()
    model, plain = layer(index)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    x = inputs(5, 10, IN)
    (dx, found), (dx_wanted, wanted) = gradients(compiled, x), gradients(plain, x)
    torch.testing.assert_close(found, wanted.gather(1, index))
    torch.testing.assert_close(dx, dx_wanted)
    with Saved(model) as saved:
        compiled(x.clone().requires_grad_())
    kept = 50 * (len(FEW) if selection == "concentrated" else IN)
    # this backend copies the weight that the values are written into
    assert saved.floats() == kept + OUT * IN


def test_checkpointing_recomputes_the_columns():
    model, plain = layer(concentrated())
    for m in (model, plain):
        block = nn.Sequential(nn.LayerNorm(IN), m)
        checkpoint(
            block, inputs(6, IN).requires_grad_(), use_reentrant=False
        ).square().sum().backward()
    torch.testing.assert_close(model[0].values.grad, plain[0].weight.grad.gather(1, concentrated()))


def test_an_input_that_changes_in_place_afterwards_does_no_harm():
    """The columns are a copy: what a later operation writes into x is not in them."""
    index = concentrated()
    model, plain = layer(index)
    x = inputs(6, IN)
    z, wanted = model(x), plain(x.clone())
    x.zero_()
    z.sum().backward()
    wanted.sum().backward()
    torch.testing.assert_close(model[0].values.grad, plain[0].weight.grad.gather(1, index))


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), lambda m: m.to("cpu")]
)
def test_copies_train_alike(copied, selection):
    model, _ = layer(SELECTIONS[selection]())
    twin, x = copied(model), inputs(6, IN)
    found = gradients(twin, x)[1].clone()
    model.zero_grad()
    assert torch.equal(found, gradients(model, x)[1])


def test_precision_may_change_after_attach():
    index = concentrated()
    model, plain = layer(index)
    found = gradients(model.double(), inputs(6, IN).double())[1]
    assert found.dtype == torch.float64
    assert model[0].columns.dtype == model[0].local.dtype == torch.int64
    torch.testing.assert_close(
        found, gradients(plain.double(), inputs(6, IN).double())[1].gather(1, index)
    )


def test_attach_inside_inference_mode_then_train():
    model = nn.Sequential(nn.Linear(IN, OUT))
    plain = copy.deepcopy(model)
    with torch.inference_mode():
        attach(model, {"0": concentrated()})
        assert torch.equal(model(inputs(6, IN)), plain(inputs(6, IN)))
    found, wanted = (gradients(m, inputs(6, IN))[1] for m in (model, plain))
    torch.testing.assert_close(found, wanted.gather(1, concentrated()))


def test_state_dict_and_detached_layer_know_no_columns():
    model, plain = layer(concentrated())
    assert model.state_dict().keys() == plain.state_dict().keys() | {"0.values"}
    detach(model)
    assert vars(model[0]).keys() == vars(plain[0]).keys()
    assert not model[0]._buffers
    assert not model[0]._non_persistent_buffers_set


def test_columns_and_local():
    index = torch.tensor([[3, 9], [0, 3], [3, 9]])
    columns, local = columns_and_local(index, 10)
    assert columns.tolist() == [0, 3, 9]
    assert local.tolist() == [[1, 2], [0, 1], [1, 2]]
    whole, same = columns_and_local(index, 5)  # three of five
    assert whole is None
    assert same is index
    assert columns_and_local(index, int(3 / KEEP_COLUMNS_UP_TO))[0] is not None


def test_a_block_is_freed_of_its_layers_inputs():
    """Of a token's D + D + D + 4 D inputs, attention keeps its output; 2 columns of four layers
    come instead.
    """
    D, T, held = 32, 18, {}
    for used in (2, 4 * D):  # inputs that each layer uses, at most
        block = timm.models.vision_transformer.Block(D, num_heads=2)
        layers = {name: m for name, m in block.named_modules() if isinstance(m, nn.Linear)}
        attach(
            block,
            {
                name: torch.arange(m.in_features).repeat(m.out_features, 1)[:, :used]
                for name, m in layers.items()
            },
        )
        assert len(sparse_layers(block)) == 4
        with Saved(block) as saved:
            block(inputs(2, T // 2, D).requires_grad_())
        held[used] = saved.floats()
    assert held[4 * D] - held[2] >= T * (6 * D - 4 * 2)
