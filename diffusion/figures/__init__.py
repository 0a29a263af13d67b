"""Figures from arrays: figure_data/ makes the arrays, edit_images_with_run.py edits, catalogue.py names all figures."""
