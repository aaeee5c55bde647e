"""Metrics: numbers of evaluations that are computed from sums over examples."""

from fedray.metrics.base import FunctionMetric, MeanMetric, Metric, metrics
from fedray.metrics.calibration import CalibrationError
from fedray.metrics.confusion import (
    F1,
    ConfusionMatrix,
    Dice,
    Jaccard,
    Kappa,
    MeanIoU,
    Precision,
    Recall,
    Sensitivity,
    Specificity,
)
from fedray.metrics.means import MAE, MSE, R2, RMSE, Accuracy, ExactMatch, Perplexity
from fedray.metrics.measures import Measures, measured
from fedray.metrics.ranking import AUROC, AveragePrecision
from fedray.metrics.sums import Counts
from fedray.metrics.torch_metric import TorchMetric

__all__ = [
    "AUROC",
    "F1",
    "MAE",
    "MSE",
    "R2",
    "RMSE",
    "Accuracy",
    "AveragePrecision",
    "CalibrationError",
    "ConfusionMatrix",
    "Counts",
    "Dice",
    "ExactMatch",
    "FunctionMetric",
    "Jaccard",
    "Kappa",
    "MeanIoU",
    "MeanMetric",
    "Measures",
    "Metric",
    "Perplexity",
    "Precision",
    "Recall",
    "Sensitivity",
    "Specificity",
    "TorchMetric",
    "measured",
    "metrics",
]
