"""What else does the model tell about the people in its data: a hidden attribute, the look of a class."""

from .inference import AttributeInference
from .inversion import ModelInversion

__all__ = ["AttributeInference", "ModelInversion"]
