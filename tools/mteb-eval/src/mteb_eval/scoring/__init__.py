"""What figures mean: metrics, intervals, tests, contamination and the quality gate.

Order, lowest first: metrics · task_result · observation, comparison, contamination ·
quality_gate, measures.
"""
