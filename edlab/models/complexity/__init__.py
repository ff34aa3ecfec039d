"""Multiply-accumulates and parameters: one counter for each framework or file format."""

from edlab.models.complexity.keras import count_keras
from edlab.models.complexity.torch import count_torch

__all__ = ["count_keras", "count_torch"]
