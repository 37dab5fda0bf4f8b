"""LoRA of a checkpoint, its rank, alpha and learning rate found on a cut network: `python examples/lora.py [FOLDER]`.

Lines that end in a number are what prunetune needs; without them it is an ordinary script. `pip install
'prunetune[transformers]' peft`.
"""

import inspect
import json
import sys
import tempfile
import textwrap

import peft
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

import prunetune

FOLDER, PIECE = tempfile.mkdtemp(), 48
CONFIG = Qwen3Config(
    vocab_size=128, hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, use_cache=False, bos_token_id=0, eos_token_id=0, pad_token_id=0,
)  # fmt: skip


def pieces(*modules):
    """(pieces, 48): the source of modules of Python's own, character by character."""
    text = "".join(map(inspect.getsource, modules)).encode("ascii", "ignore")
    return torch.tensor(list(text[: len(text) // PIECE * PIECE])).view(-1, PIECE)


def fit(model, texts, learning_rate, told=lambda epoch: None, epochs=1):
    adam = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], learning_rate)
    for epoch in range(1, epochs + 1):
        model.train()
        for batch in texts[torch.randperm(len(texts))].split(16):
            adam.zero_grad()
            model(input_ids=batch, labels=batch).loss.backward()
            adam.step()
        told(epoch)


@torch.no_grad()
def loss(model, texts):
    return model.eval()(input_ids=texts, labels=texts).loss.item()


def pretrain():
    """A checkpoint in the folder, as `from_pretrained` takes it."""
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(CONFIG)
    fit(model, pieces(textwrap, inspect)[:1200], 3e-3)
    model.save_pretrained(FOLDER)


def build():
    return Qwen3ForCausalLM.from_pretrained(FOLDER)


def train(model, params, report):  # 1: these arguments
    lora = peft.LoraConfig(r=params["rank"], lora_alpha=params["alpha"], target_modules="all-linear")
    adapted = peft.get_peft_model(model, lora)
    told = lambda epoch: report(loss(adapted, HELD_BACK), epoch)  # noqa: E731  # 2
    fit(adapted, TEXTS, params["learning_rate"], told, report.epochs)  # 3: so many epochs
    score = loss(adapted, HELD_BACK)
    adapted.merge_and_unload()  # 4: in place, so that weights are kept by the names of the full network
    return score


pretrain()
TEXTS = pieces(json.decoder, json.encoder)
TEXTS, HELD_BACK = TEXTS[: 9 * len(TEXTS) // 10], TEXTS[9 * len(TEXTS) // 10 :]
space = {
    "rank": prunetune.Categorical([2, 4, 8]),  # 5
    "alpha": prunetune.Categorical([8, 16, 32]),  # 6
    "learning_rate": prunetune.Float(1e-4, 3e-2, log=True),  # 7
}
# Blocks are bypassed, and none is narrowed (floor): adapters of any rank are as on the full network, and so is their
# rate (identity).
pruning = prunetune.Pruning(flops=0.6, depth=True, floor=1.0, transfer="identity")  # 8
ladder = prunetune.Ladder(prunetune.Rung(width=None, trials=4, keep=1), prunetune.Rung())  # 9
search = prunetune.Search(direction="minimize")  # 10
asked = {"pruning": pruning, "ladder": ladder, "search": search, "epochs": 2}  # 11
inputs = {"input_ids": TEXTS[:16]}  # 12
folder = sys.argv[1] if len(sys.argv) > 1 else "runs/lora"
print(f"before: {loss(build(), HELD_BACK):.3f} nats a character")
result = prunetune.tune(build, train, space, example_inputs=inputs, run_dir=folder, **asked)  # 13
print(f"best on the full network: {result.params}, {result.score:.3f} nats a character")
