"""Figures: functions from arrays to pictures; figure_data/ makes the arrays, catalogue names the figures."""
