"""Models: their sources, their weights and their cost."""

from edlab.models.factories import RegisteredModel, register_model, registered
from edlab.models.loading import load
from edlab.models.network import Network, Weights
from edlab.models.origins import ORIGINS, Origin

__all__ = ["ORIGINS", "Network", "Origin", "RegisteredModel", "Weights", "load", "register_model", "registered"]
