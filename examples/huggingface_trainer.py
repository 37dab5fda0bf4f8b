"""Trainer.hyperparameter_search on the proxy: `python examples/huggingface_trainer.py`. Two lines are prunetune's.

`pip install 'prunetune[vision]' transformers accelerate`.
"""

import tempfile

from optuna.samplers import TPESampler
from train_digits import IMAGES, LABELS
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

import prunetune

SIZES = {"image_size": 8, "patch_size": 2, "num_channels": 1, "num_labels": 10}
CONFIG = ViTConfig(hidden_size=64, intermediate_size=128, num_attention_heads=4, num_hidden_layers=2, **SIZES)
ROWS = [{"pixel_values": image, "labels": label} for image, label in zip(IMAGES, LABELS, strict=True)]


def build():
    return ViTForImageClassification(CONFIG)  # or from_pretrained, with Pruning(weights="sliced") below


build_proxy = prunetune.proxy_of(build, {"pixel_values": IMAGES[:64]}, prunetune.Pruning(ratio=0.5))  # the first line

if __name__ == "__main__":
    quiet = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    options = TrainingArguments(tempfile.mkdtemp(), num_train_epochs=4, per_device_train_batch_size=32, **quiet)
    trainer = Trainer(
        args=options, train_dataset=ROWS[:1400], eval_dataset=ROWS[1400:],
        model_init=lambda trial: build_proxy(),  # the second line: it was build()
        compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(1) == p.label_ids).mean())},
    )  # fmt: skip
    best = trainer.hyperparameter_search(
        hp_space=lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 1e-3, 1e-2, log=True)},
        compute_objective=lambda metrics: metrics["eval_accuracy"], direction="maximize", n_trials=2,
        sampler=TPESampler(seed=0),
    )  # fmt: skip
    print(f"best on the proxy: {best.hyperparameters}, accuracy {best.objective:.3f}")
