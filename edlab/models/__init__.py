"""Models: where they come from, what weights they have, and what they cost."""

from edlab.models.factories import RegisteredModel, register_model, registered
from edlab.models.loading import load

__all__ = ["RegisteredModel", "load", "register_model", "registered"]
