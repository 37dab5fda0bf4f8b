"""`Trainer.hyperparameter_search` of transformers on a checkpoint, on the proxy: `python examples/trainer_search.py`.

Lines marked with a number are prunetune's; without them it is an ordinary script. `pip install 'prunetune[vision]'
transformers accelerate`.
"""

import sys
import tempfile

import optuna
import torch
from train_digits import IMAGES, LABELS
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

import prunetune

FOLDER = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()
SIZES = {"image_size": 8, "patch_size": 4, "num_channels": 1, "num_labels": 5}
CONFIG = ViTConfig(hidden_size=64, intermediate_size=128, num_attention_heads=4, num_hidden_layers=4, **SIZES)
QUIET = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True, "logging_strategy": "no"}


def rows(digits):
    """The images of these digits, the label of the first being 0."""
    return [
        {"pixel_values": image, "labels": digits.index(label)}
        for image, label in zip(IMAGES, LABELS.tolist(), strict=True)
        if label in digits
    ]


def pretrain():
    """A checkpoint in the folder, as `from_pretrained` takes it: of a network that knows 0 to 4."""
    torch.manual_seed(0)
    options = TrainingArguments(FOLDER, learning_rate=2e-3, num_train_epochs=8, per_device_train_batch_size=32, **QUIET)
    trainer = Trainer(ViTForImageClassification(CONFIG), options, train_dataset=rows([0, 1, 2, 3, 4]))
    trainer.train()
    trainer.save_model()


def build():
    model = ViTForImageClassification.from_pretrained(FOLDER)
    torch.nn.init.normal_(model.classifier.weight, std=0.02)  # a head of its own for 5 to 9
    return model


def space(trial):
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-4, 1e-1, log=True),
    }


pretrain()
rows_of_task = rows([5, 6, 7, 8, 9])
images = torch.stack([row["pixel_values"] for row in rows_of_task[:64]])
pruning = prunetune.Pruning(flops=0.25, depth=True, optimizers="adam")  # 1
build_proxy = prunetune.proxy_of(build, {"pixel_values": images}, pruning)  # 2
trainer = Trainer(
    args=TrainingArguments(FOLDER, num_train_epochs=2, per_device_train_batch_size=32, eval_strategy="epoch", **QUIET),
    model_init=build_proxy,  # 3: it was build
    train_dataset=rows_of_task[:700],
    eval_dataset=rows_of_task[700:],
    compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(1) == p.label_ids).mean())},
)
best = trainer.hyperparameter_search(
    space, lambda metrics: metrics["eval_accuracy"], 3, "maximize", sampler=optuna.samplers.TPESampler(seed=0)
)
for name, value in best.hyperparameters.items():
    setattr(trainer.args, name, value)
trainer.model_init = build  # 4: what was found is for the full network
trainer.train()
print(f"best on the full network: {best.hyperparameters}, accuracy {trainer.evaluate()['eval_accuracy']:.3f}")
