"""The paper's optimizers and those it compares with, as torch optimizers; schedules and averages for any of them."""

from optim.adadelta import AdaDelta
from optim.adagrad import AdaGrad
from optim.adam import Adam
from optim.adamax import AdaMax, LpAdam
from optim.averaging import ExponentialAverage, PolyakRuppert
from optim.optimizer import RuleOptimizer
from optim.rmsprop import RMSProp
from optim.schedules import Exponential, InverseSqrt
from optim.sfo import SFO, chooses_minibatches
from optim.sgd_nesterov import SGDNesterov

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
    "PolyakRuppert",
    "RMSProp",
    "RuleOptimizer",
    "SGDNesterov",
    "chooses_minibatches",
]
