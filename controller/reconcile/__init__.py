"""Level-triggered reconciliation: from what jobs want and what is, to guarded writes."""

from controller.reconcile.diff import diff
from controller.reconcile.explain import explain
from controller.reconcile.preview import describe_plan
from controller.reconcile.reconciler import Reconciler
from controller.reconcile.settings import ReconcileSettings

__all__ = ["ReconcileSettings", "Reconciler", "describe_plan", "diff", "explain"]
