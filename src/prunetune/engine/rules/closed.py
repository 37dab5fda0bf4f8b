"""What runs code that nobody can look into: it is left whole, and what it reads stays as it is."""

from __future__ import annotations

from typing import Any

import torch

from prunetune.engine.labels import tensors_in
from prunetune.engine.rules.context import RuleContext
from prunetune.engine.rules.sizes import hidden_tensor
from prunetune.engine.rules.table import rule


@rule(torch.jit.ScriptModule)
def scripted(ctx: RuleContext, *args: Any, **kwargs: Any) -> Any:
    ctx.freeze_all(list(tensors_in((*args, kwargs))), "it is TorchScript, whose code is closed")
    return ctx.fixed()


@rule(torch.autograd.grad)
def gradient(ctx: RuleContext, *args: Any, **kwargs: Any) -> Any:
    """All that was computed before may be behind a gradient."""
    return hidden_tensor(ctx)
