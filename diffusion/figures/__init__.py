"""Figures: functions from arrays to pictures; arrays/ makes the arrays, catalogue names the figures."""
