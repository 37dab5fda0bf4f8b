"""Code that goes another way for other inputs: what it may do there must fit the cut network too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prunetune import prune
from prunetune.testing.oracle import largest_error, randomise


class Rescaled(nn.Module):
    """Two layers with scales between them, which are made anew for large inputs, as dynamic rotary embeddings are."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.width = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 2), 8
        self.register_buffer("scales", torch.arange(8.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.abs().max() > 100:
            self.scales = torch.linspace(0, 1, int(self.c.weight.shape[0]) * 4, dtype=x.dtype)
        return self.c(self.b(self.a(x) * self.scales).relu())


def test_a_buffer_that_is_made_anew_for_other_inputs_stays() -> None:
    model, x = randomise(Rescaled(), 0), torch.randn(3, 4, dtype=torch.float64)
    result = prune(model, x, scorer="random", ratio=0.5)
    assert set(result.plan.tensors) == {"b.weight", "b.bias", "c.weight"}
    assert any("its module decides by values" in f.reason and f.channels == 8 for f in result.frozen)
    assert largest_error(model, result.model, result.plan, x) < 1e-12
    assert largest_error(model, result.model, result.plan, 1000 * x) < 1e-12


@pytest.mark.filterwarnings("ignore")
def test_rotary_embeddings_for_longer_texts_than_the_example() -> None:
    """Whole heads go, as the frequencies are computed from the configuration beyond the trained length."""
    import transformers

    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=16,
        rope_parameters=rope,
    )
    model = transformers.LlamaForCausalLM(config)
    result = prune(model, {"input_ids": torch.randint(0, 64, (2, 8)), "use_cache": False}, scorer="random", ratio=0.5)
    assert result.plan.tensors["model.layers.0.self_attn.q_proj.weight"].shape_after == (16, 16)
    for length in (8, 24):
        assert result.model.eval()(torch.randint(0, 64, (2, length))).logits.shape == (2, length, 64)
