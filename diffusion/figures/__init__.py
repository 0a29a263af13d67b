"""Figures from arrays. figure_data/ makes the arrays, edits.py edits images, catalogue.py names all figures."""
