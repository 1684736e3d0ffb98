"""The paper's optimizers and its baselines as torch optimizers, with schedules and averages for any torch optimizer."""

from .adadelta import AdaDelta
from .adagrad import AdaGrad
from .adam import Adam
from .adamax import AdaMax, LpAdam
from .averaging import ExponentialAverage, PolyakRuppert
from .optimizer import RuleOptimizer
from .rmsprop import RMSProp
from .schedules import Exponential, InverseSqrt
from .sfo import SFO, MinibatchChooser, chooses_minibatches
from .sgd_nesterov import SGDNesterov

__all__ = [
    "SFO",
    "AdaDelta",
    "AdaGrad",
    "AdaMax",
    "Adam",
    "Exponential",
    "ExponentialAverage",
    "InverseSqrt",
    "LpAdam",
    "MinibatchChooser",
    "PolyakRuppert",
    "RMSProp",
    "RuleOptimizer",
    "SGDNesterov",
    "chooses_minibatches",
]
