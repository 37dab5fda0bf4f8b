"""Built-in jobs: train functions for those who bring no training loop of their own."""

from __future__ import annotations

from prunetune.training.execution import Execution
from prunetune.training.image_classification import Hyperparameters, ImageClassification

__all__ = ["Execution", "Hyperparameters", "ImageClassification"]
