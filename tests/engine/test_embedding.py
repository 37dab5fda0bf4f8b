"""The engine as other tools use it: choosing by name, plans that are kept and joined, checkpoints and optimizers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import networkx
import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from prunetune import prune
from prunetune.engine import (
    DependencyGraph,
    PruningPlan,
    apply,
    by_hand,
    by_percentile,
    by_ratio,
    carry_optimizer,
    cut_state_dict,
    draw,
    groups_of,
)
from prunetune.errors import InputError, PlanError
from prunetune.testing.oracle import randomise

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Small(nn.Module):
    """Two convolutions on a residual, one beside it, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.Conv2d(12, 8, 3, padding=1))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((x + self.block(x)).mean((2, 3)))


MODEL = randomise(Small(), 0)
GRAPH = DependencyGraph.of(MODEL, X)


def widths(model: nn.Module) -> dict[str, int]:
    return {name: len(p) for name, p in model.named_parameters() if name.endswith("weight") and p.ndim > 1}


def cut(mask: np.ndarray) -> dict[str, int]:
    return widths(apply(PruningPlan.of(GRAPH, mask), MODEL))


# -- by name -----------------------------------------------------------------------------------------------------------


def test_a_ratio_for_each_layer() -> None:
    def shares(ratio: Any, **options: Any) -> dict[str, int]:
        return widths(prune(MODEL, X, scorer="random", ratio=ratio, **options).model)

    assert shares({"block.0": 0.25}) == {"stem.weight": 8, "block.0.weight": 3, "block.2.weight": 8, "head.weight": 5}
    # The first pattern that means a layer with the group as its outputs decides; the residual has two.
    assert shares({"block": 0.75, "*": 0.5})["stem.weight"] == 6
    assert shares({"stem": 0.5, "block": 0.75}) == {
        "stem.weight": 4,
        "block.0.weight": 9,
        "block.2.weight": 4,
        "head.weight": 5,
    }


def test_protected_layers_keep_inputs_and_outputs() -> None:
    assert widths(prune(MODEL, X, scorer="random", ratio=0.25, protect=["block.2"]).model) == widths(MODEL)
    assert widths(prune(MODEL, X, scorer="random", ratio=0.25, protect=["head"]).model)["block.0.weight"] == 3
    # With a percentile the pool is what may go: nine of twelve units are under the 75th percentile.
    result = prune(MODEL, X, scorer="magnitude", percentile=75, floor=0.01, protect=["stem"])
    assert widths(result.model) == {"stem.weight": 8, "block.0.weight": 3, "block.2.weight": 8, "head.weight": 5}


def test_multiples_are_of_channels_and_not_of_units() -> None:
    model = torchvision.models.resnext50_32x4d(weights=None)
    x = torch.randn(2, 3, 64, 64)
    for ratio in (0.3, 0.55):
        for name, after in widths(prune(model, x, scorer="random", ratio=ratio, multiple_of=8).model).items():
            assert after % 8 == 0, (name, after)
    pruned = widths(prune(MODEL, X, scorer="random", ratio=0.6, multiple_of=4).model)
    assert pruned == {"stem.weight": 4, "block.0.weight": 8, "block.2.weight": 4, "head.weight": 5}  # of 4.8 and 7.2
    assert widths(prune(MODEL, X, scorer="random", ratio=0.1, multiple_of=64).model) == widths(MODEL)  # too few to cut


def test_whole_heads_or_dimensions_of_heads() -> None:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    model = nn.Sequential(nn.Linear(8, 32), layer, nn.Linear(32, 3))
    x = torch.randn(2, 5, 8)
    dims = prune(model, x, scorer="random", ratio=0.5, heads="dims").model[1].self_attn
    whole = prune(model, x, scorer="random", ratio=0.5, heads="whole").model[1].self_attn
    assert (dims.num_heads, dims.head_dim) == (4, 4)
    assert (whole.num_heads, whole.head_dim) == (2, 8)


def test_by_hand() -> None:
    assert cut(by_hand(GRAPH, remove={"stem": [0, 7], "block.0.weight": [1]})) == {
        "stem.weight": 6,
        "block.0.weight": 11,
        "block.2.weight": 6,
        "head.weight": 5,
    }
    result = apply(PruningPlan.of(GRAPH, by_hand(GRAPH, keep={"block.0": [2, 5]})), MODEL)
    assert torch.equal(result.block[0].weight, MODEL.block[0].weight[[2, 5]])
    assert torch.equal(result.stem.weight, MODEL.stem.weight)
    norms = MODEL.block[0].weight.detach().flatten(1).norm(dim=1)
    mask = norms > norms.median()
    result = apply(PruningPlan.of(GRAPH, by_hand(GRAPH, keep={"block.0": mask})), MODEL)
    assert torch.equal(result.block[0].weight, MODEL.block[0].weight[mask])
    # Two layers on a residual: what either keeps by name stays.
    both = by_hand(GRAPH, keep={"stem": [0, 1], "block.2": [1, 2]})
    assert cut(both)["stem.weight"] == 3
    assert np.array_equal(by_hand(GRAPH, remove={"block.0": ~mask}), by_hand(GRAPH, keep={"block.0": mask}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give either remove or keep"),
        ({"remove": {"stem": [1]}, "keep": {"stem": [1]}}, "give either remove or keep"),
        ({"remove": {"steam": [1]}}, "unknown layer 'steam' (did you mean 'stem'?)"),
        ({"remove": {"stem": [8]}}, "stem has no channel 8; its 8 channels are numbered from 0 to 7"),
        ({"remove": {"stem": [True, False]}}, "the mask of stem has shape (2,); it needs (8,)"),
        ({"remove": {"stem": [0.5]}}, "the channels of stem must be whole numbers or a mask; got [0.5]"),
        ({"remove": {"head": [0]}}, "no output channels of head can be removed: output: it is the model's output"),
    ],
)
def test_by_hand_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        by_hand(GRAPH, **arguments)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": {"stem": 0.5, "blok": 0.5}}, "unknown layer in ratio: 'blok'"),
        ({"ratio": {"stem": 1.5}}, "ratio is {'stem': 1.5}, but it must be a number above 0 and at most 1"),
        ({"ratio": 0.5, "protect": ["stm"]}, "unknown layer in protect: 'stm' (did you mean 'stem'?)"),
        ({"ratio": 0.5, "protect": "stem"}, "protect is 'stem', but it must be a list"),
        ({"ratio": 0.5, "multiple_of": 0}, "multiple_of is 0, but it must be a whole number of at least 1"),
        ({"ratio": 0.5, "heads": "some"}, "heads is 'some', but it must be 'auto', 'dims' or 'whole'"),
    ],
)
def test_prune_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        prune(MODEL, X, scorer="random", **options)
    assert message in str(error.value)


def test_nothing_left_by_hand_is_refused() -> None:
    with pytest.raises(PlanError, match=r"leaves nothing of block\.0"):
        PruningPlan.of(GRAPH, by_hand(GRAPH, remove={"block.0": range(12)}))


# -- looking at it -----------------------------------------------------------------------------------------------------


def test_the_groups_of_a_layer() -> None:
    assert [g.name for g in groups_of(GRAPH, "stem")] == ["stem"]
    assert [g.name for g in groups_of(GRAPH, "block.2")] == ["stem", "block.0"]
    with pytest.raises(InputError, match="did you mean 'stem'"):
        groups_of(GRAPH, "sten")
    lines = GRAPH.summary().splitlines()
    assert [line.split() for line in lines[:2]] == [
        ["stem", "8", "units", "stem.weight,", "block.2.weight"],
        ["block.0", "12", "units", "block.0.weight"],
    ]
    assert lines[2] == "frozen  5 channels: output: it is the model's output"


def test_drawings(tmp_path: Path) -> None:
    for suffix in ("svg", "graphml", "json"):
        draw(GRAPH, tmp_path / f"groups.{suffix}")
    picture = ElementTree.parse(tmp_path / "groups.svg").getroot()
    name = "{http://www.w3.org/2000/svg}"
    assert [t.text for t in picture.iter(f"{name}text")] == [
        *("stem.weight 8x3x3x3", "block.0.weight 12x8x3x3", "block.2.weight 8x12x3x3", "head.weight 5x8"),
    ]
    # Of the residual: made by stem and block.2, read by block.0 and the head; of the block: made and read once.
    fills = [c.get("fill") == "#ffffff" for c in picture.iter(f"{name}circle")]
    assert (fills.count(False), fills.count(True)) == (3, 3)
    graph = GRAPH.networkx()
    graphml = networkx.read_graphml(tmp_path / "groups.graphml")
    data = json.loads((tmp_path / "groups.json").read_text())
    for other in (graphml, networkx.node_link_graph(data, edges="edges")):
        assert set(other.nodes) == set(graph.nodes)
        assert {frozenset(e) for e in other.edges} == {frozenset(e) for e in graph.edges}
    with pytest.raises(InputError, match=r"must end with one of \.svg, \.graphml, \.json"):
        draw(GRAPH, tmp_path / "groups.png")
    with pytest.raises(InputError, match="cannot write"):
        draw(GRAPH, tmp_path / "nowhere" / "groups.svg")


# -- plans -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x1_0", "swin_t"])
def test_two_plans_in_one(name: str) -> None:
    model = torchvision.models.get_model(name, weights=None, num_classes=10)
    x = torch.randn(2, 3, 64, 64)
    first = prune(model, x, scorer="random", ratio=0.7)
    second = prune(first.model, x, scorer="random", ratio=0.6, seed=1)
    both = apply(first.plan.then(second.plan), model)
    expected = second.model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in both.state_dict().items())
    assert torch.equal(both.eval()(x), second.model.eval()(x))


def test_plans_that_do_not_follow_each_other() -> None:
    plan = PruningPlan.of(GRAPH, by_hand(GRAPH, remove={"stem": [0]}))
    with pytest.raises(PlanError, match=r"does not follow the first: \S+ has shape"):
        plan.then(plan)


def test_a_checkpoint_of_modules_that_ask_for_the_version_of_their_format() -> None:
    """As torchvision's MNASNet does, which without one raises ValueError."""
    model, images = torchvision.models.mnasnet0_5(num_classes=2), torch.randn(2, 3, 32, 32)
    plan = prune(model, images, scorer="magnitude", ratio=0.5).plan
    smaller = apply(plan, torchvision.models.mnasnet0_5(num_classes=2))
    smaller.load_state_dict(cut_state_dict(plan, model.state_dict()))
    assert torch.equal(smaller.eval()(images), apply(plan, model).eval()(images))


def test_a_plan_for_a_fresh_model_and_its_checkpoint(tmp_path: Path) -> None:
    plan = PruningPlan.of(GRAPH, by_hand(GRAPH, remove={"stem": [0, 3], "block.0": [5]}))
    plan.save(tmp_path / "plan.json")
    torch.save(MODEL.state_dict(), tmp_path / "full.pt")

    loaded = PruningPlan.load(tmp_path / "plan.json")
    smaller = apply(loaded, Small().double())
    smaller.load_state_dict(cut_state_dict(loaded, torch.load(tmp_path / "full.pt")))
    assert torch.equal(smaller.eval()(X), apply(plan, MODEL)(X))
    with pytest.raises(PlanError, match="cannot read a pruning plan from"):
        PruningPlan.load(tmp_path / "other.json")
    with pytest.raises(PlanError, match="it cuts stem.weight, which is not there"):
        cut_state_dict(loaded, {})
    with pytest.raises(PlanError, match=r"stem.weight has shape \(6, 3, 3, 3\)"):
        cut_state_dict(loaded, smaller.state_dict())


class Scaled(nn.Module):
    """A layer with one buffer that is saved and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 6), nn.Linear(6, 2)
        self.register_buffer("saved", torch.arange(6.0))
        self.register_buffer("made", torch.arange(6.0) + 1, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x) * self.made + self.saved)


def test_a_checkpoint_does_not_hold_buffers_that_are_not_saved() -> None:
    model, x = Scaled(), torch.randn(4, 3)
    graph = DependencyGraph.of(model, x)
    plan = PruningPlan.of(graph, by_hand(graph, remove={"a": [0, 4]}))
    assert plan.tensors["made"].keep == {0: (1, 2, 3, 5)} and not plan.tensors["made"].persistent
    plan = PruningPlan.from_json(plan.to_json()).then(PruningPlan({}, {}))
    state = cut_state_dict(plan, model.state_dict())
    assert set(state) == set(model.state_dict())
    smaller = apply(plan, Scaled())
    smaller.load_state_dict(state)
    assert torch.equal(smaller(x), apply(plan, model)(x))
    with pytest.raises(PlanError, match="it cuts saved, which is not there"):
        cut_state_dict(plan, {k: v for k, v in model.state_dict().items() if k != "saved"})


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_of_a_language_model_with_rotary_embeddings() -> None:
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4
    )
    model, tokens = transformers.LlamaForCausalLM(config), {"input_ids": torch.randint(0, 64, (1, 5))}
    plan = prune(model, tokens, scorer="magnitude", ratio=0.5).plan
    fresh = apply(plan, transformers.LlamaForCausalLM(config))
    fresh.load_state_dict(cut_state_dict(plan, model.state_dict()))
    expected = apply(plan, model).eval()(**tokens).logits
    assert torch.equal(fresh.eval()(**tokens).logits, expected)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 6)
        self.inner = nn.Linear(6, 6)
        self.out = nn.Linear(6, 10, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.inner(self.embed(tokens)) + self.embed(tokens))


def test_a_checkpoint_with_tied_weights() -> None:
    model, tokens = Tied(), torch.arange(10)[None]
    result = prune(model, tokens, scorer="magnitude", ratio=0.5)
    state = cut_state_dict(result.plan, model.state_dict())
    assert set(state) == set(model.state_dict())
    again = apply(result.plan, Tied())
    again.load_state_dict(state)
    assert torch.equal(again(tokens), result.model(tokens))


# -- optimizers --------------------------------------------------------------------------------------------------------

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda groups: torch.optim.Adam(groups, lr=0.01, amsgrad=True),
    "AdamW": lambda groups: torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1),
    "RMSprop": lambda groups: torch.optim.RMSprop(groups, lr=0.01, momentum=0.5, centered=True),
    "Adagrad": lambda groups: torch.optim.Adagrad(groups, lr=0.01),
    "Adamax": lambda groups: torch.optim.Adamax(groups, lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizers_state_goes_along(name: str) -> None:
    """These optimizers treat every weight for itself: a step after the cut is the cut of a step without it."""
    model = randomise(Small(), 1)
    weights = [p for n, p in model.named_parameters() if n.endswith("weight")]
    biases = [p for n, p in model.named_parameters() if n.endswith("bias")]
    optimizer = OPTIMIZERS[name]([{"params": biases, "weight_decay": 0.0, "lr": 0.02}, {"params": weights}])
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)  # wraps `step`, and writes to the groups
    for _ in range(3):
        optimizer.zero_grad()
        model(X).sigmoid().mean().backward()
        optimizer.step()
        scheduler.step()
    plan = PruningPlan.of(GRAPH, by_hand(GRAPH, remove={"stem": [0, 3], "block.0": [5]}))
    smaller = apply(plan, model)
    carried = carry_optimizer(plan, optimizer, model, smaller)
    assert type(carried) is type(optimizer)
    assert [g["lr"] for g in carried.param_groups] == [g["lr"] for g in optimizer.param_groups]
    model(X).sigmoid().mean().backward()
    gradients = {n: p.grad for n, p in model.named_parameters()}
    for n, p in smaller.named_parameters():
        gradient = gradients[n]
        for dim, kept in plan.tensors[n].keep.items() if n in plan.tensors else ():
            gradient = gradient.index_select(dim, torch.tensor(kept))
        p.grad = gradient.clone()
    optimizer.step()
    carried.step()
    expected = apply(plan, model)
    for (n, p), q in zip(smaller.named_parameters(), expected.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=0, atol=1e-15), n


def test_optimizers_that_cannot_go_along() -> None:
    plan = PruningPlan.of(GRAPH, by_hand(GRAPH, remove={"stem": [0, 3]}))
    smaller = apply(plan, MODEL)
    with pytest.raises(InputError, match="holds a parameter of shape"):
        carry_optimizer(plan, torch.optim.SGD(nn.Linear(3, 4).parameters(), lr=1), MODEL, smaller)
    model = randomise(Small(), 1)
    lbfgs = torch.optim.LBFGS(model.parameters())
    model(X).sigmoid().mean().backward()
    lbfgs.step(lambda: model(X).sigmoid().mean())
    with pytest.raises(InputError, match="make a new optimizer"):
        carry_optimizer(plan, lbfgs, model, apply(plan, model))


def test_masks_of_all_kinds_fit_each_other() -> None:
    scores = np.arange(GRAPH.unit_count + 1, dtype=float)
    every = by_ratio(GRAPH, scores, ratio=1.0)
    assert every.all()
    assert by_percentile(GRAPH, scores, percentile=0, floor=0.1).all()
    assert np.array_equal(by_ratio(GRAPH, scores, ratio={"*": 0.5}), by_ratio(GRAPH, scores, ratio=0.5))
