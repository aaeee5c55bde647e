"""Models of runs, used where there is nothing but the run folder or an export: predictions, and the exports."""

from fedray.predict.loaded import load
from fedray.predict.predictions import Predictions
from fedray.predict.predictor import Predictor

__all__ = ["Predictions", "Predictor", "load"]
