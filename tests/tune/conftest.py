"""Runs of fletching-tune whose heavy programs are replaced: see tests/support/tune_fakes.py."""

from tune_fakes import faq, finished, finished_run, programs, tune

__all__ = ["faq", "finished", "finished_run", "programs", "tune"]
